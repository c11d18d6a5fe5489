"""Move what the server's event logs hold into the canonical tables.

Events join the tables by event id, so that what two workers logged is there once; exposures
and refused events get tables of their own. Nothing leaves a log before it is on the disk
elsewhere: killed at any moment, run it again. The server may go on writing meanwhile.

Events stay in the log for some more hours, so that one that is sent again is known there.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, Protocol, TypeVar

import polars as pl

from feature_store.event_log import EventLog, spool_workers
from offline.arrivals import keep_arrivals
from offline.catalog_changes import fold_catalog
from offline.exposures import exposure_table, merge_exposures
from offline.home import Home
from offline.ingest.days import merge_days
from offline.ingest.job import Limits, staging
from offline.ingest.tally import MICROSECONDS_PER_HOUR
from offline.logged import (
    BATCH_ROWS,
    Compacted,
    event_table,
    publish,
    refused_table,
    store_refused,
)
from offline.people import merge_table, store_merges
from offline.progress import QUIET, Progress

EVENT_LOG: Final = "event_log"
KEEP_HOURS: Final = 24.0

Logs = Mapping[int, EventLog]


class _Placed(Protocol):
    """Something that has a place in a spool."""

    @property
    def sequence(self) -> int: ...


Placed = TypeVar("Placed", bound=_Placed)


def compact(
    event_log: Path,
    tables: Path,
    now_time: int,
    keep_hours: float = KEEP_HOURS,
    progress: Progress = QUIET,
) -> Compacted:
    """Move what is in the spools of a folder into the tables.

    Events received more than `keep_hours` before `now_time` (microseconds UTC), moved and
    applied, are deleted from the spools. Raises TablesInUseError while an ingestion or another
    compaction runs, and EventLogError when a spool cannot be read.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(staging(tables))
        workers = spool_workers(event_log)
        logs = {w: stack.enter_context(closing(EventLog(event_log, w))) for w in workers}
        for log in logs.values():
            _move_merges(log, tables, folder)
        keep_from = now_time - round(keep_hours * MICROSECONDS_PER_HOUR)
        return Compacted(
            num_events=_move_events(logs, tables, folder, progress),
            num_exposures=sum(_move_exposures(log, tables, folder) for log in logs.values()),
            num_refused=sum(_move_refused(w, log, tables, folder) for w, log in logs.items()),
            num_trimmed=sum(log.trim(keep_from) for log in logs.values()),
        )


def _move_events(logs: Logs, tables: Path, folder: Path, progress: Progress) -> int:
    """Merge what is new in all spools at once, then note how far each was read."""
    parts, hours = [], Counter[int]()
    ends: dict[int, int] = {}
    for worker, log in logs.items():
        for batch in _batches(log.read, log.compacted_sequence):
            rows = event_table([logged.event for logged in batch])
            name = f"{worker:03}-{batch[0].sequence:012}"
            keep_arrivals(tables, f"worker-{name}", batch)
            parts.append(folder / f"logged-{name}.parquet")
            rows.write_parquet(parts[-1], compression="lz4")
            hours.update((rows["event_time"].cast(pl.Int64) // MICROSECONDS_PER_HOUR).to_list())
            ends[worker] = batch[-1].sequence
    if not parts:
        return 0
    with progress.task("storing events", hours.total()) as advance:
        merged = merge_days(tables, parts, hours, folder, Limits().span_rows, advance)
    publish(tables, merged)
    for worker, sequence in ends.items():
        logs[worker].mark_compacted(sequence)
    return sum(merged.num_new.values())


def _move_exposures(log: EventLog, tables: Path, folder: Path) -> int:
    num_new = 0
    for batch in _batches(log.read_exposures):
        rows = exposure_table([logged.exposure for logged in batch])
        num_new += merge_exposures(tables, rows, folder)
        log.discard_exposures(batch[-1].sequence)
    return num_new


def _move_merges(log: EventLog, tables: Path, folder: Path) -> None:
    """Before the events: who reads the tables then finds whose they are."""
    for batch in _batches(log.read_merges):
        store_merges(tables, merge_table([logged.merge for logged in batch]), folder)
        log.discard_merges(batch[-1].sequence)


def _move_refused(worker: int, log: EventLog, tables: Path, folder: Path) -> int:
    num_moved = 0
    for batch in _batches(log.read_refused):
        part = folder / f"refused-{worker:03}-{batch[0].sequence:012}.parquet"
        store_refused(tables, refused_table(worker, batch), part)
        log.discard_refused(batch[-1].sequence)
        num_moved += len(batch)
    return num_moved


def _batches(
    read: Callable[[int, int], Sequence[Placed]], after_sequence: int = 0
) -> Iterator[Sequence[Placed]]:
    while batch := read(after_sequence, BATCH_ROWS):
        yield batch
        after_sequence = batch[-1].sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline compact`."""
    parser.add_argument("--event-log", type=Path, help="the spools (default: HOME/event_log)")
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument(
        "--keep-hours",
        type=float,
        default=KEEP_HOURS,
        help="how long a moved event is known in the log if sent again (default: %(default)s)",
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compact once and print what moved."""
    home = Home.from_arguments(args)
    tables = args.tables or home.tables
    if url := os.environ.get("AISLE_EVENT_LOG"):
        from offline.compact_stream import compact_stream  # needs the extra `nats`

        streamed = compact_stream(url, tables)
        print(f"{streamed.num_events:,} events joined {tables} from the stream")
    event_log = args.event_log or home.path / EVENT_LOG
    done = compact(event_log, tables, time.time_ns() // 1_000, args.keep_hours, Progress())
    if num_changed := fold_catalog(home, tables):
        print(f"{num_changed:,} products were changed while the server ran: {tables} has them now")
    print(
        f"{done.num_events:,} events, {done.num_exposures:,} exposures and {done.num_refused:,} "
        f"refused events joined {tables}; {done.num_trimmed:,} old events left the log"
    )
    return 0
