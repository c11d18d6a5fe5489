"""What event logs hold as canonical rows, and how they are put in place, for every kind of log.

It knows events and tables, and no spool and no stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.durable import flush
from feature_store.event_log import RefusedEvent
from feature_store.events import Event, to_row
from feature_store.schema import EVENTS
from offline.ingest.days import MergedDays, publish_days
from offline.ingest.files import Source
from offline.ingest.keyed import publish_quarantine, quarantine_path
from offline.ingest.rules import REASON, ROW_NUMBER, quarantine_schema
from offline.ingest.tables import TIME, day_folder, polars_schema

BATCH_ROWS: Final = 50_000
"""How many rows of a log are moved at a time."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What joined the tables, and how many old events left the logs."""

    num_events: int
    num_exposures: int
    num_refused: int
    num_trimmed: int


def event_table(events: Sequence[Event]) -> pl.DataFrame:
    """Events as canonical rows: what an event does not say is null."""
    given = pl.Schema({**polars_schema(EVENTS), "event_time": pl.Int64()})
    rows = pl.DataFrame([to_row(event) for event in events], given, orient="row")
    texts = pl.col(pl.String)
    return rows.with_columns(
        pl.col("event_time").cast(TIME),
        pl.when(texts != "").then(texts),
    )


def refused_table(worker: int, refused: Sequence[RefusedEvent]) -> pl.DataFrame:
    """Rows as in the quarantine of an ingestion; each is a source content of its own.

    So moving a row twice, after a crash, replaces it.
    """
    texts = event_table([]).cast(pl.String).schema
    rows = [["" if v is None else str(v) for v in to_row(one.event)] for one in refused]
    table = pl.DataFrame(rows, texts, orient="row").with_columns(
        pl.Series("source", [f"event log of worker {worker}"] * len(rows)),
        pl.Series("fingerprint", [f"{one.received_time}-{one.sequence}" for one in refused]),
        pl.Series(ROW_NUMBER, [one.sequence for one in refused]),
        pl.Series(REASON, [one.reason for one in refused]),
    )
    return table.select(quarantine_schema(EVENTS).names())


def publish(tables: Path, merged: MergedDays) -> None:
    """Put merged days in place: their content is on the disk before, their names are after."""
    for path in (merged.folder / EVENTS.name).rglob("*.parquet"):
        flush(path)
    publish_days(tables, merged)
    for day, num_new in merged.num_new.items():
        if num_new:
            flush(day_folder(tables, day))
    flush(tables / EVENTS.name)
    flush(tables)


def store_refused(tables: Path, rows: pl.DataFrame, part: Path) -> None:
    """Put rows of `refused_table` into the quarantine of the tables, flushed to the disk.

    `part` is the draft to write, on the same disk.
    """
    rows.write_parquet(part)
    places = rows.select("source", "fingerprint").iter_rows()
    sources = [Source(name, fingerprint, 1, rows.lazy()) for name, fingerprint in places]
    publish_quarantine(tables, EVENTS, sources, [part], part.parent)
    path = quarantine_path(tables, EVENTS)
    for changed in (path, path.parent, tables):
        flush(changed)
