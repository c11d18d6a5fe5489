"""Several workers on one port: replaced when they die or hang, led from bundle to bundle."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, Self

import grpc

from feature_store.checksums import MANIFEST, sha256
from feature_store.pointer import Pointer, write_pointer
from online.client import CHANNEL_OPTIONS
from tests.online.serving import TIMEOUT_S, Caller, ServerProcess, Start, event, statuses
from tests.worlds import World, user_id

NUM_CALLERS = 8
"""Connections: enough that both of two workers get some."""


class Load:
    """Callers that ask again and again, each over its own connection, and count the answers."""

    def __init__(
        self,
        address: str,
        *,
        stops_when_refused: bool = False,
        options: tuple[tuple[str, Any], ...] = (),
    ) -> None:
        self._stops_when_refused = stops_when_refused
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.versions: Counter[str] = Counter()
        self._refused: set[int] = set()
        self._address = address
        self._options = options
        self._is_over = Event()
        self._pool = ThreadPoolExecutor(NUM_CALLERS)

    def __enter__(self) -> Self:
        self._asking = [self._pool.submit(self._ask, number) for number in range(NUM_CALLERS)]
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        for asking in self._asking:
            asking.result(TIMEOUT_S)
        self._pool.shutdown()

    def _ask(self, number: int) -> None:
        caller = Caller(self._address, self._options)
        for call in count():
            if self._is_over.is_set() or (number in self._refused and self._stops_when_refused):
                break
            try:
                answer = caller.recommend(user_id((number + call) % 40))
                assert len(answer.items) == 20
                self.codes[grpc.StatusCode.OK] += 1
                self.versions[answer.model_version] += 1
            except grpc.RpcError as error:
                self.codes[error.code()] += 1
                self._refused.add(number)
            time.sleep(0.02)
        caller.close()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something to become true."""
    limit_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < limit_s, f"{what} does not happen"
        time.sleep(0.05)


def address_of(server: ServerProcess) -> str:
    return server.ready_line.split()[-1]


def twin(world: World, change: str) -> Path:
    """Another bundle with the same items; `change` makes its content, and so its id, another."""
    draft = world.bundle.with_name(f"draft-{change}")
    shutil.copytree(world.bundle, draft)
    manifest = json.loads((draft / MANIFEST).read_text())
    manifest["bundleId"] = f"twin-{change}"
    (draft / MANIFEST).write_text(json.dumps(manifest))
    return draft.rename(world.bundle.with_name(manifest["bundleId"]))


def point_to(world: World, bundle: Path) -> None:
    write_pointer(world.home, Pointer("champion", 2, bundle.name, bundle))


def versions(server: ServerProcess) -> set[str]:
    """What new connections are answered from."""
    callers = [Caller(address_of(server)) for _ in range(NUM_CALLERS)]
    found = {caller.recommend(user_id(2)).model_version for caller in callers}
    for caller in callers:
        caller.close()
    return found


def test_a_worker_that_dies_is_replaced(start: Start) -> None:
    server = start("--workers", "2")
    first, second = server.workers()
    with Load(address_of(server), options=CHANNEL_OPTIONS) as load:
        time.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(set(server.workers()) - {first, second}) == 1, "the replacement")
        time.sleep(0.3)
    assert second in server.workers()
    assert server.terminate() == 0
    assert load.codes[grpc.StatusCode.OK] > 50
    # Only what the dead one had in its hands is lost.
    assert load.codes.total() - load.codes[grpc.StatusCode.OK] <= NUM_CALLERS
    assert "worker 0 ended with -9: it is replaced" in server.log


def test_a_worker_that_hangs_is_replaced(start: Start) -> None:
    server = start("--workers", "2", "--hang-s", "3")
    first, second = server.workers()
    os.kill(second, signal.SIGSTOP)
    until(lambda: len(set(server.workers()) - {first, second}) == 1, "the replacement")
    until(lambda: len(versions(server)) == 1, "an answer on every connection")
    assert first in server.workers()
    assert server.terminate() == 0
    assert "worker 1 hung: it is replaced" in server.log


def test_the_bundle_is_swapped_under_load(start: Start, world: World) -> None:
    other = twin(world, "other")
    server = start("--workers", "2")
    with Load(address_of(server)) as load:
        for bundle in (other, world.bundle, other):
            point_to(world, bundle)
            until(partial(serves_only, server, bundle), f"the swap to {bundle}")
    assert set(load.codes) == {grpc.StatusCode.OK}
    assert set(load.versions) == {world.bundle.name, other.name}
    for worker in server.workers():
        until(partial(has_let_go, worker, world.bundle), "the end of the old arrays")
    assert server.terminate() == 0


def serves_only(server: ServerProcess, bundle: Path) -> bool:
    return versions(server) == {bundle.name}


def has_let_go(process: int, bundle: Path) -> bool:
    return str(bundle) not in Path(f"/proc/{process}/maps").read_text()


def test_a_bundle_whose_files_changed_is_refused(start: Start, world: World) -> None:
    broken = twin(world, "broken")
    vectors = broken / "als" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x7f")
    server = start("--workers", "2")
    point_to(world, broken)
    server.read_log_until("does not match its checksum")
    assert versions(server) == {world.bundle.name}
    assert server.terminate() == 0


def test_a_bundle_that_cannot_answer_is_refused(start: Start, world: World) -> None:
    broken = twin(world, "empty")
    (broken / "serving.json").write_text("{}")
    manifest = json.loads((broken / MANIFEST).read_text())
    manifest["files"]["serving.json"] = {
        "sizeBytes": "2",
        "sha256": sha256(broken / "serving.json"),
    }
    (broken / MANIFEST).write_text(json.dumps(manifest))
    server = start("--workers", "2")
    point_to(world, broken)
    server.read_log_until(f"refused, bundle {world.bundle.name} stays: worker 0")
    assert versions(server) == {world.bundle.name}
    assert len(server.workers()) == 2
    assert server.terminate() == 0


def test_a_signal_makes_it_look_again(start: Start, world: World) -> None:
    broken = twin(world, "mended")
    vectors = broken / "als" / "vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-1] + b"\x7f")
    server = start()
    point_to(world, broken)
    server.read_log_until("does not match its checksum")
    vectors.write_bytes(whole)
    server.process.send_signal(signal.SIGHUP)
    until(partial(serves_only, server, broken), "the swap to the mended bundle")


def test_what_one_worker_is_told_all_know(start: Start) -> None:
    server = start("--workers", "2")
    callers = [Caller(address_of(server)) for _ in range(NUM_CALLERS)]
    for number, writer in enumerate(callers):
        user = f"new{number}"
        bought = event("p01", "PURCHASE", user_id=user, event_id=f"e{number}")
        assert statuses(writer.write(bought)) == ["accepted"]
        for reader in callers:
            assert reader.recommend(user).items[0].item_id == "p01"
            assert statuses(reader.write(bought)) == ["duplicate"]
    for caller in callers:
        caller.close()
    assert server.terminate() == 0


def test_all_workers_drain(start: Start) -> None:
    server = start("--workers", "2")
    with Load(address_of(server), stops_when_refused=True) as load:
        time.sleep(0.3)
        workers = server.workers()
        assert server.terminate() == 0
        assert not any(map(is_running, workers))
    assert set(load.codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert "Traceback" not in server.log


def test_workers_do_not_outlive_their_supervisor(start: Start) -> None:
    server = start("--workers", "2")
    workers = server.workers()
    server.process.kill()
    until(lambda: not any(map(is_running, workers)), "the end of the workers")
    assert server.wait() == -signal.SIGKILL


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
