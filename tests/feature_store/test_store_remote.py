"""The store in Redis: what every shared store does, and what a network adds.

Uses the server on this machine when there is one, else starts `redis-server` or
`valkey-server`, else skips.
"""

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_store.errors import StoreConflictError, StoreUnavailableError
from feature_store.store import OnlineStore, open_store
from feature_store.store.records import Values
from feature_store.store.remote import RedisStore
from tests.feature_store.store_suite import SharedStoreSuite, add_one, counts

USUAL_PORT = 6379
DATABASE = 15


def answers(port: int) -> bool:
    """Whether a server that lets us in listens on this port."""
    try:
        with redis.Redis(port=port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real server."""
    if answers(USUAL_PORT):
        yield USUAL_PORT
        return
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        pytest.skip("no Redis answers on 127.0.0.1:6379, and neither redis-server is installed")
    directory: Path = tmp_path_factory.mktemp("redis")
    port = free_port()
    command = [binary, "--port", str(port), "--save", "", "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 20
        while not answers(port):
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)
        yield port
        server.terminate()


@pytest.fixture
def url(server_port: int) -> Iterator[str]:
    """An address with a namespace of its own, empty before and after."""
    namespace = f"aisle-test-{uuid.uuid4().hex}:"
    yield f"redis://127.0.0.1:{server_port}/{DATABASE}?namespace={namespace}"
    with redis.Redis(port=server_port, db=DATABASE) as client:
        if keys := list(client.scan_iter(f"{namespace}*", count=10_000)):
            client.delete(*keys)


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
