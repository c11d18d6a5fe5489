"""The server as a process: how it starts, what it loads, how it stops, and what survives."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feature_store.event_log import EventLog
from feature_store.ids import KEY_FILE
from online.__main__ import main
from online.process.server import EVENT_LOG
from tests.online.serving import (
    ROOT,
    TIMEOUT_S,
    Caller,
    ServerProcess,
    event,
    ids,
    serving,
    settings_of,
    statuses,
)
from tests.online.test_service_degraded import Sleepy, exchange, with_source
from tests.worlds import KEY, World, is_even, user_id

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHAT_LEARNS = ("implicit", "mlflow", "offline", "pandas", "polars", "pyarrow", "sklearn", "torch")


def test_it_says_when_it_is_ready_and_ends_well(
    server_process: ServerProcess, world: World
) -> None:
    caller = server_process.wait_until_ready()
    expected = f"aisle serves bundle {world.bundle.name} on {caller.address}\n"
    assert server_process.ready_line == expected
    assert all(map(is_even, ids(caller.recommend(user_id(2)))))
    health = health_pb2_grpc.HealthStub(caller.channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING
    assert server_process.terminate() == 0
    assert KEY.hex() not in server_process.log
    assert "AISLE_PSEUDONYM_KEY=(hidden)" in server_process.log


LOOK_INTO_WORKER = """
import asyncio, os, sys
import online.process.worker
from online.process.server import open_parts, run
from online.settings import read_settings

async def look(parts):
    stopping = asyncio.Event()
    await run(parts, lambda line: stopping.set(), stopping)
    print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))

with open_parts(read_settings(os.environ, {"address": "127.0.0.1:0"})) as parts:
    asyncio.run(look(parts))
"""

LOOK_INTO_SUPERVISOR = """
import os, signal, sys
import online.process.supervisor
from online.__main__ import main

run = online.process.supervisor.Supervisor.run

async def look(self, announce):
    def announce_and_look(bundle):
        print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
        self.stop()
    await run(self, announce_and_look)

online.process.supervisor.Supervisor.run = look
sys.exit(main(["serve", "--address", "127.0.0.1:0"]))
"""


def loaded_by(program: str, world: World) -> set[str]:
    environment = {
        "AISLE_HOME": str(world.home),
        "AISLE_PSEUDONYM_KEY": KEY.hex(),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_worker_loads_nothing_that_learns(world: World) -> None:
    loaded = loaded_by(LOOK_INTO_WORKER, world)
    assert {"faiss", "grpc", "numpy", "online"} <= loaded
    assert not loaded & set(WHAT_LEARNS)


def test_the_supervisor_loads_nothing_that_serves(world: World) -> None:
    loaded = loaded_by(LOOK_INTO_SUPERVISOR, world)
    assert "online" in loaded
    assert not loaded & {*WHAT_LEARNS, "aisle", "faiss", "google", "grpc", "numpy", "onnxruntime"}


def test_what_was_acknowledged_outlives_a_kill(world: World) -> None:
    first = ServerProcess(world)
    caller = first.wait_until_ready()
    acknowledged: list[str] = []
    stopping = threading.Event()

    def shop(thread: int) -> None:
        number = 0
        while not stopping.is_set():
            event_id = f"{thread}-{number}"
            bought = event("p01", "PURCHASE", event_id=event_id, user_id=f"new{thread}")
            try:
                assert statuses(caller.write(bought)) == ["accepted"]
            except grpc.RpcError:
                return
            acknowledged.append(event_id)
            number += 1

    with ThreadPoolExecutor(4) as pool:
        shops = [pool.submit(shop, thread) for thread in range(4)]
        time.sleep(0.7)
        first.kill()
        stopping.set()
        for one in shops:
            one.result(TIMEOUT_S)
    assert len(acknowledged) > 20
    log = EventLog(world.home / EVENT_LOG, 0)
    assert set(acknowledged) <= {one.event.event_id for one in log.read(limit=100_000)}
    log.close()

    second = ServerProcess(world)
    caller = second.wait_until_ready()
    for thread in range(4):
        num_acknowledged = sum(one.startswith(f"{thread}-") for one in acknowledged)
        reason = caller.recommend(f"new{thread}").items[0].reason
        assert int(reason.parameters["count"]) in (num_acknowledged, num_acknowledged + 1)
    again = event("p01", "PURCHASE", event_id=acknowledged[0], user_id="new0")
    assert statuses(caller.write(again)) == ["duplicate"]
    assert second.terminate() == 0


def test_a_stop_under_load_drops_nothing(server_process: ServerProcess) -> None:
    caller = server_process.wait_until_ready()
    codes: list[grpc.StatusCode] = []

    def ask(number: int) -> None:
        own = Caller(caller.address)
        try:
            for call in count():
                if number % 2:
                    assert len(own.recommend(user_id(number)).items) == 20
                else:
                    seen = event(user_id=user_id(number), event_id=f"{number}-{call}")
                    assert statuses(own.write(seen)) == ["accepted"]
        except grpc.RpcError as error:
            codes.append(error.code())
        finally:
            own.close()

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, number) for number in range(6)]
        time.sleep(0.5)
        assert server_process.terminate() == 0
        for one in asking:
            one.result(TIMEOUT_S)
    # A call that came too late was not begun; none that was begun was broken off.
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
    assert "Traceback" not in server_process.log


def test_draining_answers_what_is_in_flight(world: World) -> None:
    with ThreadPoolExecutor(1) as pool:
        with serving(settings_of(world, deadline_ms=3_000)) as (caller, parts):
            exchange(parts, sources=with_source(parts, Sleepy(0.5)))
            in_flight = pool.submit(caller.recommend, user_id(2))
            time.sleep(0.2)
        answer = in_flight.result(TIMEOUT_S)
    assert len(answer.items) == 20
    assert not answer.degraded


@pytest.fixture
def cannot_start(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Try to serve; what it says about why it cannot."""

    def attempt(*flags: str, **variables: str) -> str:
        for name, value in {"AISLE_HOME": str(world.home), **variables}.items():
            monkeypatch.setenv(name, value)
        assert main(["serve", "--address", "127.0.0.1:0", *flags]) == 2
        return capsys.readouterr().err

    return attempt


