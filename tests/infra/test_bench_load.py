"""The load is what it says: open, of many users, and strict about what counts as an answer."""

import asyncio
from typing import Any

import grpc
import numpy as np

from aisle.v1 import recommendation_pb2, slate_pb2
from infra.bench.load import Load, Outcome, drive

SLOW_S = 0.02


def reply(num_items: int = 20, degraded: bool = False) -> recommendation_pb2.RecommendResponse:
    response = recommendation_pb2.RecommendResponse(model_version="v1")
    for number in range(num_items):
        response.items.add(item_id=f"p{number}")
    if degraded:
        response.degraded.append(slate_pb2.DegradedStage(stage="source.als"))
    return response


def answered(method: Any, rate: float, seconds: float) -> Outcome:
    """What came of a load on a server with this method."""

    async def run() -> Outcome:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=recommendation_pb2.RecommendRequest.FromString,
            response_serializer=recommendation_pb2.RecommendResponse.SerializeToString,
        )
        service = "aisle.v1.RecommendationService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Recommend": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        load = Load(f"127.0.0.1:{port}", rate, seconds, num_users=1_000, num_channels=2)
        outcome = await drive(load)
        await server.stop(None)
        return outcome

    return asyncio.run(run())


def test_only_whole_replies_count() -> None:
    replies = [reply(), reply(19), reply(degraded=True), reply()]
    num_asked = 0

    async def answer(_request: Any, context: Any) -> recommendation_pb2.RecommendResponse:
        nonlocal num_asked
        num_asked += 1
        if num_asked % 5 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
        return replies[num_asked % 5 - 1]

    outcome = answered(patient(answer), rate=400, seconds=0.5)
    assert outcome.num_sent == 200
    assert outcome.statuses == {"OK": 160, "RESOURCE_EXHAUSTED": 40}
    assert outcome.num_failed == 40
    assert outcome.whole_share == 0.4
    assert outcome.versions == {"v1": 160}


def patient(method: Any) -> Any:
    """The method after its warm-up calls, which are answered well."""
    num_left = 50

    async def warm(request: Any, context: Any) -> Any:
        nonlocal num_left
        num_left -= 1
        return reply() if num_left >= 0 else await method(request, context)

    return warm


def test_who_waits_because_others_were_slow_is_counted() -> None:
    """A server that answers one after the other is asked twice as often as it can answer."""
    turn = asyncio.Lock()

    async def answer(_request: Any, _context: Any) -> recommendation_pb2.RecommendResponse:
        async with turn:
            await asyncio.sleep(SLOW_S)
        return reply()

    outcome = answered(answer, rate=2 / SLOW_S, seconds=0.5)
    assert outcome.num_whole == outcome.num_sent == 50
    assert outcome.latency(50) > 5 * 1e3 * SLOW_S
    assert outcome.elapsed_s > 50 * SLOW_S


def test_the_schedule_is_fixed_in_advance() -> None:
    load = Load("", rate=500, seconds=20, num_users=1_000)
    assert (load.due_s() == load.due_s()).all()
    assert len(load.due_s()) == load.num_requests == 10_000
    gaps = np.diff(load.due_s())
    assert 0.0018 < gaps.mean() < 0.0022
    assert 0.9 < gaps.std() / gaps.mean() < 1.1


def test_there_are_enough_different_users() -> None:
    users = Load("", rate=1_000, seconds=30, num_users=100_000).users()
    distinct, counts = np.unique(users, return_counts=True)
    assert len(distinct) >= 10_000
    assert distinct.min() >= 0
    assert distinct.max() < 100_000
    assert counts.max() > 20 * np.median(counts)
