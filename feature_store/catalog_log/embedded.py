"""The catalogue's log of one machine: an SQLite file, and a number that all its processes map.

Commits are synced before they are acknowledged. The number beside the file is the newest sequence:
whoever follows compares eight bytes in memory for each request and reads the file only when they
have changed. It knows rows of bytes, and what two changes make together from `changes`.
"""

import mmap
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from feature_store.alone import alone_in, alone_with
from feature_store.catalog_log.changes import (
    Change,
    LoggedChange,
    Outcome,
    after,
    decode,
    encode,
    is_done,
    is_kept,
    outcome_of,
)
from feature_store.errors import CatalogLogError

FILE: Final = "changes.sqlite"
VERSION_FILE: Final = "version"
APPLICATION_ID: Final = 0x6169736C
FORMAT_VERSION: Final = 1
BUSY_SECONDS: Final = 10.0
VERSION_BYTES: Final = 8

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    item TEXT NOT NULL UNIQUE,
    is_new INTEGER NOT NULL,
    content BLOB NOT NULL
)
"""
_FIND: Final = "SELECT sequence, content FROM changes WHERE item = ?"
_REMOVE: Final = "DELETE FROM changes WHERE sequence = ?"
_INSERT: Final = "INSERT INTO changes (item, is_new, content) VALUES (?, ?, ?)"
_NEWEST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'"
_SINCE: Final = "SELECT content FROM changes WHERE sequence > ? ORDER BY sequence"
_READ: Final = "SELECT content FROM changes WHERE sequence > ? OR is_new ORDER BY sequence"
_UP_TO: Final = "SELECT content FROM changes WHERE sequence <= ?"
_PLACE: Final = "UPDATE changes SET content = ? WHERE sequence = ?"


class EmbeddedLog:
    """A CatalogLog in a directory of this machine."""

    settle_s: Final = 0.0

    def __init__(self, directory: Path) -> None:
        """Open the log, making it when absent. Raises CatalogLogError."""
        self._path = directory / FILE
        self._lock = threading.Lock()
        with self._failures():
            directory.mkdir(parents=True, exist_ok=True)
            with alone_in(directory):
                self._connection = _connect(self._path)
            self._shared = _Version(directory / VERSION_FILE)
            self._shared.raise_to(self._newest())

    @property
    def version(self) -> int:
        """See CatalogLog."""
        return self._shared.number

    def append(
        self, changes: Sequence[Change], change_time: int, is_known: Callable[[str], bool]
    ) -> list[Outcome]:
        """See CatalogLog."""
        with self._lock, self._failures():
            with self._transaction() as connection:
                outcomes = [self._put(connection, one, change_time, is_known) for one in changes]
            self._shared.raise_to(self._newest())
        return outcomes

    def since(self, sequence: int) -> list[LoggedChange]:
        """See CatalogLog."""
        return self._rows(_SINCE, sequence)

    def read(self, taken_in: int = 0) -> list[LoggedChange]:
        """See CatalogLog."""
        return self._rows(_READ, taken_in)

    def trim(self, up_to_sequence: int, before_time: int, is_held: Callable[[str], bool]) -> int:
        """See CatalogLog."""
        rows = self._rows(_UP_TO, up_to_sequence)
        gone = [(row.sequence,) for row in rows if is_done(row, before_time, is_held)]
        with self._lock, self._failures(), self._transaction() as connection:
            connection.executemany(_REMOVE, gone)
        return len(gone)

    def close(self) -> None:
        """See CatalogLog."""
        with self._lock:
            self._connection.close()
            self._shared.close()

    def _rows(self, statement: str, sequence: int) -> list[LoggedChange]:
        with self._lock, self._failures():
            rows = self._connection.execute(statement, (sequence,)).fetchall()
        return [decode(content) for (content,) in rows]

    @staticmethod
    def _put(
        connection: sqlite3.Connection,
        change: Change,
        change_time: int,
        is_known: Callable[[str], bool],
    ) -> Outcome:
        """One change inside a transaction, in which nobody else writes."""
        found = connection.execute(_FIND, (change.item,)).fetchone()
        before = decode(found[1]) if found else None
        known = is_known(change.item)
        outcome = outcome_of(before.change if before else None, change, is_known=known)
        if not is_kept(outcome):
            return outcome
        if found:
            connection.execute(_REMOVE, (found[0],))
        row = (change.item, not known, b"")
        sequence = int(connection.execute(_INSERT, row).lastrowid or 0)
        logged = after(before, change, change_time, sequence, is_new=not known)
        connection.execute(_PLACE, (encode(logged), sequence))
        return outcome

    def _newest(self) -> int:
        """The newest sequence, also of a row that is gone again."""
        row = self._connection.execute(_NEWEST).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; once it is left without an error, it is on the disk."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CatalogLogError(f"the catalogue's log {self._path} failed: {error}") from error


class _Version:
    """A number in a file that all processes of the machine map; it only grows.

    It may be lost with the machine: whoever opens the log raises it again.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        with alone_with(self._file):
            if self._file.seek(0, 2) < VERSION_BYTES:
                self._file.truncate(VERSION_BYTES)
        self._map = mmap.mmap(self._file.fileno(), VERSION_BYTES)
        self._numbers = memoryview(self._map).cast("Q")

    @property
    def number(self) -> int:
        return self._numbers[0]

    def raise_to(self, number: int) -> None:
        """Make it at least `number`."""
        with alone_with(self._file):
            self._numbers[0] = max(self._numbers[0], number)

    def close(self) -> None:
        if not self._file.closed:
            self._numbers.release()
            self._map.close()
            self._file.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    has_tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if has_tables and (application, version) != (APPLICATION_ID, FORMAT_VERSION):
        raise CatalogLogError(
            f"{path} is no catalogue's log of format {FORMAT_VERSION}; move it away, or use the "
            "release that wrote it"
        )
    ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise CatalogLogError(f"{path.parent} is no place for a log; use a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_CREATE)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    return connection
