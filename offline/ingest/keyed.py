"""The second pass for tables that are one file with one row a key: products, users, promotions.

A later row replaces an earlier one of the same key, within the input and in the store, so
that a shop sends what changed. Quarantined rows are kept the same way, by their source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import Table
from offline.ingest.files import Source
from offline.ingest.rules import quarantine_schema
from offline.ingest.tables import QUARANTINE_FOLDER, scan_parts, scan_table

# A row in quarantine is known by the content of the file that it stood in.
_PLACE: Final = ["source", "fingerprint"]


@dataclass(frozen=True, slots=True)
class MergedTable:
    """A merged table in `path`, not yet published."""

    path: Path
    num_distinct: int
    num_new: int
    num_stored: int


def merge_table(root: Path, table: Table, parts: list[Path], folder: Path) -> MergedTable:
    """Merge accepted parts with the table stored in `root`, into `folder`."""
    key = list(table.key)
    given = scan_parts(parts, table).collect()
    distinct = given.unique(key, keep="last", maintain_order=True)
    stored = scan_table(root, table, optional=True).collect()
    kept = stored.join(distinct, on=key, how="anti")
    path = folder / f"{table.name}.parquet"
    pl.concat([kept, distinct]).sort(key).rechunk().write_parquet(path)
    num_stored = len(kept) + len(distinct)
    return MergedTable(path, len(distinct), num_stored - len(stored), num_stored)


def publish_quarantine(
    root: Path, table: Table, sources: Sequence[Source], parts: list[Path], folder: Path
) -> None:
    """Put the rejected parts in place of what earlier readings of the same sources rejected.

    Streams, so that even an input of bad rows alone passes in bounded memory.
    """
    target = quarantine_path(root, table)
    given = pl.scan_parquet(parts) if parts else pl.LazyFrame(schema=quarantine_schema(table))
    if target.exists():
        stored, places = pl.scan_parquet(target), _places(sources)
        if _content(stored.join(places, on=_PLACE, how="semi")) == _content(given):
            return
        kept = stored.join(places, on=_PLACE, how="anti", maintain_order="left")
        given = pl.concat([kept, given])
    elif not parts:
        return
    path = folder / f"quarantine-{table.name}.parquet"
    given.sink_parquet(path)
    target.parent.mkdir(exist_ok=True)
    path.replace(target)


def _places(sources: Sequence[Source]) -> pl.LazyFrame:
    rows = [(source.name, source.fingerprint) for source in sources]
    return pl.LazyFrame(rows, schema=dict.fromkeys(_PLACE, pl.String), orient="row")


def _content(rows: pl.LazyFrame) -> tuple[object, ...]:
    """The number of rows and what they hold, whatever their order."""
    total = rows.select(pl.len(), pl.struct(pl.all()).hash().sum().alias("hash"))
    return total.collect(engine="streaming").row(0)


def quarantine_path(root: Path, table: Table) -> Path:
    """Where the rows of a table that broke the schema lie."""
    return root / QUARANTINE_FOLDER / f"{table.name}.parquet"
