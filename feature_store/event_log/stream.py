"""The event log of several machines: a stream of NATS JetStream, read by compaction anywhere.

An event is acknowledged once the stream has stored it; its id is the message's, so that the
server knows it again for an hour, whichever worker sends it. How much a stored message
survives is the server's setting: `sync_interval: always`, or three replicas. Each worker has
subjects of its own, and notes in a bucket of keys how far the online store reflects them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from feature_store.errors import EventLogError
from feature_store.event_log.connection import Connection
from feature_store.event_log.log import ErasedRows, LoggedEvent, LoggedMerge, Outcome
from feature_store.event_log.tables import APPLIED, MERGED, exposure_row
from feature_store.events import Event, Exposure, Merge, from_row, to_row
from feature_store.ids import hash64

EVENTS: Final = "events"
EXPOSURES: Final = "exposures"
MERGES: Final = "merges"
REFUSED: Final = "refused"

READ_ROWS: Final = 1_000
_WORKER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class StreamLog:
    """A WorkerLog in a stream. `worker` must be the same after a restart, and nobody else's.

    Every method raises EventLogError when the server does not answer; sending again is safe.
    """

    def __init__(self, url: str, worker: str) -> None:
        """Connect to `nats://HOST:PORT/STREAM`, making the stream when absent."""
        if not _WORKER.fullmatch(worker):
            raise EventLogError("a worker's name has 1 to 64 letters, digits, - and _")
        self._worker = worker
        self.connection = Connection(url)
        self._marks: dict[str, int] = {}  # no other process writes them
        self.last_sequence = self._mark(APPLIED)

    def append(self, events: Sequence[Event], received_time: int) -> list[Outcome]:
        """See EventLog."""
        if not all(event.event_id for event in events):
            raise ValueError("an event needs an id before it is appended")
        messages = [
            (f"{EVENTS}-{hash64(event.event_id):x}", [received_time, *to_row(event)])
            for event in events
        ]
        acks = self._publish(EVENTS, messages)
        stored = [ack.seq for ack in acks if not ack.duplicate]
        self.last_sequence = max([self.last_sequence, *stored])
        return [Outcome.DUPLICATE if ack.duplicate else Outcome.ACCEPTED for ack in acks]

    def append_exposures(self, exposures: Sequence[Exposure]) -> None:
        """See EventLog."""
        messages = [(f"{EXPOSURES}-{x.attribution_token}", exposure_row(x)) for x in exposures]
        self._publish(EXPOSURES, messages)

    def append_merge(self, merge: Merge) -> int:
        """See EventLog."""
        name = f"{MERGES}-{merge.kind}-{merge.source}"
        (ack,) = self._publish(MERGES, [(name, asdict(merge))])
        return int(ack.seq)

    def drop_merge(self, sequence: int) -> None:
        """See EventLog."""
        self.connection.delete(sequence)

    def quarantine(self, refused: Sequence[tuple[Event, str]], received_time: int) -> None:
        """See EventLog."""
        rows = [[received_time, reason, *to_row(event)] for event, reason in refused]
        self._publish(REFUSED, [("", row) for row in rows])

    def read(self, after_sequence: int = 0, limit: int = READ_ROWS) -> list[LoggedEvent]:
        """This worker's events after a place, in the order in which they were accepted."""
        found = self._read(EVENTS, after_sequence, limit)
        return [LoggedEvent(place, from_row(tuple(row[1:])), row[0]) for place, row in found]

    def unapplied(self) -> list[LoggedEvent]:
        """See EventLog."""
        return self.read(self._mark(APPLIED))

    def unapplied_merges(self) -> list[LoggedMerge]:
        """See EventLog."""
        found = self._read(MERGES, self._mark(MERGED), READ_ROWS)
        return [LoggedMerge(place, Merge(**row)) for place, row in found]

    def mark_applied(self, sequence: int) -> None:
        """See EventLog."""
        self._set_mark(APPLIED, sequence)

    def mark_merged(self, sequence: int) -> None:
        """See EventLog."""
        self._set_mark(MERGED, sequence)

    def erase(self, *pseudonyms: str) -> ErasedRows:
        """Overwrite every message of any worker that names these users and sessions."""
        names = [name.encode() for name in pseudonyms]
        counts = dict.fromkeys((EVENTS, EXPOSURES, REFUSED, MERGES), 0)
        found = [
            message
            for message in self.connection.messages(">", 0)
            if any(name in message.data for name in names)
        ]
        self.connection.delete(*(message.sequence for message in found))
        for message in found:
            counts[message.kind] += 1
        return ErasedRows(counts[EVENTS], counts[EXPOSURES], counts[REFUSED])

    def close(self) -> None:
        """See EventLog."""
        self.connection.close()

    def _publish(self, kind: str, messages: Sequence[tuple[str, Any]]) -> list[Any]:
        encoded = [(name, json.dumps(content).encode()) for name, content in messages]
        return self.connection.publish(f"{kind}.{self._worker}", encoded)

    def _read(self, kind: str, after_sequence: int, limit: int) -> list[tuple[int, Any]]:
        messages = self.connection.messages(f"{kind}.{self._worker}", after_sequence, limit)
        return [(message.sequence, json.loads(message.data)) for message in messages]

    def _mark(self, name: str) -> int:
        if name not in self._marks:
            self._marks[name] = self.connection.mark(f"{name}.{self._worker}")
        return self._marks[name]

    def _set_mark(self, name: str, sequence: int) -> None:
        if sequence > self._mark(name):
            self.connection.set_mark(f"{name}.{self._worker}", sequence)
            self._marks[name] = sequence
