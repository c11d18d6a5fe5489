"""An LMDB directory written anew, so that no page holds what was deleted.

LMDB deletes by leaving pages and parts of pages behind for later use. What must be gone for
good is gone only from a file that never held it. Nobody may have the store open meanwhile.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb

from feature_store.durable import flush
from feature_store.errors import StoreError
from feature_store.store.claim import FILE_NAME
from feature_store.store.records import batches

DATA: Final = "data.mdb"
LOCK: Final = "lock.mdb"


def rewrite(directory: Path) -> bool:
    """Write the store anew; False, and nothing done, while somebody has it open.

    Killed at any moment, the old file or the new one is there. Raises StoreError.
    """
    if not (directory / DATA).exists():
        return True
    with _alone(directory) as is_alone:
        if is_alone:
            try:
                _copy(directory)
            except (lmdb.Error, OSError) as error:
                raise StoreError(f"cannot write {directory} anew: {error}") from error
    return is_alone


@contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Whether nobody uses the store; who opens it waits until the end."""
    file = os.open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def _copy(directory: Path) -> None:
    """Records go over one by one: a copy of pages would take the gaps in them along."""
    with tempfile.TemporaryDirectory(prefix=".rewrite-", dir=directory) as folder:
        with lmdb.open(str(directory), max_readers=1, readahead=False) as old:
            size = old.info()["map_size"]
            with lmdb.open(folder, map_size=size, sync=False) as new, old.begin() as reading:
                for batch in batches(iter(reading.cursor())):
                    with new.begin(write=True) as writing:
                        writing.cursor().putmulti(batch, append=True)
        flush(Path(folder) / DATA)
        (Path(folder) / DATA).replace(directory / DATA)
        (directory / LOCK).unlink(missing_ok=True)
    flush(directory)