@pytest.mark.parametrize(
    ("flags", "variables", "hint"),
    [
        ((), {"AISLE_STROE": "lmdb:x"}, "did you mean AISLE_STORE?"),
        (("--deadline-ms", "soon"), {}, "--deadline-ms='soon'"),
        (("--store", "ftp://somewhere"), {}, "use memory:, lmdb:DIRECTORY or redis:"),
        (("--bundle", "nowhere"), {}, "nowhere is not a bundle"),
        (("--home", "/tmp/aisle-nowhere"), {}, "run python -m offline sync"),
    ],
)
def test_it_says_why_it_cannot_start(
    cannot_start: Callable[..., str], flags: tuple[str, ...], variables: dict[str, str], hint: str
) -> None:
    said = cannot_start(*flags, **variables)
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert hint in said


def test_a_damaged_bundle_is_not_served(cannot_start: Callable[..., str], world: World) -> None:
    vectors = world.bundle / "als" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x7f")
    assert "does not match its checksum" in cannot_start()


def test_a_home_has_one_server(cannot_start: Callable[..., str], world: World) -> None:
    with serving(settings_of(world)):
        assert "another server uses" in cannot_start()


def test_an_address_in_use_is_refused(cannot_start: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = cannot_start("--address", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "it is in use" in said


def test_an_interrupt_stops_it_too(server_process: ServerProcess) -> None:
    server_process.wait_until_ready()
    server_process.process.send_signal(signal.SIGINT)
    assert server_process.wait() == 0


def test_ask_prints_what_a_page_shows(server_process: ServerProcess) -> None:
    caller = server_process.wait_until_ready()
    command = [sys.executable, "-m", "online", "ask", "--address", caller.address]
    done = subprocess.run(
        [*command, "--user", user_id(2), "--page-size", "3", "--locale", "zh-CN"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stdout.count("Even thing") == 3
    assert "您买过8次" in done.stdout
    assert f"home for {user_id(2)}" in done.stdout


def test_a_key_is_made_once_and_kept(world: World) -> None:
    for expected in ("accepted", "duplicate"):
        with serving(settings_of(world, pseudonym_key=None)) as (caller, _):
            bought = event("p01", "PURCHASE", event_id="a", user_id="u")
            assert statuses(caller.write(bought)) == [expected]
            assert caller.recommend("u").items[0].item_id == "p01"
    assert (world.home / KEY_FILE).stat().st_mode & 0o777 == 0o600
