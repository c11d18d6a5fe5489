"""What one worker appends, and what is read from it again: replay, compaction, erasure.

It knows events and exposures, not who sends them or what they change.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from feature_store.event_log.spool import Spool
from feature_store.event_log.tables import (
    APPLIED,
    COMPACTED,
    EVENT_COLUMNS,
    EVENTS_TABLE,
    EXPOSURE_COLUMNS,
    EXPOSURES_TABLE,
    FIND_MERGE,
    INSERT_EVENT,
    INSERT_EXPOSURE,
    INSERT_MERGE,
    INSERT_REFUSED,
    LAST_EVENT,
    MERGE_COLUMNS,
    MERGED,
    MERGES_TABLE,
    PEOPLE,
    QUARANTINE_TABLE,
    REFUSED_COLUMNS,
    Row,
    distinct,
    event_row,
    exposure_of,
    exposure_row,
    find,
    merge_row,
    select,
)
from feature_store.events import Event, Exposure, Merge, from_row, to_row

READ_ROWS: Final = 1_000

_FILE_NAME: Final = re.compile(r"worker-(\d{3,})\.sqlite")


class Outcome(StrEnum):
    """What became of an event that was appended."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    ERASED = "erased"
    """Of somebody who was erased: nothing of it was kept."""


class LoggedEvent(NamedTuple):
    """An event, its place in the spool, and when it came (microseconds UTC).

    Places grow, and are never used again.
    """

    sequence: int
    event: Event
    received_time: int


class LoggedExposure(NamedTuple):
    """An exposure and its place among the exposures of the spool."""

    sequence: int
    exposure: Exposure


class LoggedMerge(NamedTuple):
    """A merge and its place among the merges of the spool."""

    sequence: int
    merge: Merge


class RefusedEvent(NamedTuple):
    """An event set aside, when it came (microseconds UTC) and why it was refused."""

    sequence: int
    received_time: int
    reason: str
    event: Event


class ErasedRows(NamedTuple):
    """How many rows of a user were deleted."""

    num_events: int
    num_exposures: int
    num_quarantined: int


def spool_workers(directory: Path) -> list[int]:
    """The workers that ever had a spool in this directory, in order."""
    names = [_FILE_NAME.fullmatch(path.name) for path in directory.glob("worker-*.sqlite")]
    return sorted(int(match[1]) for match in names if match)


