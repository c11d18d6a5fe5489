"""The online store in this process's memory: the reference, and enough for tests and export.

It is the one store that other processes do not see.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence

from feature_store.errors import StoreError
from feature_store.store.records import (
    Change,
    Record,
    Values,
    batches,
    check_distinct,
    check_keys,
    differences,
)


class MemoryStore:
    """An OnlineStore that is a dictionary under a lock."""

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        self._is_open = True

    def get_many(self, keys: Sequence[bytes]) -> Values:
        """See OnlineStore."""
        check_keys(keys)
        with self._lock:
            return self._get(keys)

    def update_many(self, keys: Sequence[bytes], change: Change) -> None:
        """See OnlineStore."""
        check_distinct(keys)
        with self._lock:
            old = self._get(keys)
            for key, value in differences(keys, old, change(list(old))).items():
                if value is None:
                    del self._records[key]
                else:
                    self._records[key] = value

    def put_many(self, records: Iterable[Record]) -> None:
        """See OnlineStore."""
        for batch in batches(records):
            with self._lock:
                self._check_open()
                self._records.update(batch)

    def scan(self, prefix: bytes) -> Iterator[Record]:
        """See OnlineStore."""
        with self._lock:
            self._check_open()
            found = [record for record in self._records.items() if record[0].startswith(prefix)]
        yield from sorted(found)

    def close(self) -> None:
        """See OnlineStore."""
        self._is_open = False

    def copy(self) -> "MemoryStore":
        """Another store that holds the same records."""
        other = MemoryStore()
        with self._lock:
            self._check_open()
            other._records = dict(self._records)
        return other

    def _get(self, keys: Sequence[bytes]) -> Values:
        self._check_open()
        return [self._records.get(key) for key in keys]

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError("the store is closed; open it again with open_store")
