"""Compaction of the event log of several machines: as `offline.compact`, from a stream.

A message is acknowledged once what it says is on the disk under its final name, so that a job
that dies is given it again; joining the tables twice changes nothing. One job at a time.
"""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from feature_store.event_log import LoggedEvent, RefusedEvent
from feature_store.event_log.connection import Connection, Message, message_of
from feature_store.event_log.stream import EVENTS, EXPOSURES, MERGES, REFUSED
from feature_store.event_log.tables import APPLIED, MERGED, exposure_of
from feature_store.events import Merge, from_row
from offline.arrivals import keep_arrivals
from offline.exposures import exposure_table, merge_exposures
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

CONSUMER: Final = "compaction"
FETCH: Final = 500


def compact_stream(url: str, tables: Path) -> Compacted:
    """Move what is in a stream into the tables; what is moved and applied leaves the stream.

    `url` as in `StreamLog`. Raises TablesInUseError while another job writes the tables, and
    EventLogError when the server does not answer.
    """
    counts = Counter[str]()
    with staging(tables) as folder, closing(Connection(url)) as connection:
        reader = connection.consumer(CONSUMER)
        while fetched := _batch(connection, reader):
            messages = [message_of(one) for one in fetched]
            counts[MERGES] += _move_merges(_of(messages, MERGES), tables, folder)
            counts[EVENTS] += _move_events(_of(messages, EVENTS), tables, folder)
            counts[EXPOSURES] += _move_exposures(_of(messages, EXPOSURES), tables, folder)
            counts[REFUSED] += _move_refused(_of(messages, REFUSED), tables, folder)
            connection.acknowledge(fetched)
            counts["trimmed"] += _trim(connection, messages)
    return Compacted(counts[EVENTS], counts[EXPOSURES], counts[REFUSED], counts["trimmed"])


def _batch(connection: Connection, reader: Any) -> list[Any]:
    fetched: list[Any] = []
    while len(fetched) < BATCH_ROWS and (some := connection.fetch(reader, FETCH)):
        fetched += some
    return fetched


def _of(messages: Sequence[Message], kind: str) -> list[tuple[Message, Any]]:
    return [(one, json.loads(one.data)) for one in messages if one.kind == kind]


def _move_events(given: Sequence[tuple[Message, Any]], tables: Path, folder: Path) -> int:
    if not given:
        return 0
    logged = [LoggedEvent(one.sequence, from_row(tuple(row[1:])), row[0]) for one, row in given]
    rows = event_table([one.event for one in logged])
    keep_arrivals(tables, f"stream-{logged[0].sequence:012}", logged)
    part = folder / "streamed.parquet"
    rows.write_parquet(part, compression="lz4")
    hours = Counter((rows["event_time"].to_physical() // MICROSECONDS_PER_HOUR).to_list())
    merged = merge_days(tables, [part], hours, folder, Limits().span_rows, lambda _: None)
    publish(tables, merged)
    return sum(merged.num_new.values())


def _move_exposures(given: Sequence[tuple[Message, Any]], tables: Path, folder: Path) -> int:
    if not given:
        return 0
    rows = exposure_table([exposure_of(tuple(row)) for _, row in given])
    return merge_exposures(tables, rows, folder)


def _move_merges(given: Sequence[tuple[Message, Any]], tables: Path, folder: Path) -> int:
    if given:
        store_merges(tables, merge_table([Merge(**row) for _, row in given]), folder)
    return len(given)


def _move_refused(given: Sequence[tuple[Message, Any]], tables: Path, folder: Path) -> int:
    if not given:
        return 0
    refused = [
        RefusedEvent(message.sequence, row[0], row[1], from_row(tuple(row[2:])))
        for message, row in given
    ]
    store_refused(tables, refused_table(0, refused), folder / "refused.parquet")
    return len(refused)


def _trim(connection: Connection, messages: Sequence[Message]) -> int:
    """Delete what no worker needs for its next start; how many messages that were."""
    end = messages[-1].sequence
    num_trimmed = connection.purge(f"{EXPOSURES}.>", end) + connection.purge(f"{REFUSED}.>", end)
    for worker in {one.worker for one in messages}:
        for kind, mark in ((EVENTS, APPLIED), (MERGES, MERGED)):
            done = min(end, connection.mark(f"{mark}.{worker}"))
            num_trimmed += connection.purge(f"{kind}.{worker}", done)
    return num_trimmed
