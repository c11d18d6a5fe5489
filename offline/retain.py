"""Keep nothing for longer than so many days: events, what was shown, logs and states.

A day goes as a whole, once it is older. Of a state goes what happened before, and the state of
whom nothing happened since; its counts become exact again with `python -m offline materialize`.
Running it again changes nothing, and killed at any moment it is run again. Erasures, their marks
and consents stay.
"""

import argparse
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from feature_store.durable import flush
from feature_store.event_log import EventLog, spool_workers
from feature_store.people import GUARD_PREFIX, Moved, session_key
from feature_store.schema import MERGES, MICROSECONDS_PER_DAY, TABLES
from feature_store.state import STATE_PREFIX, UserState
from feature_store.store import OnlineStore, open_store
from offline.compact import EVENT_LOG
from offline.errors import InputError
from offline.home import Home
from offline.ingest.job import staging
from offline.ingest.keyed import quarantine_path
from offline.ingest.tables import day_of, instant, scan_table, table_path
from offline.progress import QUIET, Progress

KEYS_AT_ONCE: Final = 1_000
_DAY: Final = re.compile(r"day=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True, slots=True)
class Retained:
    """What one run dropped."""

    num_days: int
    num_logged: int
    num_states: int


def retain(
    event_log: Path,
    tables: Path,
    store: OnlineStore,
    before_time: int,
    progress: Progress = QUIET,
) -> Retained:
    """Drop what happened on the days before that of `before_time` (microseconds UTC).

    Raises TablesInUseError while another job writes the tables.
    """
    before_time = before_time // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY
    with staging(tables) as folder:
        num_days = _drop_days(tables, day_of(before_time))
        _drop_visits(tables, before_time, folder)
        _drop_quarantine(tables, before_time)
    num_logged = 0
    for worker in spool_workers(event_log):
        with closing(EventLog(event_log, worker)) as log:
            num_logged += log.discard_older(before_time)
    _drop_guard(store, before_time)
    with progress.task("Trimming states", 2) as advance:
        num_states = 0
        for prefix in (STATE_PREFIX, session_key(b"")):
            num_states += _trim_states(store, prefix, before_time)
            advance(1)
    return Retained(num_days, num_logged, num_states)


def forget_before(state: UserState, time: int) -> UserState | None:
    """The state without what happened before an instant; None when nothing happened since."""
    if state.totals["last_time"][0] < time:
        return None
    rows = state.items
    touched = np.maximum(rows["last_time"], np.maximum(rows["engaged_time"], rows["feedback_time"]))
    first = np.maximum(state.totals["first_time"], time)
    totals = state.totals.copy()
    totals["first_time"] = first
    return replace(
        state,
        items=rows[touched >= time],
        recent=state.recent[state.recent["time"] >= time],
        shown=state.shown[state.shown["time"] >= time],
        baskets=state.baskets[state.baskets["time"] >= time],
        totals=totals,
    )


def _drop_days(tables: Path, first_day: date) -> int:
    """Drop whole days, whatever is kept by day."""
    outdated = [
        folder
        for folder in sorted(tables.glob("*/day=*"))
        if (match := _DAY.fullmatch(folder.name)) and date.fromisoformat(match[1]) < first_day
    ]
    for folder in outdated:
        shutil.rmtree(folder)
        flush(folder.parent)
    return len({folder.name for folder in outdated})


def _drop_visits(tables: Path, before_time: int, folder: Path) -> None:
    """Of merges, those of visits are of no use without their events; accounts stay merged."""
    merges = scan_table(tables, MERGES, optional=True).collect()
    kept = merges.filter(
        (pl.col("kind") == "user") | (pl.col("merge_time") >= instant(before_time))
    )
    if len(kept) < len(merges):
        draft = folder / f"{MERGES.name}.parquet"
        kept.write_parquet(draft)
        flush(draft)
        draft.replace(table_path(tables, MERGES))
        flush(tables)


def _drop_quarantine(tables: Path, before_time: int) -> None:
    """A row that nobody could read has no time: its file goes when nothing joined it since."""
    for table in TABLES.values():
        path = quarantine_path(tables, table)
        if path.exists() and path.stat().st_mtime * 1e6 < before_time:
            path.unlink()
            flush(path.parent)


def _drop_guard(store: OnlineStore, before_time: int) -> None:
    """Whose last claim is older than what is kept, has no count any more."""
    for keys in _chunks(store, GUARD_PREFIX):
        store.update_many(
            keys,
            lambda values: [
                one if one and int.from_bytes(one[-8:], "little") >= before_time else None
                for one in values
            ],
        )


def _trim_states(store: OnlineStore, prefix: bytes, before_time: int) -> int:
    num_trimmed = 0
    for keys in _chunks(store, prefix):

        def change(values: list[bytes | None]) -> list[bytes | None]:
            return [_trimmed(value, before_time) for value in values]

        before = store.get_many(keys)
        outdated = [
            k for k, old, new in zip(keys, before, change(before), strict=True) if old != new
        ]
        if outdated:
            store.update_many(outdated, change)
        num_trimmed += len(outdated)
    return num_trimmed


def _trimmed(value: bytes | None, before_time: int) -> bytes | None:
    if value is None or Moved.decode(value):
        return value
    state = forget_before(UserState.decode(value), before_time)
    return None if state is None else state.encode()


def _chunks(store: OnlineStore, prefix: bytes) -> Iterator[list[bytes]]:
    keys: list[bytes] = []
    for key, _ in store.scan(prefix):
        keys.append(key)
        if len(keys) == KEYS_AT_ONCE:
            yield keys
            keys = []
    if keys:
        yield keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline retain`."""
    parser.add_argument("--days", type=int, required=True, help="how many days are kept")
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Drop once and say what went. Raises InputError when no day would be left."""
    if args.days < 1:
        raise InputError("--days must be 1 or more")
    home = Home.from_arguments(args)
    before_time = time.time_ns() // 1_000 - args.days * MICROSECONDS_PER_DAY
    with closing(open_store(home.store)) as store:
        tables = args.tables or home.tables
        done = retain(home.path / EVENT_LOG, tables, store, before_time, Progress())
    print(
        f"{done.num_days:,} days left the tables, {done.num_logged:,} rows the logs; "
        f"{done.num_states:,} states were trimmed"
    )
    return 0
