"""The events of the tables, cut by user into files of a folder, in the memory of one table file."""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.schema import EVENTS
from offline.arrivals import read_arrivals
from offline.by_user import OWNER, Rows, num_files, rows_of, spread
from offline.ingest.tables import day_files, instant, scan_parts
from offline.progress import Progress
from offline.uncompacted import Merges, with_owner

Span = tuple[int | None, int | None]

COLUMNS = (
    "event_id", "event_time", "user", "session", "kind", "corpus", "item", "quantity", "price",
    "basket",
)  # fmt: skip


def num_events(tables: Path, days: Iterable[date]) -> int:
    """How many events these days hold, read from the files' footers."""
    paths = [path for day in days for path in day_files(tables, day)]
    return int(scan_parts(paths, EVENTS).select(pl.len()).collect().item())


def spread_days(
    tables: Path,
    days: list[date],
    folder: Path,
    merges: Merges,
    progress: Progress,
    *,
    span: Span = (None, None),
    users: pl.Series | None = None,
    applied: NDArray[np.uint64] | None = None,
    more: Iterable[Rows] = (),
) -> int:
    """Write what happened on these days into files by user; how many files.

    `span`: only from its start on and before its end (None: open). `users` (pseudonyms in
    hexadecimal): only theirs. `applied`: without these events, and without what came through a
    server. `more` are rows that no table holds.
    """
    total = num_events(tables, days)
    number = num_files(total)

    def parts() -> Iterator[Rows]:
        for day in days:
            for path in day_files(tables, day):
                rows = _read(path, merges, span, users)
                yield rows if applied is None else _without(rows, applied, tables, day)
        yield from more

    with progress.task("Cutting events by user", total) as advance:
        spread(parts(), folder, number, advance)
    return number


def _without(rows: Rows, applied: NDArray[np.uint64], tables: Path, day: date) -> Rows:
    arrived = read_arrivals(tables, day)["event"].to_numpy()
    return rows[~np.isin(rows["event"], np.concatenate((arrived, applied)))]


def _read(path: Path, merges: Merges, span: Span, users: pl.Series | None) -> Rows:
    start_time, end_time = span
    events = with_owner(scan_parts([path], EVENTS).select(COLUMNS), merges)
    if start_time is not None:
        events = events.filter(pl.col("event_time") >= instant(start_time))
    if end_time is not None:
        events = events.filter(pl.col("event_time") < instant(end_time))
    if users is not None:
        events = events.join(
            pl.LazyFrame({OWNER: users}), on=OWNER, how="semi", maintain_order="left"
        )
    return rows_of(events.collect())


def owners_of(tables: Path, days: list[date], merges: Merges) -> pl.Series:
    """Everybody whose state events of these days change, in hexadecimal."""
    paths = [path for day in days for path in day_files(tables, day)]
    events = with_owner(scan_parts(paths, EVENTS).select("user", "session"), merges)
    return events.select(OWNER).unique().collect(engine="streaming")[OWNER]
