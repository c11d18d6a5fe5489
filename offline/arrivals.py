"""When the server took in each event that it sent to the tables.

Beside a day's events lies which of them came through a server, and when. So a job knows what
the online store holds already, and what was known at an instant of the past: an event that came
late was not, whatever its own time says. An event of a file has no arrival: it counts as known
from its own time on, and the store does not hold it until it is materialised.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from feature_store.durable import flush
from feature_store.event_log import LoggedEvent
from feature_store.ids import hash64_many
from offline.ingest.tables import day_of

FOLDER: Final = "arrivals"
SCHEMA: Final = pl.Schema({"event": pl.UInt64(), "received_time": pl.Int64()})


def keep_arrivals(tables: Path, name: str, logged: Sequence[LoggedEvent]) -> None:
    """Note when these events came, durably; `name` tells this call's files from all others.

    The same name again replaces what was there.
    """
    days: dict[date, list[LoggedEvent]] = {}
    for one in logged:
        days.setdefault(day_of(one.event.event_time), []).append(one)
    for day, some in days.items():
        path = _folder(tables, day) / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        arrivals_of(some).write_parquet(draft)
        flush(draft)
        draft.rename(path)
        flush(path.parent)
    flush(tables / FOLDER)


def read_arrivals(tables: Path, day: date) -> pl.DataFrame:
    """Keys and arrivals (microseconds UTC) of a day's events, each event once."""
    paths = sorted(_folder(tables, day).glob("*.parquet"))
    if not paths:
        return pl.DataFrame(schema=SCHEMA)
    rows = pl.concat([pl.read_parquet(path) for path in paths])
    return rows.group_by("event").agg(pl.col("received_time").min())


def read_all_arrivals(tables: Path) -> pl.DataFrame:
    """As `read_arrivals`, of all days."""
    names = [path.name.removeprefix("day=") for path in sorted((tables / FOLDER).glob("day=*"))]
    return pl.concat(
        [pl.DataFrame(schema=SCHEMA)]
        + [read_arrivals(tables, date.fromisoformat(name)) for name in names]
    )


def arrivals_of(logged: Sequence[LoggedEvent]) -> pl.DataFrame:
    """Keys and arrivals of events that are still in a spool."""
    keys = hash64_many(one.event.event_id for one in logged)
    received = np.array([one.received_time for one in logged], np.int64)
    return pl.DataFrame({"event": keys, "received_time": received}, SCHEMA)


def _folder(tables: Path, day: date) -> Path:
    return tables / FOLDER / f"day={day.isoformat()}"
