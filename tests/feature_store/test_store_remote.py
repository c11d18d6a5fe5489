"""The store in Redis: what every shared store does, and what a network adds.

Uses the server on this machine when there is one, else starts `redis-server` or
`valkey-server`, else skips.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis

from feature_store.errors import StoreConflictError, StoreUnavailableError
from feature_store.store import OnlineStore, open_store
from feature_store.store.records import Values
from feature_store.store.remote import RedisStore
from tests.feature_store.redis_server import DATABASE, free_port, server_port, socket_url, url
from tests.feature_store.store_suite import SharedStoreSuite, add_one, counts

__all__ = ["server_port", "socket_url", "url"]


@pytest.fixture
def store(url: str) -> Iterator[OnlineStore]:
    store = open_store(url)
    yield store
    store.close()


class TestRedisStore(SharedStoreSuite):
    """Over a real connection."""


class CountingConnection(redis.Connection):
    """Counts how often something is sent, which is what a round trip begins with."""

    num_sent = 0

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        CountingConnection.num_sent += 1
        super().send_packed_command(*arguments, **options)  # type: ignore[no-untyped-call]


def test_a_read_is_one_round_trip_and_a_change_two(server_port: int, url: str) -> None:
    pool = redis.ConnectionPool(connection_class=CountingConnection, port=server_port, db=DATABASE)
    store = RedisStore(redis.Redis(connection_pool=pool), url.partition("namespace=")[2])
    keys = [b"%d" % i for i in range(301)]
    store.update_many(keys, add_one)
    CountingConnection.num_sent = 0
    assert counts(store, *keys) == [1] * 301
    assert CountingConnection.num_sent == 1
    store.update_many(keys, add_one)
    assert CountingConnection.num_sent == 3
    store.close()
    pool.disconnect()


def test_namespaces_keep_apart(store: OnlineStore, url: str) -> None:
    other = open_store(f"{url}other:")
    other.put_many([(b"a", b"1")])
    assert store.get_many([b"a"]) == [None]
    assert list(store.scan(b"a")) == []
    other.close()


def test_an_update_gives_up_when_another_writer_is_always_faster(
    store: OnlineStore, url: str
) -> None:
    rival = open_store(url)
    num_calls = 0

    def change(values: Values) -> Values:
        nonlocal num_calls
        num_calls += 1
        rival.update_many([b"a"], add_one)
        return [b"mine" for _ in values]

    with pytest.raises(StoreConflictError, match="later"):
        store.update_many([b"a"], change)
    assert counts(store, b"a") == [num_calls]
    rival.close()


def test_an_update_starts_again_from_the_newest_value(store: OnlineStore, url: str) -> None:
    rival = open_store(url)
    seen: list[Values] = []

    def change(values: Sequence[bytes | None]) -> Values:
        if not seen:
            rival.put_many([(b"a", b"theirs")])
        seen.append(list(values))
        return [b"mine"]

    store.update_many([b"a"], change)
    assert seen == [[None], [b"theirs"]]
    assert store.get_many([b"a"]) == [b"mine"]
    rival.close()


def test_a_server_is_reached_by_a_file(socket_url: str) -> None:
    with closing(open_store(socket_url)) as store:
        store.put_many([(b"a", b"1")])
        assert store.get_many([b"a", b"b"]) == [b"1", None]


def test_a_server_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(StoreUnavailableError, match="server failed"):
        open_store(f"redis://127.0.0.1:{free_port()}")


def test_a_server_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            open_store(f"redis://127.0.0.1:{port}?socket_timeout=0.2")
        assert time.monotonic() - start < 2.0
