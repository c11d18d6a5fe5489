"""The online store in LMDB: several processes of one machine share one memory-mapped file.

Reads take no lock and wait for nobody. Writers take turns, on a lock that outlives a killed
process. Commits are not synced: the event log is what is durable, and a store that was in use
when the machine stopped is refused, so that it is filled again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from feature_store.errors import StoreError
from feature_store.store.claim import DirectoryClaim
from feature_store.store.gate import Gate
from feature_store.store.records import (
    Change,
    Record,
    Values,
    batches,
    check_distinct,
    check_keys,
    differences,
)

MAP_BYTES: Final = 1 << 30
"""Address space to start with; the file itself grows with its content, the map by doubling."""

MAX_READERS: Final = 1024
SCAN_RECORDS: Final = 256

MANY_KEYS: Final = 256
"""Whoever reads so many keys at a time goes through the store rather than answering a request."""

KEYS_PER_MAP: Final = 20_000
"""After so many keys read by MANY_KEYS the file is mapped anew, or all of it would count as this
process's memory in the end."""

T = TypeVar("T")


class LmdbStore:
    """An OnlineStore in a directory of this machine.

    LMDB must not be open twice in one process, nor be carried over a fork: open it once in
    each worker, after the worker was spawned. The writers' lock has no time limit.
    """

    def __init__(self, directory: Path, map_bytes: int = MAP_BYTES) -> None:
        """Open the store, making it when absent.

        Raises StoreInUseError when this process has it open, StoreDamagedError when the
        machine stopped while it was in use, and StoreError when it cannot be opened.
        """
        self._directory = directory
        self._gate = Gate()
        self._num_resizes = 0
        self._num_read = 0
        self._claim: DirectoryClaim | None = DirectoryClaim(directory)
        try:
            self._environment = _open(directory, map_bytes)
        except lmdb.Error as error:
            self._claim.release(is_synced=False)
            raise StoreError(f"cannot open the store in {directory}: {error}") from error

    def get_many(self, keys: Sequence[bytes]) -> Values:
        """See OnlineStore. Each value is copied once, straight from the map."""
        check_keys(keys)

        def read(environment: lmdb.Environment) -> Values:
            with environment.begin() as transaction:
                return [transaction.get(key) for key in keys]

        if len(keys) >= MANY_KEYS:
            self._let_go(len(keys))
        return self._run(read)

    def update_many(self, keys: Sequence[bytes], change: Change) -> None:
        """See OnlineStore. `change` runs while all other writers wait."""
        check_distinct(keys)

        def write(environment: lmdb.Environment) -> None:
            with environment.begin(write=True) as transaction:
                old: Values = [transaction.get(key) for key in keys]
                for key, value in differences(keys, old, change(list(old))).items():
                    if value is None:
                        transaction.delete(key)
                    else:
                        transaction.put(key, value)

        self._run(write)

    def put_many(self, records: Iterable[Record]) -> None:
        """See OnlineStore."""
        for batch in batches(records):
            batch.sort()

            def write(environment: lmdb.Environment, batch: list[Record] = batch) -> None:
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(batch)

            self._run(write)

    def scan(self, prefix: bytes) -> Iterator[Record]:
        """See OnlineStore. In key order, each page of records of one moment.

        No transaction stays open between pages: it would keep deleted pages from reuse.
        """
        start = prefix
        while page := self._page(start, prefix):
            yield from page
            start = page[-1][0] + b"\0"

    def close(self) -> None:
        """See OnlineStore. The last process to close waits until all is on the disk."""
        with self._gate.alone():
            if self._claim is None:
                return
            is_last = self._claim.become_last()
            if is_last:
                self._environment.sync(force=True)
            self._environment.close()
            self._claim.release(is_synced=is_last)
            self._claim = None

    def _page(self, start: bytes, prefix: bytes) -> list[Record]:
        def read(environment: lmdb.Environment) -> list[Record]:
            with environment.begin() as transaction, transaction.cursor() as cursor:
                if not cursor.set_range(start):
                    return []
                records = zip(range(SCAN_RECORDS), cursor, strict=False)
                found = (record for _, record in records)
                return list(takewhile(lambda record: record[0].startswith(prefix), found))

        self._let_go(SCAN_RECORDS)
        return self._run(read)

    def _let_go(self, num_keys: int) -> None:
        """Map the file anew, now and then, before so many more keys are read of it."""
        self._num_read += num_keys
        if self._num_read >= KEYS_PER_MAP:
            self._num_read = 0
            self._resize(self._num_resizes, growth=1)

    def _run(self, action: Callable[[lmdb.Environment], T]) -> T:
        """Run a transaction, again after each change of the map's size."""
        while True:
            try:
                with self._gate:
                    num_resizes = self._num_resizes
                    return action(self._environment)
            except lmdb.MapFullError:
                self._resize(num_resizes, growth=2)
            except lmdb.MapResizedError:
                self._resize(num_resizes, growth=0)
            except lmdb.Error as error:
                raise StoreError(f"the store in {self._directory} failed: {error}") from error

    def _resize(self, num_resizes: int, growth: int) -> None:
        """Map `growth` times the size (0: what another process chose), unless just resized.

        A growth of 1 lets go of the pages that were read.

        Readers that were killed keep old pages from being reused, so they are removed first.
        """
        try:
            with self._gate.alone():
                if self._num_resizes == num_resizes:
                    self._environment.reader_check()
                    self._environment.set_mapsize(growth * self._environment.info()["map_size"])
                    self._num_resizes += 1
        except lmdb.Error as error:
            raise StoreError(f"the store in {self._directory} failed: {error}") from error


def _open(directory: Path, map_bytes: int) -> lmdb.Environment:
    environment = lmdb.open(
        str(directory),
        map_size=map_bytes,
        max_readers=MAX_READERS,
        max_spare_txns=1,
        readahead=False,
        sync=False,
    )
    environment.reader_check()
    return environment
