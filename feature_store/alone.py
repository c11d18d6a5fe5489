"""One process at a time: whoever holds a file's lock is alone until it lets go, or dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Opened(Protocol):
    """A file that is open."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


@contextmanager
def alone_with(file: Opened | int) -> Iterator[None]:
    """While no other process is alone with the same file; waits until then."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """While no other process is alone in the directory, which need hold no file for that.

    For making what several processes open: SQLite answers "locked" at once, whatever its timeout,
    to one of two that turn a new file's write-ahead log on together.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with alone_with(descriptor):
            yield
    finally:
        os.close(descriptor)
