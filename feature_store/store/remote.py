"""The online store in Redis or Valkey, for serving from several machines.

One round trip for a read, two for a change. A change compares and writes in a script on the
server, so no lock is held between the two. How durable a write is, is the server's setting.
"""

import hashlib
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_store.errors import (
    StoreConflictError,
    StoreError,
    StoreUnavailableError,
    StoreUrlError,
)
from feature_store.store.records import (
    Change,
    Record,
    Values,
    batches,
    check_distinct,
    check_keys,
    differences,
)

NAMESPACE: Final = "aisle:"
TIMEOUT_SECONDS: Final = 1.0

MAX_ATTEMPTS: Final = 50
FIRST_PAUSE_SECONDS: Final = 0.001
LONGEST_PAUSE_SECONDS: Final = 0.02

BATCH_RECORDS: Final = 1_000
BATCH_BYTES: Final = 1 << 20

_COMPARE_AND_WRITE: Final = """
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if (value and redis.sha1hex(value) or '') ~= ARGV[3 * i - 2] then return 0 end
end
for i, key in ipairs(KEYS) do
  local action = ARGV[3 * i - 1]
  if action == 'put' then redis.call('SET', key, ARGV[3 * i])
  elseif action == 'delete' then redis.call('DEL', key) end
end
return 1
"""
"""For each key three arguments: the SHA-1 of the value that was read, the action, the new value."""


class RedisStore:
    """An OnlineStore on a server; its keys start with a namespace, so that it can be shared.

    Nothing is retried when the server does not answer: a change may have taken effect.
    """

    def __init__(self, client: "redis.Redis", namespace: str = NAMESPACE) -> None:
        """`client` must return bytes and not retry. Raises StoreUnavailableError."""
        self._client = client
        self._namespace = namespace.encode()
        self._is_open = True
        self._compare_and_write = client.register_script(_COMPARE_AND_WRITE)
        with self._server():
            client.ping()

    @classmethod
    def from_url(cls, url: str) -> "RedisStore":
        """Connect to a redis://, rediss:// or unix:// address, see `open_store`."""
        options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        namespace = options.pop("namespace", NAMESPACE)
        try:
            client = redis.Redis.from_url(
                f"{url.partition('?')[0]}?{urlencode(options)}",
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise StoreUrlError(f"the store's address cannot be used: {error}") from error
        return cls(client, namespace)

    def get_many(self, keys: Sequence[bytes]) -> Values:
        """See OnlineStore."""
        check_keys(keys)
        with self._server():
            return self._get(self._named(keys))

    def update_many(self, keys: Sequence[bytes], change: Change) -> None:
        """See OnlineStore. Raises StoreConflictError when others were faster every time."""
        check_distinct(keys)
        pause_seconds = FIRST_PAUSE_SECONDS
        for _ in range(MAX_ATTEMPTS):
            if self._try_update(keys, change):
                return
            time.sleep(random.uniform(0, pause_seconds))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
        raise StoreConflictError(
            f"{len(keys)} records kept changing during {MAX_ATTEMPTS} attempts; send it again later"
        )

    def put_many(self, records: Iterable[Record]) -> None:
        """See OnlineStore."""
        for batch in batches(records, BATCH_RECORDS, BATCH_BYTES):
            with self._server():
                self._client.mset({self._namespace + key: value for key, value in batch})

    def scan(self, prefix: bytes) -> Iterator[Record]:
        """See OnlineStore. In no order; a record may come twice while the server rehashes."""
        pattern = _literal(self._namespace + prefix) + b"*"
        cursor = 0
        while True:
            with self._server():
                cursor, keys = cast(Any, self._client.scan(cursor, pattern, BATCH_RECORDS))
                values = self._get(keys)
            for key, value in zip(keys, values, strict=True):
                if value is not None:
                    yield key[len(self._namespace) :], value
            if not cursor:
                return

    def close(self) -> None:
        """See OnlineStore."""
        self._is_open = False
        self._client.close()

    @contextmanager
    def _server(self) -> Iterator[None]:
        """Around each call, so that all failures are ours."""
        if not self._is_open:
            raise StoreError("the store is closed; open it again with open_store")
        try:
            yield
        except redis.RedisError as error:
            raise StoreUnavailableError(
                f"the store's server failed: {type(error).__name__}: {error}"
            ) from error

    def _named(self, keys: Sequence[bytes]) -> list[bytes]:
        return [self._namespace + key for key in keys]

    def _get(self, named: Sequence[bytes]) -> Values:
        return cast(Values, self._client.mget(named)) if named else []

    def _try_update(self, keys: Sequence[bytes], change: Change) -> bool:
        """Whether the change was written, or none was needed."""
        named = self._named(keys)
        with self._server():
            old = self._get(named)
        new = differences(keys, old, change(list(old)))
        if not new:
            return True
        arguments: list[bytes | str] = []
        for key, before in zip(keys, old, strict=True):
            arguments += [_digest(before), *_action(key, new)]
        with self._server():
            return bool(self._compare_and_write(keys=named, args=arguments))


def _digest(value: bytes | None) -> str:
    return "" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest()


def _action(key: bytes, new: dict[bytes, bytes | None]) -> tuple[str, bytes]:
    if key not in new:
        return "keep", b""
    value = new[key]
    return ("delete", b"") if value is None else ("put", value)


def _literal(prefix: bytes) -> bytes:
    """The glob pattern that matches exactly this text."""
    return re.sub(rb"([\\*?\[\]])", rb"\\\1", prefix)
