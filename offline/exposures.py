"""The exposures on disk: what was shown to whom, and how likely each item was to be there.

One file a day, `exposures/day=2017-01-01/exposures.parquet` in the folder of the tables. It
knows their layout and merging, not where they come from.
"""

from collections.abc import Sequence
from dataclasses import astuple
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.durable import flush
from feature_store.events import Exposure
from offline.ingest.tables import TIME

EXPOSURES: Final = "exposures"
EXPOSURES_SCHEMA: Final = pl.Schema(
    {
        "attribution_token": pl.String(),
        "request_time": TIME,
        "user": pl.String(),
        "session": pl.String(),
        "placement": pl.String(),
        "items": pl.List(pl.String()),
        "corpora": pl.List(pl.String()),
        "propensities": pl.List(pl.Float32()),
        "model_version": pl.String(),
        "arm": pl.String(),
    }
)

_TOKEN: Final = "attribution_token"  # noqa: S105


def exposure_table(exposures: Sequence[Exposure]) -> pl.DataFrame:
    """Exposures as rows; a user, session or arm that is '' becomes null."""
    given = pl.Schema({**EXPOSURES_SCHEMA, "request_time": pl.Int64()})
    rows = pl.DataFrame([astuple(one) for one in exposures], given, orient="row")
    texts = pl.col("user", "session", "arm")
    return rows.with_columns(
        pl.col("request_time").cast(TIME),
        pl.when(texts != "").then(texts),
    )


def scan_exposures(root: Path) -> pl.LazyFrame:
    """All exposures; none when there is no table."""
    return _scan(sorted((root / EXPOSURES).glob("day=*/exposures.parquet")))


def merge_exposures(root: Path, given: pl.DataFrame, folder: Path) -> int:
    """Add what is new by its token, a day at a time, each file replaced whole; returns how many.

    Drafts are written in `folder`, on the same disk. What is added is flushed to the disk.
    """
    days = given.with_columns(pl.col("request_time").dt.date().alias("day"))
    groups = days.partition_by("day", as_dict=True, include_key=False)
    return sum(_merge_day(root, day, rows, folder) for (day,), rows in groups.items())


def _merge_day(root: Path, day: date, given: pl.DataFrame, folder: Path) -> int:
    path = root / EXPOSURES / f"day={day.isoformat()}" / "exposures.parquet"
    stored = _scan([path] if path.exists() else [])
    fresh = given.filter(pl.col(_TOKEN).is_first_distinct())
    fresh = fresh.join(stored.select(_TOKEN).collect(), on=_TOKEN, how="anti")
    if not fresh.is_empty():
        draft = folder / f"exposures-{day.isoformat()}.parquet"
        pl.concat([stored, fresh.lazy()]).sink_parquet(draft)
        flush(draft)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(path)
        for changed in (path.parent, path.parent.parent, root):
            flush(changed)
    return len(fresh)


def _scan(paths: list[Path]) -> pl.LazyFrame:
    if not paths:
        return pl.LazyFrame(schema=EXPOSURES_SCHEMA)
    return pl.scan_parquet(paths, schema=EXPOSURES_SCHEMA, hive_partitioning=False, glob=False)
