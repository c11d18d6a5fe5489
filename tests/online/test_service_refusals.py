"""What is refused, and how: with a status that a program can act on."""

import threading
import time
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from aisle.v1 import context_pb2, corpus_pb2, event_pb2, recommendation_pb2
from online.pipeline import Pipeline, SizedSource
from online.process.server import CONTRACT
from online.types import NOTHING, Found, Query
from tests.online.serving import (
    TIMEOUT_S,
    Caller,
    detail,
    ids,
    refused,
    serving,
    settings_of,
)
from tests.worlds import World

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
PRODUCT, COUPON = corpus_pb2.CORPUS_PRODUCT, corpus_pb2.CORPUS_COUPON


def quota(corpus: corpus_pb2.Corpus.ValueType, count: int = 0, *kinds: str) -> object:
    return recommendation_pb2.CorpusQuota(corpus=corpus, count=count, kinds=kinds)


@pytest.mark.parametrize(
    ("fields", "violated"),
    [
        ({"placement": "Bad Name"}, ["placement"]),
        ({"placement": ""}, ["placement"]),
        ({"placement": "nowhere"}, ["placement"]),
        ({"page_size": -1}, ["page_size"]),
        ({"user": "u" * 257}, ["user_id"]),
        ({"exclude_ids": ["p01", ""]}, ["exclude_ids[1]"]),
        (
            {"context": context_pb2.Context(item_ids=["", "p01", ""])},
            ["context.item_ids[0]", "context.item_ids[2]"],
        ),
        (
            {"context": context_pb2.Context(locale="!"), "page_size": -2},
            ["context.locale", "page_size"],
        ),
        ({"corpora": [quota(PRODUCT), quota(PRODUCT)]}, ["corpora"]),
        ({"corpora": [quota(PRODUCT, 9)], "page_size": 8}, ["corpora"]),
        ({"corpora": [quota(COUPON, 150), quota(PRODUCT, 51)]}, ["corpora"]),
        ({"corpora": [quota(PRODUCT, 0, "fresh")]}, ["corpora[0].kinds"]),
        ({"placement": "nowhere", "validate_only": True}, ["placement"]),
        ({"filter": "price <"}, ["filter"]),
        ({"filter": "colour = red", "validate_only": True}, ["filter"]),
    ],
)
def test_a_bad_request_names_its_fields(
    read_only_server: Caller, fields: dict[str, Any], violated: list[str]
) -> None:
    with refused(INVALID) as caught:
        read_only_server.recommend(**fields)
    request = detail(caught, error_details_pb2.BadRequest)
    assert sorted(one.field for one in request.field_violations) == violated
    assert all(one.description for one in request.field_violations)
    assert detail(caught, error_details_pb2.ErrorInfo).reason == "BAD_REQUEST"


def test_what_asks_for_nothing_more_is_answered(read_only_server: Caller) -> None:
    situation = context_pb2.Context(
        device=context_pb2.DEVICE_MOBILE, channel="web", campaign="spring", time_zone="Asia/Tokyo"
    )
    response = read_only_server.recommend(
        context=situation, diversity=0.0, disable_exploration=True, corpora=[quota(PRODUCT)]
    )
    assert ids(response) == ids(read_only_server.recommend())


METHODS = [
    (service.full_name, method)
    for file in CONTRACT
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("service", "method"), METHODS, ids=[method.name for _, method in METHODS])
def test_every_method_of_the_contract_is_built(
    read_only_server: Caller, service: str, method: MethodDescriptor
) -> None:
    path = f"/{service}/{method.name}"
    channel: Any = read_only_server.channel  # the stubs want coders; bytes need none
    kinds = ("unary", "stream")
    kind = f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}"
    given = iter([b""]) if method.client_streaming else b""
    code = grpc.StatusCode.OK
    try:
        answer = getattr(channel, kind)(path)(given, timeout=TIMEOUT_S)
        if method.server_streaming:
            next(answer, None)
    except grpc.RpcError as error:
        code = getattr(error, "code", lambda: UNIMPLEMENTED)()
    assert code is not UNIMPLEMENTED


def test_a_message_that_is_too_large_is_refused(world: World) -> None:
    with serving(settings_of(world, max_message_kb=16)) as (caller, _):
        visited = [context_pb2.SessionItem(item_id="x" * 250)] * 100
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
            caller.recommend(session_items=visited)


class Slow:
    """A source that takes its time."""

    name = "slow"

    def __init__(self) -> None:
        self.is_released = threading.Event()

    def retrieve(self, _query: Query, _limit: int) -> Found:
        self.is_released.wait(10)
        return NOTHING


def slowed(pipeline: Pipeline, source: Slow) -> Pipeline:
    return replace(pipeline, sources=(SizedSource(source, 10),))


def test_too_many_calls_are_told_to_try_again(world: World) -> None:
    source = Slow()
    with serving(settings_of(world, max_recommends=2, deadline_ms=5_000)) as (caller, parts):
        snapshot = parts.engine.snapshot
        pipelines = dict(snapshot.pipelines, home=slowed(snapshot.pipelines["home"], source))
        parts.engine.snapshot = replace(snapshot, pipelines=pipelines)
        request = recommendation_pb2.RecommendRequest(placement="home")
        waiting = [caller.recommendations.Recommend.future(request) for _ in range(2)]
        health = health_pb2_grpc.HealthStub(caller.channel)
        time.sleep(0.3)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
            caller.recommend()
        retry = detail(caught, error_details_pb2.RetryInfo)
        assert 0 < retry.retry_delay.ToMilliseconds() <= 1_000
        state = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        assert state.status == health_pb2.HealthCheckResponse.SERVING
        assert caller.write(event_pb2.Event())  # other methods have room of their own
        source.is_released.set()
        assert all(one.result().items for one in waiting)
        assert caller.recommend().items


def test_health_names_what_is_served(read_only_server: Caller) -> None:
    health = health_pb2_grpc.HealthStub(read_only_server.channel)
    for service in ("", "aisle.v1.RecommendationService", "aisle.v1.EventService"):
        state = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert state.status == health_pb2.HealthCheckResponse.SERVING
    with refused(grpc.StatusCode.NOT_FOUND):
        health.Check(health_pb2.HealthCheckRequest(service="aisle.v1.NoService"))


def test_reflection_shows_the_whole_contract(read_only_server: Caller) -> None:
    database = ProtoReflectionDescriptorDatabase(read_only_server.channel)
    services = set(database.get_services())
    ours = {name for name in services if name.startswith("aisle.v1.")}
    assert len(ours) == 7
    assert {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= services
    file = database.FindFileContainingSymbol("aisle.v1.RecommendationService")
    assert [one.name for one in file.service[0].method] == ["Recommend", "Explain"]
