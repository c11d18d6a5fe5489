"""The catalogue's log of several machines: records of the online store that they share.

Each batch of changes gets the next number, under which it says which products it changed, so that
a follower reads only what is new. Every process asks for the newest number some fifty times a
second; an acknowledgement waits until all must have done so. How durable a record is, is the
server's setting.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

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
from feature_store.errors import StoreConflictError, StoreError
from feature_store.ids import hash64
from feature_store.store import OnlineStore, Values

logger = logging.getLogger(__name__)

PREFIX: Final = b"c1/"
NEWEST: Final = PREFIX + b"newest"
ROWS: Final = PREFIX + b"row/"
BATCHES: Final = PREFIX + b"batch/"

LOOK_S: Final = 0.02
SETTLE_S: Final = 4 * LOOK_S
MAX_ATTEMPTS: Final = 50
MAX_BATCHES_BEHIND: Final = 1_000
"""A follower that lacks more batches than this reads everything anew."""


class SharedLog:
    """A CatalogLog in an online store. All products of a batch have its number as sequence."""

    settle_s: Final = SETTLE_S

    def __init__(self, store: OnlineStore) -> None:
        """Begin to follow the store. Raises StoreError."""
        self._store = store
        self._newest = self._read_newest()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="catalog", daemon=True)
        self._thread.start()

    @property
    def version(self) -> int:
        """See CatalogLog."""
        return self._newest

    def append(
        self, changes: Sequence[Change], change_time: int, is_known: Callable[[str], bool]
    ) -> list[Outcome]:
        """See CatalogLog. Raises StoreConflictError when others were faster every time."""
        items = list(dict.fromkeys(change.item for change in changes))
        for _ in range(MAX_ATTEMPTS):
            number = self._read_newest() + 1
            keys = [NEWEST, _batch_key(number), *map(_row_key, items)]
            batch = _Batch(number, items, changes, change_time, is_known)
            try:
                self._store.update_many(keys, batch.write)
            except _TakenError:
                continue
            self._newest = max(self._newest, number)
            return batch.outcomes
        raise StoreConflictError("other servers kept changing the catalogue; send it again later")

    def since(self, sequence: int) -> list[LoggedChange]:
        """See CatalogLog."""
        newest = self._read_newest()
        numbers = range(sequence + 1, newest + 1)
        batches = self._store.get_many([_batch_key(n) for n in numbers[:MAX_BATCHES_BEHIND]])
        if len(numbers) > MAX_BATCHES_BEHIND or any(batch is None for batch in batches):
            return [row for row in self.read(sequence) if row.sequence > sequence]
        items = dict.fromkeys(item for batch in batches if batch for item in json.loads(batch))
        values = self._store.get_many([_row_key(item) for item in items])
        rows = [decode(value) for value in values if value is not None]
        return sorted(rows, key=lambda row: row.sequence)

    def read(self, taken_in: int = 0) -> list[LoggedChange]:
        """See CatalogLog."""
        rows = [decode(value) for _, value in self._store.scan(ROWS)]
        found = {row.item: row for row in rows if row.sequence > taken_in or row.is_new}
        return sorted(found.values(), key=lambda row: row.sequence)

    def trim(self, up_to_sequence: int, before_time: int, is_held: Callable[[str], bool]) -> int:
        """See CatalogLog."""
        rows = [decode(value) for _, value in self._store.scan(ROWS)]
        num_gone = 0
        for row in rows:
            if row.sequence <= up_to_sequence and is_done(row, before_time, is_held):
                self._store.update_many([_row_key(row.item)], _deleting(row.sequence))
                num_gone += 1
        for key, _ in list(self._store.scan(BATCHES)):
            if int(key.removeprefix(BATCHES)) <= up_to_sequence - MAX_BATCHES_BEHIND:
                self._store.update_many([key], lambda values: [None for _ in values])
        return num_gone

    def close(self) -> None:
        """See CatalogLog."""
        self._is_closed.set()
        self._thread.join()

    def _read_newest(self) -> int:
        (value,) = self._store.get_many([NEWEST])
        return int(value or b"0")

    def _look(self) -> None:
        """Follow the newest number; a store that is away is asked again."""
        is_away = False
        while not self._is_closed.wait(LOOK_S):
            try:
                self._newest = max(self._newest, self._read_newest())
                is_away = False
            except StoreError as error:
                if not is_away:
                    logger.error("the catalogue's log cannot be followed: %s", error)
                is_away = True
                time.sleep(LOOK_S)


class _TakenError(Exception):
    """Another process gave the number to its own batch."""


class _Batch:
    """One batch on its way into the store; `outcomes` once it was written."""

    def __init__(
        self,
        number: int,
        items: Sequence[str],
        changes: Sequence[Change],
        change_time: int,
        is_known: Callable[[str], bool],
    ) -> None:
        self._number, self._items, self._changes = number, items, changes
        self._time, self._is_known = change_time, is_known
        self.outcomes: list[Outcome] = []

    def write(self, old: Values) -> Values:
        """The records after the batch: the newest number, its products, each one's row."""
        if int(old[0] or b"0") != self._number - 1:
            raise _TakenError
        rows = {
            item: decode(value) if value else None
            for item, value in zip(self._items, old[2:], strict=True)
        }
        self.outcomes = [self._put(rows, change) for change in self._changes]
        batch = json.dumps(self._items).encode()
        values = [encode(row) if row else None for row in rows.values()]
        return [b"%d" % self._number, batch, *values]

    def _put(self, rows: dict[str, LoggedChange | None], change: Change) -> Outcome:
        before, known = rows[change.item], self._is_known(change.item)
        outcome = outcome_of(before.change if before else None, change, is_known=known)
        if is_kept(outcome):
            rows[change.item] = after(before, change, self._time, self._number, is_new=not known)
        return outcome


def _deleting(sequence: int) -> Callable[[Values], Values]:
    """A change that deletes a row unless it was written to since."""

    def delete(values: Values) -> Values:
        return [None if v is None or decode(v).sequence == sequence else v for v in values]

    return delete


def _row_key(item: str) -> bytes:
    return ROWS + hash64(item).to_bytes(8, "big")


def _batch_key(number: int) -> bytes:
    return BATCHES + b"%016d" % number