class EventLog:
    """The log of one worker: appended to by one thread of it, read by whoever needs it.

    Every method raises EventLogError when the file cannot be read or written; nothing of
    that call was accepted then.
    """

    def __init__(self, directory: Path, worker: int) -> None:
        """Open the spool of a worker, counted from 0, making it when absent.

        Raises EventLogFormatError when the file is something else.
        """
        self._spool = Spool(directory / f"worker-{worker:03}.sqlite")
        ((last,),) = self._spool.rows(LAST_EVENT)
        self.last_sequence: int = max(last, self._spool.mark(COMPACTED))
        """The place of the newest event."""

    def append(self, events: Sequence[Event], received_time: int) -> list[Outcome]:
        """Keep the events that are new; when this returns, they are on the disk.

        `received_time` is in microseconds UTC. An event whose id is in the spool is a
        duplicate and changes nothing. Raises ValueError for an event without an id.
        """
        if not all(event.event_id for event in events):
            raise ValueError("an event needs an id before it is appended")
        rows = [event_row(event, received_time) for event in events]
        with self._spool.transaction() as connection:
            added = [connection.execute(INSERT_EVENT, row).rowcount for row in rows]
            ((last,),) = connection.execute(LAST_EVENT)
        self.last_sequence = max(self.last_sequence, last)
        return [Outcome.ACCEPTED if is_new else Outcome.DUPLICATE for is_new in added]

    def append_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Keep what was shown, durably; a token that is there already changes nothing."""
        with self._spool.transaction() as connection:
            connection.executemany(INSERT_EXPOSURE, map(exposure_row, exposures))

    def append_merge(self, merge: Merge) -> int:
        """Keep who became whom, durably; the place, that of the first one of the same source."""
        with self._spool.transaction() as connection:
            connection.execute(INSERT_MERGE, merge_row(merge))
            ((sequence,),) = connection.execute(FIND_MERGE, (merge.kind, merge.source))
        return int(sequence)

    def drop_merge(self, sequence: int) -> None:
        """Delete a merge that turned out to be impossible."""
        self._spool.delete(MERGES_TABLE, [sequence])

    def quarantine(self, refused: Sequence[tuple[Event, str]], received_time: int) -> None:
        """Set refused events aside, durably, each with its reason."""
        rows = [(received_time, reason, *to_row(event)) for event, reason in refused]
        with self._spool.transaction() as connection:
            connection.executemany(INSERT_REFUSED, rows)

    def read(self, after_sequence: int = 0, limit: int = READ_ROWS) -> list[LoggedEvent]:
        """The events after a place, in the order in which they were accepted."""
        columns = ("received_time", *EVENT_COLUMNS)
        rows = self._rows(EVENTS_TABLE, columns, after_sequence, limit)
        return [LoggedEvent(row[0], from_row(row[2:]), row[1]) for row in rows]

    def read_exposures(
        self, after_sequence: int = 0, limit: int = READ_ROWS
    ) -> list[LoggedExposure]:
        """The exposures after a place, in the order in which they were appended."""
        rows = self._rows(EXPOSURES_TABLE, EXPOSURE_COLUMNS, after_sequence, limit)
        return [LoggedExposure(row[0], exposure_of(row[1:])) for row in rows]

    def read_refused(self, after_sequence: int = 0, limit: int = READ_ROWS) -> list[RefusedEvent]:
        """The quarantined events after a place, in the order in which they came."""
        rows = self._rows(QUARANTINE_TABLE, REFUSED_COLUMNS, after_sequence, limit)
        return [RefusedEvent(row[0], row[1], row[2], from_row(row[3:])) for row in rows]

    def read_merges(self, after_sequence: int = 0, limit: int = READ_ROWS) -> list[LoggedMerge]:
        """The merges after a place, in the order in which they were appended."""
        rows = self._rows(MERGES_TABLE, MERGE_COLUMNS, after_sequence, limit)
        names = MERGE_COLUMNS
        return [
            LoggedMerge(row[0], Merge(**dict(zip(names, row[1:], strict=True)))) for row in rows
        ]

    def unapplied_merges(self) -> list[LoggedMerge]:
        """The first merges that the online store may lack."""
        return self.read_merges(self._spool.mark(MERGED))

    def mark_merged(self, sequence: int) -> None:
        """Note that the online store reflects all merges up to this place."""
        self._spool.set_mark(MERGED, sequence)

    def mark_applied(self, sequence: int) -> None:
        """Note that the online store reflects all events up to this place."""
        self._spool.set_mark(APPLIED, sequence)

    def unapplied(self, limit: int = READ_ROWS) -> list[LoggedEvent]:
        """The first events that the online store may lack: apply them at start, then mark.

        One that was applied just before a crash may be among them.
        """
        return self.read(self._spool.mark(APPLIED), limit)

    def mark_compacted(self, sequence: int) -> None:
        """Note that the canonical tables hold all events up to this place."""
        self._spool.set_mark(COMPACTED, sequence)

    @property
    def compacted_sequence(self) -> int:
        """The place up to which the canonical tables hold all events."""
        return self._spool.mark(COMPACTED)

    def trim(self, received_before: int) -> int:
        """Delete events that are compacted, applied and older; returns how many.

        Until then an event that is sent again is known as a duplicate.
        """
        done = min(self._spool.mark(APPLIED), self._spool.mark(COMPACTED))
        condition = "sequence <= ? AND received_time < ?"
        return self._delete(EVENTS_TABLE, condition, done, received_before)

    def discard_exposures(self, up_to_sequence: int) -> int:
        """Delete the exposures up to a place; returns how many."""
        return self._delete(EXPOSURES_TABLE, "sequence <= ?", up_to_sequence)

    def discard_refused(self, up_to_sequence: int) -> int:
        """Delete the quarantined events up to a place; returns how many."""
        return self._delete(QUARANTINE_TABLE, "sequence <= ?", up_to_sequence)

    def discard_merges(self, up_to_sequence: int) -> int:
        """Delete the merges up to a place that the online store reflects; returns how many."""
        done = min(up_to_sequence, self._spool.mark(MERGED))
        return self._delete(MERGES_TABLE, "sequence <= ?", done)

    def discard_older(self, before_time: int) -> int:
        """Delete what happened, was shown or came before an instant; returns how many rows."""
        return (
            self._delete(EVENTS_TABLE, "event_time < ?", before_time)
            + self._delete(EXPOSURES_TABLE, "request_time < ?", before_time)
            + self._delete(QUARANTINE_TABLE, "received_time < ?", before_time)
        )

    def pseudonyms(self) -> set[str]:
        """Every user and session that a row names."""
        rows = [
            row
            for table, names in PEOPLE.items()
            for row in self._spool.rows(distinct(table, names))
        ]
        return {name for (name,) in rows if name}

    def erase(self, *pseudonyms: str) -> ErasedRows:
        """Delete all rows of these users and sessions; the files hold no trace of them then.

        The file is written anew for that: erase several at once. Raises EventLogError when a
        reader in another process keeps a trace in place; the rows are deleted then, and
        calling again removes the trace.
        """
        marks = ", ".join("?" * len(pseudonyms))
        deleted = {}
        for table, names in PEOPLE.items():
            condition = " OR ".join(f"{name} IN ({marks})" for name in names)
            deleted[table] = self._delete(table, condition, *(pseudonyms * len(names)))
        self._spool.scrub()
        del deleted[MERGES_TABLE]
        return ErasedRows(*deleted.values())

    def close(self) -> None:
        """Let go of the file; twice does no harm."""
        self._spool.close()

    def _rows(
        self, table: str, columns: tuple[str, ...], after_sequence: int, limit: int
    ) -> list[Row]:
        return self._spool.rows(select(table, columns), after_sequence, limit)

    def _delete(self, table: str, condition: str, *values: object) -> int:
        rows = self._spool.rows(find(table, condition), *values)
        self._spool.delete(table, [sequence for (sequence,) in rows])
        return len(rows)
