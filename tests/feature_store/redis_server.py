"""A Redis server for tests: the one on this machine when there is one, else one that is started.

Import `server_port` and `url` where they are needed: pytest finds fixtures by their names.
"""

import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

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
def socket_url() -> Iterator[str]:
    """The address of a server of its own that is reached by a file."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with tempfile.TemporaryDirectory() as directory:  # a path that is short enough for a socket
        path = Path(directory) / "socket"
        command = [binary, "--port", "0", "--save", "", "--unixsocket", str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory) as server:
            deadline = time.monotonic() + 20
            while not path.exists():
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.05)
            yield f"unix://{path}?db=1&namespace=t:"
            server.terminate()


@pytest.fixture
def url(server_port: int) -> Iterator[str]:
    """An address with a namespace of its own, empty before and after."""
    namespace = f"aisle-test-{uuid.uuid4().hex}:"
    yield f"redis://127.0.0.1:{server_port}/{DATABASE}?namespace={namespace}"
    with redis.Redis(port=server_port, db=DATABASE) as client:
        if keys := list(client.scan_iter(f"{namespace}*", count=10_000)):
            client.delete(*keys)
