"""The users' states at instants of the past, for learning and judging as of then."""

from pathlib import Path

from feature_store.store import MemoryStore
from offline.materialize import materialize
from offline.progress import Progress


class PastStates:
    """Makes states as of one instant after the other, each from the one before."""

    def __init__(self, tables: Path, progress: Progress) -> None:
        self._tables, self._progress = tables, progress
        self._store = MemoryStore()
        self._time: int | None = None

    def at(self, time: int) -> MemoryStore:
        """A store of its own with every user's state as of `time`.

        Raises ValueError for an instant before the one that was asked for last.
        """
        if self._time is not None and time < self._time:
            raise ValueError("ask for the states of the past in the order of time")
        if time != self._time:
            materialize(self._tables, self._store, time, self._progress, since_time=self._time)
            self._time = time
        return self._store.copy()
