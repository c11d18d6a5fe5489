"""Whatever breaks behind the edge, the answer comes, in time, and says what it lacks."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from aisle.v1 import recommendation_pb2
from feature_store.errors import StoreUnavailableError
from feature_store.store import MemoryStore
from feature_store.store.records import Change, Values
from online.engine import Engine
from online.known import Known
from online.pipeline import Pipeline, SizedSource
from online.placements import Fatigue
from online.process.server import Parts
from online.snapshot import open_snapshot
from online.types import (
    NOTHING,
    Candidates,
    Cause,
    Degraded,
    Found,
    Mask,
    Query,
    Request,
    Scores,
    Selection,
    Source,
)
from tests.online.serving import degraded, detail, event, ids, refused, serving, settings_of
from tests.online.shops import items, open_shop, request
from tests.worlds import HORIZON_TIME, NUM_ITEMS, World, is_even, user_id

NEW_ONLY = recommendation_pb2.PURCHASE_MODE_NEW_ONLY


@dataclass
class Broken:
    """Any stage, failing."""

    name: str

    def retrieve(self, _query: Query, _limit: int) -> Found:
        raise RuntimeError("broken")

    def keep(self, _query: Query, _candidates: Candidates) -> Mask:
        raise RuntimeError("broken")

    def score(self, _query: Query, _candidates: Candidates) -> Scores:
        raise RuntimeError("broken")

    def main_sources(
        self, _query: Query, _candidates: Candidates, _positions: np.ndarray
    ) -> np.ndarray:
        raise RuntimeError("broken")

    def select(self, _query: Query, _candidates: Candidates, _scores: Scores) -> Selection:
        raise RuntimeError("broken")


@dataclass
class Hanging:
    """A source that does not come back until it is let go."""

    name: str = "hanging"
    is_released: threading.Event = field(default_factory=threading.Event)
    num_calls: int = 0

    def retrieve(self, _query: Query, _limit: int) -> Found:
        self.num_calls += 1
        self.is_released.wait(20)
        return NOTHING


@dataclass
class Sleepy:
    """A source that takes a known time."""

    seconds: float
    name: str = "sleepy"

    def retrieve(self, _query: Query, _limit: int) -> Found:
        time.sleep(self.seconds)
        return NOTHING


class GoneStore(MemoryStore):
    """A store whose server does not answer, after so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.is_gone = False
        self.seconds = seconds

    def get_many(self, keys: Sequence[bytes]) -> Values:
        self._fail()
        return super().get_many(keys)

    def update_many(self, keys: Sequence[bytes], change: Change) -> None:
        self._fail()
        super().update_many(keys, change)

    def _fail(self) -> None:
        if self.is_gone:
            time.sleep(self.seconds)
            raise StoreUnavailableError("the store is gone")


def exchange(parts: Parts, **stages: Any) -> None:
    """Put other stages into the pipeline of `home` that is being served."""
    snapshot = parts.engine.snapshot
    pipeline = replace(snapshot.pipelines["home"], **stages)
    parts.engine.snapshot = replace(snapshot, pipelines={**snapshot.pipelines, "home": pipeline})


def home(parts: Parts) -> Pipeline:
    return parts.engine.snapshot.pipelines["home"]


def with_source(parts: Parts, source: Source) -> tuple[SizedSource, ...]:
    """The sources of `home` with another one in the place of ALS."""
    return tuple(
        SizedSource(source, 100) if use.source.name == "als" else use for use in home(parts).sources
    )


