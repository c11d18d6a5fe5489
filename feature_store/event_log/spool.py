"""One SQLite file that survives: opened, checked, written in transactions that are on the disk.

It knows how SQLite is made durable, and not what the tables mean.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from feature_store.alone import alone_in
from feature_store.errors import EventLogError, EventLogFormatError
from feature_store.event_log.tables import (
    APPLICATION_ID,
    COLUMNS,
    CREATE,
    FORMAT_VERSION,
    Row,
    delete,
)

BUSY_SECONDS: Final = 10.0
CHECKPOINT_PAGES: Final = 4_000
"""How many pages, of 4 KB, go to the write-ahead log before they are moved into the file."""

DELETE_ROWS: Final = 1_000
CACHE_KILOBYTES: Final = 8_000


class Spool:
    """A connection for what must be on the disk, and one for marks that may be lost.

    A mark that a machine crash undoes only repeats work; so it need not wait for the disk.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, making it when absent.

        Raises EventLogFormatError when it is something else, EventLogError when it cannot be
        opened or cannot be made durable there.
        """
        self.path = path
        self._lock = threading.Lock()
        with self._failures(), ExitStack() as opened:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._durable = opened.enter_context(closing(_connect(path)))
            with alone_in(path.parent):
                _require_ours(self._durable, path)
                _configure(self._durable, path, "FULL", CHECKPOINT_PAGES)
            with self.transaction() as connection:
                _prepare(connection)
            self._hasty = opened.enter_context(closing(_connect(path)))
            _configure(self._hasty, path, "NORMAL", 0)
            opened.pop_all()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; once it is left without an error, it is on the disk."""
        with self._lock, self._failures():
            self._durable.execute("BEGIN IMMEDIATE")
            try:
                yield self._durable
                self._durable.execute("COMMIT")
            except BaseException:
                if self._durable.in_transaction:
                    self._durable.execute("ROLLBACK")
                raise

    def rows(self, statement: str, *values: object) -> list[Row]:
        """What a SELECT gives."""
        with self._lock, self._failures():
            return self._durable.execute(statement, values).fetchall()

    def mark(self, name: str) -> int:
        """The sequence that is noted under a name."""
        ((sequence,),) = self.rows("SELECT sequence FROM marks WHERE name = ?", name)
        return int(sequence)

    def set_mark(self, name: str, sequence: int) -> None:
        """Note a sequence, never a smaller one than before. Outlives the process at once."""
        statement = "UPDATE marks SET sequence = max(sequence, ?) WHERE name = ?"
        with self._lock, self._failures():
            self._hasty.execute(statement, (sequence, name))

    def delete(self, table: str, sequences: Sequence[int]) -> None:
        """Delete these rows, some at a time, so that the worker does not wait for long."""
        for start in range(0, len(sequences), DELETE_ROWS):
            chunk = [(sequence,) for sequence in sequences[start : start + DELETE_ROWS]]
            with self.transaction() as connection:
                connection.executemany(delete(table), chunk)

    def scrub(self) -> None:
        """Write the file anew, so that no file holds what was deleted.

        SQLite leaves copies of moved rows in the gaps of its pages, even with secure_delete.
        Others wait meanwhile, about a second for each 100 MB. Raises EventLogError when
        another process reads for so long that it cannot be done.
        """
        with self._lock, self._failures():
            self._durable.execute("VACUUM")
            ((is_busy, *_),) = self._durable.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if is_busy:
            raise EventLogError(
                f"{self.path} is being read; the rows are deleted, but run it again"
            )

    def close(self) -> None:
        """Let go of the file; twice does no harm."""
        with self._lock:
            self._hasty.close()
            self._durable.close()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
                raise EventLogFormatError(f"{self.path} is no event log; move it away") from error
            raise EventLogError(f"the event log {self.path} failed: {error}") from error
        except OSError as error:
            raise EventLogError(f"the event log {self.path} cannot be made: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _require_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Raises EventLogFormatError, before a file of somebody else's is changed."""
    if _is_empty(connection):
        return
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if (application, version) != (APPLICATION_ID, FORMAT_VERSION):
        raise EventLogFormatError(
            f"{path} is no event log of format {FORMAT_VERSION}; move it away, or use the "
            "release that wrote it"
        )


def _configure(
    connection: sqlite3.Connection, path: Path, synchronous: str, checkpoint_pages: int
) -> None:
    ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise EventLogError(f"{path.parent} is no place for an event log; use a local disk")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, and the columns that an older file lacks."""
    for statement in CREATE:
        connection.execute(statement)
    for table, columns in COLUMNS.items():
        present = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        for name, definition in columns.items():
            if name not in present:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {definition}")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
