"""The SQLite file of a ledger: opened, laid out, written by one process at a time.

A write waits for its turn on a file lock, which a process that is killed lets go of, instead of
polling SQLite's own. A transaction is on the disk when it is left. It knows tables, not money.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from feature_store.alone import alone_with
from feature_store.errors import LedgerError

APPLICATION_ID: Final = 0x61_6C_67_31  # "alg1"
BUSY_S: Final = 10.0

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS accounts (
  name TEXT PRIMARY KEY, claims INTEGER NOT NULL, reserved INTEGER NOT NULL,
  settled INTEGER NOT NULL, expected INTEGER NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS changed ON accounts (version) WHERE version > 0;
CREATE TABLE IF NOT EXISTS claims (
  claim_id TEXT PRIMARY KEY, item TEXT NOT NULL, user TEXT NOT NULL, state INTEGER NOT NULL,
  reserved INTEGER NOT NULL, settled INTEGER NOT NULL, claim_time INTEGER NOT NULL,
  expire_time INTEGER NOT NULL, settle_time INTEGER NOT NULL, basket TEXT NOT NULL,
  accounts TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON claims (expire_time) WHERE state = 0;
CREATE INDEX IF NOT EXISTS theirs ON claims (user, claim_time);
CREATE TABLE IF NOT EXISTS expectations (
  name TEXT PRIMARY KEY, account TEXT NOT NULL, amount INTEGER NOT NULL,
  expire_time INTEGER NOT NULL
) WITHOUT ROWID;
"""
"""`version` of an account is 0 where it is one user's; `accounts` of a claim is a JSON list."""

Row = tuple[Any, ...]


class Database:
    """One connection to write through and one to read through. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file, making it when absent. Raises LedgerError."""
        self._path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        with self._failures(), ExitStack() as opened:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = opened.enter_context(closing(_connect(path)))
            self._turn = opened.enter_context(path.with_name(f"{path.name}.turn").open("a"))
            with alone_with(self._turn):
                self._require_ours()
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.executescript(_CREATE)
            self._reader = opened.enter_context(closing(_connect(path)))
            self._reader.execute("PRAGMA query_only = ON")
            opened.pop_all()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; once it is left without an error, it is on the disk."""
        with self._writing, self._failures(), alone_with(self._turn):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def shred(self) -> None:
        """Write the file anew: pages keep copies of moved rows, even with secure_delete."""
        with self._writing, self._failures(), alone_with(self._turn):
            self._writer.execute("VACUUM")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def rows(self, statement: str, *values: object) -> list[Row]:
        """What a SELECT gives; it waits for no writer."""
        with self._reading, self._failures():
            return self._reader.execute(statement, values).fetchall()

    def close(self) -> None:
        """Let go of the file."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()
            self._turn.close()

    def _require_ours(self) -> None:
        ((application,),) = self._writer.execute("PRAGMA application_id").fetchall()
        ((num_tables,),) = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if not application and not num_tables:
            self._writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif application != APPLICATION_ID:
            raise LedgerError(f"{self._path} is no ledger; move it away")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise LedgerError(f"the ledger {self._path} failed: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