@contextmanager
def timely(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize("name", ["repeat", "als", "linear", "popular_week"])
def test_a_source_that_fails_is_named(world: World, name: str) -> None:
    with serving(settings_of(world)) as (caller, parts):
        sources = tuple(
            SizedSource(Broken(name), use.size) if use.source.name == name else use
            for use in home(parts).sources
        )
        exchange(parts, sources=sources)
        for _ in range(3):
            response = caller.recommend(user_id(2))
            assert degraded(response) == {f"source.{name}": "failed"}
            assert len(response.items) == 20


@pytest.mark.parametrize(
    ("stage", "value"),
    [
        ("filters", (Broken("filter.broken"),)),
        ("scorer", Broken("scorer.broken")),
        ("selector", Broken("selector.broken")),
    ],
)
def test_any_other_stage_that_fails_is_named(world: World, stage: str, value: object) -> None:
    with serving(settings_of(world)) as (caller, parts):
        exchange(parts, **{stage: value})
        response = caller.recommend(user_id(2))
        name = f"{stage.removesuffix('s')}.broken"
        assert degraded(response) == {name: "failed"}
        assert len(response.items) == 20
        assert all(item.reason.text for item in response.items)


def test_without_any_source_there_is_still_something_to_show(world: World) -> None:
    with serving(settings_of(world)) as (caller, parts):
        names = [f"b{number}" for number, _ in enumerate(home(parts).sources)]
        exchange(parts, sources=tuple(SizedSource(Broken(name), 10) for name in names))
        response = caller.recommend(user_id(2))
        assert degraded(response) == {f"source.{name}": "failed" for name in names}
        assert len(response.items) == 20
        assert {item.source for item in response.items} == {"popular"}


def test_an_engine_that_fails_is_answered_for(world: World) -> None:
    with serving(settings_of(world)) as (caller, parts):
        exchange(parts, scorer=None)  # no stage fails here, the pipeline itself does
        response = caller.recommend(user_id(2))
        assert degraded(response) == {"engine": "failed"}
        assert len(response.items) == 20


def test_a_source_that_hangs_is_answered_for_then_left_out(world: World) -> None:
    with serving(settings_of(world, deadline_ms=500)) as (caller, parts):
        healthy = home(parts).sources
        source = Hanging()
        exchange(parts, sources=with_source(parts, source))
        with timely(2):
            response = caller.recommend(user_id(2))
        assert degraded(response) == {"source.hanging": "timed_out"}
        assert len(response.items) == 20
        # Until the thread is replaced all are answered for; then the stage is skipped.
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with timely(2):
                response = caller.recommend(user_id(2))
            assert len(response.items) == 20
            assert "source.hanging" in degraded(response)
            if degraded(response) == {"source.hanging": "skipped"}:
                break
        assert source.num_calls == 1
        assert response.items[0].source == "repeat"
        exchange(parts, sources=healthy)
        assert not caller.recommend(user_id(2)).degraded
        source.is_released.set()
        time.sleep(0.1)
        assert not caller.recommend(user_id(2)).degraded


def test_the_callers_deadline_is_kept(world: World) -> None:
    with serving(settings_of(world, deadline_ms=10_000)) as (caller, parts):
        source = Hanging()
        exchange(parts, sources=with_source(parts, source))
        with timely(2):
            response = caller.recommend(user_id(2), timeout_s=1.5)
        assert degraded(response) == {"source.hanging": "timed_out"}
        source.is_released.set()


def test_what_would_be_late_is_skipped(world: World) -> None:
    with serving(settings_of(world, deadline_ms=3_000)) as (caller, parts):
        exchange(parts, sources=with_source(parts, Sleepy(0.6)))
        for _ in range(3):
            assert not caller.recommend(user_id(2)).degraded
        with timely(0.6):
            response = caller.recommend(user_id(2), timeout_s=0.5)
        assert degraded(response) == {"source.sleepy": "skipped"}
        assert response.items[0].source == "repeat"


def test_one_late_run_is_no_reason_to_skip(world: World) -> None:
    with serving(settings_of(world, deadline_ms=500)) as (caller, parts):
        source = Sleepy(0)
        exchange(parts, sources=with_source(parts, source))
        assert not caller.recommend().degraded
        source.seconds = 0.7
        assert degraded(caller.recommend()) == {"source.sleepy": "timed_out"}
        time.sleep(0.4)
        source.seconds = 0
        assert not caller.recommend().degraded
        source.seconds = 0.7
        for expected in ("timed_out", "timed_out", "skipped"):
            assert degraded(caller.recommend()) == {"source.sleepy": expected}
            time.sleep(0.4)


def test_waiting_for_others_is_named_too(world: World) -> None:
    with serving(settings_of(world, deadline_ms=4_000)) as (caller, parts):
        exchange(parts, sources=with_source(parts, Sleepy(2)))
        request = recommendation_pb2.RecommendRequest(placement="home")
        first = caller.recommendations.Recommend.future(request, timeout=5)
        time.sleep(0.2)
        response = caller.recommend(placement="trending", timeout_s=1.3)
        assert degraded(response) == {"queue": "timed_out"}
        assert len(response.items) == 20
        assert not first.result().degraded


def test_the_answer_for_a_late_pipeline_obeys_the_request(world: World) -> None:
    with serving(settings_of(world, deadline_ms=300)) as (caller, parts):
        source = Hanging()
        exchange(parts, sources=with_source(parts, source))
        unwanted = [f"p{n:02}" for n in range(0, NUM_ITEMS, 2)]
        response = caller.recommend(exclude_ids=unwanted, page_size=100)
        assert degraded(response) == {"source.hanging": "timed_out"}
        assert sorted(ids(response)) == [f"p{n:02}" for n in range(1, NUM_ITEMS, 2)]
        source.is_released.set()


def test_the_answer_for_a_late_pipeline_minds_what_is_known_of_the_user(world: World) -> None:
    with serving(settings_of(world, deadline_ms=500)) as (caller, parts):
        caller.write(event("p04", "DISLIKE", user_id=user_id(2), event_id="d"))
        source = Hanging()
        exchange(parts, sources=with_source(parts, source))
        every: dict[str, Any] = {"page_size": 100, "purchase_mode": NEW_ONLY}
        response = caller.recommend(user_id(2), **every)
        assert degraded(response) == {"source.hanging": "timed_out"}
        shown = set(ids(response))
        assert not shown & (world.bought(2) | {"p04"})
        assert len(shown) >= 10
        # What waits behind the stuck one has not read the store.
        response = caller.recommend(user_id(2), placement="chat", **every)
        causes = degraded(response)
        assert set(causes.values()) == {"timed_out", "skipped"}
        assert causes["store"] == causes["purchase_mode"] == "skipped"
        stranger = degraded(caller.recommend(placement="chat", **every))
        assert not {"store", "purchase_mode"} & set(stranger)
        source.is_released.set()


def test_a_popular_answer_repeats_nothing_that_was_just_shown(pristine_world: World) -> None:
    shop = open_shop(pristine_world, fatigue=Fatigue(hours=1.0))
    first = shop.ask(2, page_size=5)
    shop.show(first, 2, HORIZON_TIME - 1)
    asked = request(2, page_size=60)
    kept: list[Known] = []
    shop.engine.recommend(asked, note=kept.append)
    late = Degraded("source.als", Cause.TIMED_OUT)
    slate = shop.engine.recommend_popular(asked, late, kept[0])
    assert slate.degraded == (late,)
    assert not set(items(first)) & set(items(slate))
    unread = shop.engine.recommend_popular(asked, late)
    assert unread.degraded == (late, Degraded("store", Cause.SKIPPED))


def test_a_store_that_is_gone_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GoneStore()
    monkeypatch.setattr("online.process.server.open_store", lambda _url: store)
    with serving(settings_of(world)) as (caller, _):
        store.is_gone = True
        response = caller.recommend(user_id(2))
        assert degraded(response) == {"store": "unavailable"}
        assert len(response.items) == 20
        assert not caller.recommend().degraded  # a stranger needs no store
        with refused(grpc.StatusCode.UNAVAILABLE) as caught:
            caller.write(event(user_id="u", event_id="a", kind="PURCHASE"))
        assert detail(caught, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        store.is_gone = False
        assert [i.source for i in caller.recommend("u").items].count("repeat") <= 1
        caller.write(event(user_id="u", event_id="a", kind="PURCHASE"))
        assert [i.source for i in caller.recommend("u").items].count("repeat") == 1
        assert not caller.recommend("u").degraded


def test_a_store_that_does_not_answer_costs_no_more_than_the_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GoneStore(seconds=1)
    monkeypatch.setattr("online.process.server.open_store", lambda _url: store)
    with serving(settings_of(world, deadline_ms=300)) as (caller, _):
        store.is_gone = True
        causes = []
        for _ in range(10):
            with timely(0.9):
                response = caller.recommend(user_id(2))
            assert len(response.items) == 20
            causes.append(degraded(response)["store"])
        assert causes[0] == "timed_out"
        assert causes[-1] == "skipped"


def test_a_damaged_state_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from feature_store.ids import Pseudonymizer
    from feature_store.state import state_key
    from tests.worlds import KEY

    store = MemoryStore()
    store.put_many([(state_key(Pseudonymizer(KEY).digest("u")), b"damaged")])
    monkeypatch.setattr("online.process.server.open_store", lambda _url: store)
    with serving(settings_of(world)) as (caller, _):
        response = caller.recommend("u")
        assert degraded(response) == {"store": "failed"}
        assert len(response.items) == 20


def test_requests_of_one_call_are_kept_apart(pristine_world: World) -> None:
    from feature_store.bundle import open_bundle

    engine = Engine(MemoryStore(), open_snapshot(open_bundle(pristine_world.bundle)))
    sessions = [("p01", "p03"), ("p00", "p02")]
    slates = engine.recommend_many(
        [Request(HORIZON_TIME, session_items=items) for items in sessions]
    )
    for slate, parity in zip(slates, (False, True), strict=True):
        brought = [place.item for place in slate.items if place.source == "als"]
        assert all(is_even(item) == parity for item in brought)
