"""What users do: on the disk first, in the next answer second, acknowledged last.

One thread writes. It takes all batches that wait, so that concurrent calls share one flush
of the disk and one transaction of the store. An event that is on the disk but not in the store,
since the process died or the store was away, is applied before anything new is taken in. It
knows no messages and no clock.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import numpy as np

from feature_store.event_log import LoggedMerge, Outcome
from feature_store.event_log.seam import WorkerLog
from feature_store.events import Event, Merge
from feature_store.people import consent_key
from feature_store.state import state_key
from feature_store.store import OnlineStore
from feature_store.tombstones import Tombstones
from online.errors import MergedElsewhereError
from online.feedback import changes
from online.feedback.changes import Applied, Merged, apply, find_merge
from online.metrics import EVENTS, Metrics

logger = logging.getLogger(__name__)

MAX_EVENTS_AT_ONCE: Final = 4_000
RETRY_S: Final = 1.0
"""How often to try to apply what the store has not taken, while nothing new comes."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Write:
    """One call: its events, those refused at the edge with the reason, and when they came."""

    events: Sequence[Event]
    refused: Sequence[tuple[Event, str]]
    received_time: int
    outcomes: "Future[list[Outcome]]" = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Task:
    """Something else that the writing thread is to do."""

    work: Callable[[], Any]
    result: "Future[Any]" = field(default_factory=Future)

    def run(self) -> None:
        if self.result.set_running_or_notify_cancel():
            try:
                self.result.set_result(self.work())
            except Exception as error:
                self.result.set_exception(error)


class Feedback:
    """The way in for events and merges, for one worker. Any thread may call it."""

    def __init__(
        self,
        log: WorkerLog,
        store: OnlineStore,
        tombstones: Tombstones | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Apply first what is logged but not applied; StoreError when the store is away.

        `tombstones` says who was erased; None: nobody.
        """
        self._log = log
        self._store = store
        self._metrics = metrics or Metrics()
        self._marker = tombstones.marker if tombstones is not None else None
        self._is_behind = True
        self._catch_up()
        self._writes: SimpleQueue[_Write | _Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    def write(
        self, events: Sequence[Event], refused: Sequence[tuple[Event, str]], received_time: int
    ) -> "Future[list[Outcome]]":
        """What becomes of `events`, one outcome each, once all are durable and applied.

        The future raises EventLogError or StoreError when they are not; sending them again is
        safe. `received_time` is in microseconds UTC.
        """
        write = _Write(events, refused, received_time)
        self._writes.put(write)
        return write.outcomes

    def merge(self, merge: Merge) -> "Future[Merged]":
        """Give a session's or an account's history to a user, once the merge is durable.

        The future raises MergedElsewhereError, EventLogError or StoreError.
        """
        return self.run(lambda: self._merge(merge))

    def rename(self, merge: Merge) -> "Future[None]":
        """As `merge`, but only if anything is kept of the source.

        The future raises EventLogError or StoreError.
        """
        return self.run(lambda: self._rename(merge))

    def run(self, work: Callable[[], T]) -> "Future[T]":
        """Do something between two batches of events, on the thread that writes them."""
        task = _Task(work)
        self._writes.put(task)
        return task.result

    def close(self) -> None:
        """Finish what was taken in; nothing may be written afterwards."""
        self._writes.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (waiting := self._waiting()) is not None:
            writes, tasks = waiting
            try:
                self._take_in(writes)
            except Exception as error:
                logger.error("%d event batches were not taken in: %s", len(writes), error)
                for write in writes:
                    write.outcomes.set_exception(error)
            for task in tasks:
                task.run()

    def _waiting(self) -> tuple[list[_Write], list[_Task]] | None:
        """All that waits, nothing when there is only old work to do, None at the end."""
        try:
            write = self._writes.get(timeout=RETRY_S if self._is_behind else None)
        except Empty:
            return [], []
        if write is None:
            return None
        writes: list[_Write] = []
        tasks: list[_Task] = []
        num_events = 0
        while write is not None:
            if isinstance(write, _Task):
                tasks.append(write)
            elif write.outcomes.set_running_or_notify_cancel():
                writes.append(write)
                num_events += len(write.events)
            if num_events >= MAX_EVENTS_AT_ONCE or self._writes.empty():
                return writes, tasks
            write = self._writes.get()
        self._writes.put(None)  # the end comes after these
        return writes, tasks

    def _take_in(self, writes: Sequence[_Write]) -> None:
        """Log, apply, then tell the callers."""
        self._catch_up()
        if not writes:
            return
        received_time = writes[0].received_time
        if refused := [one for write in writes for one in write.refused]:
            self._log.quarantine(refused, received_time)
            self._metrics.count(EVENTS, "rejected", by=len(refused))
        events = [event for write in writes for event in write.events]
        outcomes = self._log.append(events, received_time) if events else []
        self._is_behind = True
        self._apply_new(events, outcomes)
        self._mark()
        for outcome, num_events in Counter(outcomes).items():
            self._metrics.count(EVENTS, outcome, by=num_events)
        remaining = iter(outcomes)
        for write in writes:
            write.outcomes.set_result(list(islice(remaining, len(write.events))))

    def _apply_new(self, events: Sequence[Event], outcomes: list[Outcome]) -> None:
        """Apply what the log did not hold; what another worker had applied is a duplicate too."""
        new = [i for i, outcome in enumerate(outcomes) if outcome is Outcome.ACCEPTED]
        applied = self._apply([events[i] for i in new])
        for rows, outcome in (
            (applied.was_seen, Outcome.DUPLICATE),
            (applied.was_erased, Outcome.ERASED),
        ):
            for i in (new[position] for position in np.flatnonzero(rows)):
                outcomes[i] = outcome

    def _apply(self, events: Sequence[Event]) -> Applied:
        """Apply; what is of somebody who was erased meanwhile leaves the log again."""
        applied = apply(events, self._store, self._marker)
        if applied.erased:
            self._log.erase(*applied.erased)
        return applied

    def _merge(self, merge: Merge) -> Merged:
        """Log and apply; what was merged before needs no logging."""
        self._catch_up()
        if (earlier := find_merge(merge, self._store)) is not None:
            return earlier
        sequence = self._log.append_merge(merge)
        self._is_behind = True
        return self._apply_merge(LoggedMerge(sequence, merge))

    def _rename(self, merge: Merge) -> None:
        former = bytes.fromhex(merge.source)
        values = self._store.get_many([state_key(former), consent_key(former)])
        if any(value is not None for value in values):
            with suppress(MergedElsewhereError):
                self._merge(merge)

    def _apply_merge(self, logged: LoggedMerge) -> Merged:
        """Apply; one that came too late, since the source is another's, leaves the log again."""
        try:
            merged = changes.merge(logged.merge, self._store)
        except MergedElsewhereError:
            self._log.drop_merge(logged.sequence)
            raise
        self._log.mark_merged(logged.sequence)
        return merged

    def _catch_up(self) -> None:
        """Apply what is logged but may not be applied."""
        while self._is_behind:
            merges, events = self._log.unapplied_merges(), self._log.unapplied()
            for merge in merges:
                with suppress(MergedElsewhereError):
                    self._apply_merge(merge)
            self._apply([one.event for one in events])
            if events:
                self._log.mark_applied(events[-1].sequence)
            self._is_behind = bool(merges or events)

    def _mark(self) -> None:
        self._log.mark_applied(self._log.last_sequence)
        self._is_behind = False
