"""Lets many threads use a memory map, and one replace it while nobody does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Use as a context manager to share; `alone()` waits until it is empty and keeps it so.

    A thread must not enter twice: with another waiting to be alone, it would wait for ever.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_inside = 0
        self._num_waiting = 0

    def __enter__(self) -> None:
        """Enter, after those who want to be alone."""
        with self._changed:
            while self._num_waiting:
                self._changed.wait()
            self._num_inside += 1

    def __exit__(self, *error: object) -> None:
        """Leave."""
        with self._changed:
            self._num_inside -= 1
            if self._num_waiting and not self._num_inside:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the gate alone; later entrants wait."""
        with self._changed:
            self._num_waiting += 1
            try:
                while self._num_inside:
                    self._changed.wait()
                yield
            finally:
                self._num_waiting -= 1
                self._changed.notify_all()
