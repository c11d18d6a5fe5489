"""Threads that hang: of each is known where, and a worker that has lost its pipeline ends."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from aisle.v1 import content_pb2, content_pb2_grpc, coupon_pb2, coupon_pb2_grpc
from online.engine import Engine
from online.pipeline import Attempts, StageTimes
from online.process import channel
from online.process.channel import Channel
from online.process.server import Parts
from online.process.worker import HEARTBEAT_S, _Worker
from online.snapshot import Snapshot
from tests.online.serving import TIMEOUT_S, degraded, serving, settings_of
from tests.online.test_service_degraded import Hanging, exchange, with_source
from tests.worlds import World, user_id


def test_what_one_thread_runs_is_not_what_another_does() -> None:
    times, has_begun, is_over = StageTimes(), threading.Event(), threading.Event()

    def hang() -> None:
        has_begun.set()
        is_over.wait(TIMEOUT_S)

    thread = threading.Thread(target=Attempts(times).always, args=("slow", None, hang))
    thread.start()
    assert has_begun.wait(TIMEOUT_S)
    here: list[str] = []
    attempts = Attempts(times)
    attempts.always("quick", None, lambda: here.append(times.running[threading.get_ident()][0]))
    assert here == ["quick"]
    assert thread.ident is not None
    assert times.running[thread.ident][0] == "slow"
    is_over.set()
    thread.join(TIMEOUT_S)
    assert not times.running


async def heartbeats(parts: Parts) -> int:
    """How many heartbeats a worker with these parts sends before it falls silent."""
    ends = socket.socketpair()
    supervisor, worker = [await Channel.connect(end) for end in ends]
    beating = asyncio.create_task(_Worker(parts, worker, asyncio.Event())._beat())
    num = 0
    try:
        while True:
            message = await supervisor.receive(4 * HEARTBEAT_S)
            assert message is not None
            num += int(message["kind"] == channel.HEARTBEAT)
            if num == 3:
                return num
    except TimeoutError:
        return num
    finally:
        beating.cancel()
        await supervisor.close()
        await worker.close()


def test_a_worker_whose_threads_are_all_stuck_falls_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("online.process.watchdog.MAX_STUCK_THREADS", 1)
    monkeypatch.setattr("online.process.watchdog.HANG_S", 0.2)
    with serving(settings_of(world, deadline_ms=300)) as (caller, parts):
        first, second = Hanging("first"), Hanging("second")
        sources = [with_source(parts, source) for source in (first, second)]
        exchange(parts, sources=sources[0])
        assert degraded(caller.recommend(user_id(2)))
        exchange(parts, sources=sources[1])
        assert asyncio.run(heartbeats(parts)) == 3
        assert not parts.watchdog.is_lost
        for _ in range(20):
            assert caller.recommend(user_id(2)).items
            if parts.watchdog.is_lost:
                break
        assert parts.watchdog.is_lost
        assert (first.num_calls, second.num_calls) == (1, 1)
        assert asyncio.run(heartbeats(parts)) == 0
        first.is_released.set()
        second.is_released.set()


def test_nobody_waits_on_the_event_loop_for_changes_of_the_catalogue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Any = Engine.snapshot
    on_loop: list[bool] = []

    def noting(engine: Engine) -> Snapshot:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            on_loop.append(False)
        else:
            on_loop.append(True)
        found: Snapshot = read.fget(engine)
        return found

    with serving(settings_of(world)) as (caller, _):
        monkeypatch.setattr(Engine, "snapshot", property(noting, read.fset))
        content = content_pb2_grpc.ContentServiceStub(caller.channel)
        content.SearchContent(content_pb2.SearchContentRequest(query="refund"), timeout=TIMEOUT_S)
        coupons = coupon_pb2_grpc.CouponServiceStub(caller.channel)
        asked: dict[str, Any] = {"coupon_id": "none", "user_id": user_id(2)}
        coupons.ExplainCoupon(coupon_pb2.ExplainCouponRequest(**asked), timeout=TIMEOUT_S)
        wish = coupon_pb2.ClaimCouponRequest(
            **asked, request_id="12345678-1234-4234-8234-123456789abc"
        )
        coupons.ClaimCoupon(wish, timeout=TIMEOUT_S)
        monkeypatch.undo()
    assert len(on_loop) >= 3
    assert not any(on_loop)
