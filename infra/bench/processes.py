"""The processes of a bench: started, watched and stopped; what they use is read from the kernel."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import grpc

from aisle.v1 import recommendation_pb2, recommendation_pb2_grpc

ROOT: Final = Path(__file__).parents[2]
LOOPBACK: Final = "127.0.0.1"
READY_S: Final = 60.0
STOP_S: Final = 20.0


class BenchError(Exception):
    """A process of the bench did not do its part; the message says which and what it said."""


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that these processes have used, by their own clocks (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def family(pid: int) -> list[int]:
    """A process and all that it started, itself first."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def private_bytes(pid: int) -> int:
    """Memory that a process shares with no other and that is not a file's either: dirty pages.

    A clean page of a mapped file is the page cache's: another process that reads it shares it.
    """
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty"))


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers: where, in which process, and how long it took to get there."""

    address: str
    pid: int
    ready_s: float

    def ask(self, user: str) -> recommendation_pb2.RecommendResponse:
        """One reply, over a connection of its own."""
        return ask(self.address, user)


def ask(
    address: str, user: str, timeout_s: float = READY_S
) -> recommendation_pb2.RecommendResponse:
    """The reply of `home` for a user; grpc.RpcError when there is none."""
    request = recommendation_pb2.RecommendRequest(user_id=user, placement="home", page_size=20)
    with grpc.insecure_channel(address) as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        return stub.Recommend(request, timeout=timeout_s, wait_for_ready=True)


@contextmanager
def serving(home: Path, *flags: str) -> Iterator[Served]:
    """`python -m online serve` over a home, its clock at the end of the data."""
    command = ("-m", "online", "serve", "--clock", "horizon", *flags)
    with _running(command, home / "server.log", {"AISLE_HOME": str(home)}) as served:
        yield served


@contextmanager
def echoing(reply: bytes, folder: Path) -> Iterator[Served]:
    """The echo server, which always gives this reply."""
    file = folder / "echo.reply"
    file.write_bytes(reply)
    command = ("-m", "infra.bench.echo", "--reply", str(file))
    with _running(command, folder / "echo.log", {}) as served:
        yield served


@contextmanager
def _running(command: tuple[str, ...], log: Path, variables: Mapping[str, str]) -> Iterator[Served]:
    """A server on a free port, stopped on leaving. BenchError when it does not answer."""
    address = free_address()
    with log.open("w") as file:
        started_s = perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command, "--address", address],
            cwd=ROOT,
            env=environment(variables),
            stdout=file,
            stderr=file,
        )
    try:
        _wait_until_it_listens(process, address, log)
        ask(address, "")
        yield Served(address, process.pid, perf_counter() - started_s)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with no setting of ours but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AISLE_")}
    return {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}", **variables}


def free_address() -> str:
    """Where nobody listens now, on this machine."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return f"{LOOPBACK}:{probe.getsockname()[1]}"


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    host, _, port = address.rpartition(":")
    limit_s = perf_counter() + READY_S
    while perf_counter() < limit_s:
        if process.poll() is not None:
            raise BenchError(f"the server ended with {process.returncode}:\n{_tail(log)}")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.01)
    raise BenchError(f"no server listens on {address} after {READY_S:.0f} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text()[-2000:]
