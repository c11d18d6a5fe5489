"""The right to use a directory: once in a process, and only if no crash can have damaged it.

Who writes without syncing is safe from the death of any process, since the kernel keeps
what was written, but not from the death of the machine. A file beside the data names the
boot during which the data was in use; the last process to close it empties that file.
"""

import fcntl
import os
import threading
from pathlib import Path
from typing import Final

from feature_store.errors import StoreDamagedError, StoreError, StoreInUseError

FILE_NAME: Final = "boot"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_claimed: set[tuple[int, int]] = set()
_lock = threading.Lock()


class DirectoryClaim:
    """Held while this process uses a directory. Other processes may hold it too.

    Where the kernel does not name its boots, a crash of the machine stays unnoticed.
    """

    def __init__(self, directory: Path) -> None:
        """Claim the directory, making it when absent.

        Raises StoreInUseError when this process has claimed it under any name,
        StoreDamagedError when the machine stopped while it was in use, and StoreError when
        it cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            status = directory.stat()
            self._identity = (status.st_dev, status.st_ino)
            self._enter(directory)
        except OSError as error:
            raise StoreError(f"cannot use {directory}: {error}") from error

    def become_last(self) -> bool:
        """Whether no other process holds the claim; then others wait until `release`.

        Of processes that close at the same moment, at least one is told that it is last.
        """
        fcntl.flock(self._file, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self, *, is_synced: bool) -> None:
        """Give the claim up; `is_synced` when this was the last and all is on the disk."""
        if is_synced:
            os.ftruncate(self._file, 0)
        os.close(self._file)
        _claimed.discard(self._identity)

    def _enter(self, directory: Path) -> None:
        with _lock:
            if self._identity in _claimed:
                raise StoreInUseError(
                    f"{directory} is already open in this process; share that store instead"
                )
            self._file = os.open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
            _claimed.add(self._identity)
        fcntl.flock(self._file, fcntl.LOCK_SH)
        if not _mark(self._file):
            self.release(is_synced=False)
            raise StoreDamagedError(
                f"the machine stopped while {directory} was in use, so it may be damaged; remove "
                "it, then run `python -m offline compact` and `python -m offline materialize`"
            )


def _mark(file: int) -> bool:
    """Mark the directory as in use during this boot; False if it was in use in another."""
    boot = BOOT_ID.read_bytes().strip() if BOOT_ID.exists() else b"unknown"
    mark = os.pread(file, 256, 0)
    if not mark:
        os.pwrite(file, boot, 0)
        os.fsync(file)
    return mark in (b"", boot)
