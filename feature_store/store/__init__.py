"""The online store: the newest feature values, read and changed by every serving process.

One small seam, so that a laptop and a cluster run the same code: memory (the reference),
LMDB (the embedded default) and Redis or Valkey (several machines). It knows keys and
values, not what they mean; a value that must expire holds its own expiry time.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from feature_store.errors import StoreUrlError
from feature_store.store.memory import MemoryStore
from feature_store.store.records import MAX_KEY_BYTES, Change, Record, Values

__all__ = [
    "MAX_KEY_BYTES",
    "Change",
    "MemoryStore",
    "OnlineStore",
    "Record",
    "Values",
    "open_store",
]


class OnlineStore(Protocol):
    """Records of bytes under keys of 1 to MAX_KEY_BYTES bytes.

    What a method wrote is seen by every process once it returns, and outlives the death of
    any process, though not of the machine: the event log is for that. Threads may share it.
    Any method raises a StoreError when the store fails, and ValueError for a key
    or value that cannot be kept.
    """

    def get_many(self, keys: Sequence[bytes]) -> Values:
        """The values in the order of `keys`, None where there is none; one round trip.

        All are of the same moment. The values are copies: they stay valid for ever.
        """

    def update_many(self, keys: Sequence[bytes], change: Change) -> None:
        """Change all these records or none, as one step that no other process interleaves.

        `change` takes the values (None: absent) and returns as many, None to delete; a value
        returned as it was is not written. It runs again when another writer was faster, so
        it must be pure, quick, and use no store. What it raises is passed on, and nothing is
        written. `keys` must be distinct.
        """

    def put_many(self, records: Iterable[Record]) -> None:
        """Write many records, in batches: for loading, not for a request's path.

        Each batch is kept whole or not at all. Stopped half way, run it again.
        """

    def scan(self, prefix: bytes) -> Iterator[Record]:
        """Every record whose key starts with `prefix`, while others may go on writing.

        A record that is there all the time is given at least once, in key order or,
        in Redis, in none and maybe twice. `b""` means all.
        """

    def close(self) -> None:
        """Let go of files and connections; twice does no harm.

        A store that is used afterwards raises StoreError.
        """


def open_store(url: str) -> OnlineStore:
    """The store at this address.

    `memory:`                          in this process only
    `lmdb:DIRECTORY`                   on this machine, made when absent
    `redis://HOST:PORT/DB`             Redis or Valkey; also rediss:// and unix://, with the
                                       options of redis-py and `namespace=` in the query

    Raises StoreUrlError for any other address, StoreUnavailableError when no server answers.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        return MemoryStore()
    if scheme == "lmdb" and rest:
        from feature_store.store.embedded import LmdbStore

        return LmdbStore(Path(rest))
    if scheme in ("redis", "rediss", "unix"):
        from feature_store.store.remote import RedisStore

        return RedisStore.from_url(url)
    raise StoreUrlError(
        f"a store's address cannot start with {scheme!r}; "
        "use memory:, lmdb:DIRECTORY or redis://HOST:PORT/DB"
    )
