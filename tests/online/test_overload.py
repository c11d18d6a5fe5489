"""More load than can be answered: the surplus is refused at once, the rest is in time and whole."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aisle.v1 import recommendation_pb2
from online.metrics import REQUESTS
from tests.online.serving import TIMEOUT_S, Caller, detail, refused, serving, settings_of
from tests.online.test_service_degraded import Sleepy, exchange, with_source
from tests.worlds import World, user_id

RUN_S = 0.02
NUM_CALLS = 150
SPACING_S = 0.005
DEADLINE_MS = 800


@dataclass
class Reply:
    """What became of a call of the burst."""

    code: grpc.StatusCode | None = None
    elapsed_s: float = 0.0
    is_whole: bool = False


def burst(caller: Caller) -> list[Reply]:
    """Calls at fixed instants, whether or not the earlier ones have been answered."""
    replies = [Reply() for _ in range(NUM_CALLS)]
    left = threading.Semaphore(0)
    for number, reply in enumerate(replies):
        request = recommendation_pb2.RecommendRequest(
            user_id=user_id(number % 40), placement="home"
        )
        started_s = time.monotonic()
        call = caller.recommendations.Recommend.future(request, timeout=TIMEOUT_S)

        def note(call: Any, reply: Reply = reply, started_s: float = started_s) -> None:
            reply.elapsed_s = time.monotonic() - started_s
            reply.code = call.code()
            if reply.code is grpc.StatusCode.OK:
                answer = call.result()
                reply.is_whole = len(answer.items) == 20 and not answer.degraded
            left.release()

        call.add_done_callback(note)
        time.sleep(SPACING_S)
    for _ in replies:
        assert left.acquire(timeout=TIMEOUT_S)
    return replies


@contextmanager
def checking_health(caller: Caller) -> Iterator[list[int]]:
    """Ask again and again whether the server is well; what it said."""
    stub = health_pb2_grpc.HealthStub(caller.channel)
    statuses: list[int] = []
    is_over = threading.Event()

    def check() -> None:
        while not is_over.wait(0.05):
            statuses.append(stub.Check(health_pb2.HealthCheckRequest(), timeout=1).status)

    with ThreadPoolExecutor(1) as pool:
        checking = pool.submit(check)
        yield statuses
        is_over.set()
        checking.result(TIMEOUT_S)


def test_the_surplus_is_refused_at_once(world: World) -> None:
    settings = settings_of(world, deadline_ms=DEADLINE_MS, max_recommends=10_000)
    with serving(settings) as (caller, parts):
        exchange(parts, sources=with_source(parts, Sleepy(RUN_S)))
        for _ in range(5):
            caller.recommend()
        with checking_health(caller) as statuses:
            replies = burst(caller)
        answered = [reply for reply in replies if reply.code is grpc.StatusCode.OK]
        shed = [r for r in replies if r.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(answered) + len(shed) == NUM_CALLS
        assert len(answered) > 10
        assert len(shed) > NUM_CALLS // 3
        assert max(reply.elapsed_s for reply in answered) < DEADLINE_MS / 1_000
        assert all(reply.is_whole for reply in answered)
        assert set(statuses) == {health_pb2.HealthCheckResponse.SERVING}
        counted = parts.metrics.counts
        assert counted[REQUESTS, "Recommend", "home", "RESOURCE_EXHAUSTED"] == len(shed)


def test_who_is_refused_learns_when_to_come_again(world: World) -> None:
    with serving(settings_of(world, deadline_ms=100)) as (caller, parts):
        exchange(parts, sources=with_source(parts, Sleepy(RUN_S)))
        for _ in range(5):
            caller.recommend()
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
            request = recommendation_pb2.RecommendRequest(placement="home")
            for call in [caller.recommendations.Recommend.future(request) for _ in range(30)]:
                call.result(TIMEOUT_S)
        delay = detail(caught, error_details_pb2.RetryInfo).retry_delay
        assert delay.ToMilliseconds() == 100
