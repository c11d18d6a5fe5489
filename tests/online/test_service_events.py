"""Events over a real server: durable, counted once, and in the very next answer."""

import time
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2

from aisle.v1 import event_pb2, money_pb2, recommendation_pb2
from feature_store.event_log import EventLog
from feature_store.schema import EVENT_KINDS, MICROSECONDS_PER_DAY
from online.process.server import EVENT_LOG
from online.settings import Clock
from tests.online.serving import (
    TIMEOUT_S,
    Caller,
    detail,
    event,
    ids,
    refused,
    serving,
    settings_of,
    statuses,
)
from tests.worlds import HORIZON_TIME, NUM_ITEMS, World, is_even, item_id, user_id

NEW_ONLY = recommendation_pb2.PURCHASE_MODE_NEW_ONLY


def logged(home: Path) -> EventLog:
    """The log of a server that has stopped."""
    return EventLog(home / EVENT_LOG, 0)


def test_a_purchase_is_in_the_next_answer(server: Caller) -> None:
    fresh = ids(server.recommend(user_id(2), purchase_mode=NEW_ONLY))[0]
    bought = event(fresh, "PURCHASE", event_id="e1", user_id=user_id(2), quantity=2)
    assert statuses(server.write(bought)) == ["accepted"]
    assert fresh not in ids(server.recommend(user_id(2), purchase_mode=NEW_ONLY))
    places = {item.item_id: item for item in server.recommend(user_id(2)).items}
    assert places[fresh].source == "repeat"
    assert dict(places[fresh].reason.parameters) == {"count": "1", "days": "0"}


def test_every_write_is_in_the_next_answer(server: Caller) -> None:
    for number in range(20):
        bought = event(item_id(number), "PURCHASE", user_id="newcomer")
        assert statuses(server.write(bought)) == ["accepted"]
        own = [i.item_id for i in server.recommend("newcomer").items if i.source == "repeat"]
        assert len(own) == number + 1


@pytest.mark.parametrize("who", ["user_id", "session_id"])
def test_views_of_a_stranger_count(server: Caller, who: str) -> None:
    visitor, other = cast(Any, {who: "v1"}), cast(Any, {who: "v2"})
    views = [event(item_id(n), "VIEW", **visitor) for n in (1, 3, 5)]
    assert statuses(server.write(*views)) == ["accepted"] * 3
    brought = [i for i in server.recommend(**visitor).items if i.source == "als"]
    assert len(brought) >= 10
    assert not any(is_even(item.item_id) for item in brought)
    assert ids(server.recommend(**other)) == ids(server.recommend())


def test_a_session_counts_for_a_user_who_logs_in(server: Caller) -> None:
    server.write(*(event(item_id(n), "CART_ADD", session_id="s1") for n in (1, 3, 5, 7)))
    plain = ids(server.recommend(user_id(2), purchase_mode=NEW_ONLY))
    visiting = ids(server.recommend(user_id(2), session_id="s1", purchase_mode=NEW_ONLY))
    assert sum(map(is_even, visiting)) < sum(map(is_even, plain))


def test_yesterdays_views_are_over(server: Caller) -> None:
    old = event("p01", "VIEW", session_id="s1")
    old.event_time.FromMicroseconds(HORIZON_TIME - 2 * MICROSECONDS_PER_DAY)
    assert statuses(server.write(old)) == ["accepted"]
    assert ids(server.recommend(session_id="s1")) == ids(server.recommend())


@pytest.mark.parametrize("kind", ["NOT_INTERESTED", "DISLIKE"])
def test_what_is_not_wanted_is_gone(server: Caller, kind: str) -> None:
    best = ids(server.recommend(user_id(2)))[0]
    server.write(event(best, kind, user_id=user_id(2)))
    assert best not in ids(server.recommend(user_id(2), page_size=100))


@pytest.mark.parametrize("kind", [kind.value for kind in EVENT_KINDS])
def test_every_kind_is_taken(server: Caller, kind: str) -> None:
    assert statuses(server.write(event("p01", kind.upper(), user_id="u"))) == ["accepted"]
    assert len(server.recommend("u").items) == 20


def test_an_event_sent_twice_counts_once(server: Caller) -> None:
    once = event("p01", "PURCHASE", event_id="same", user_id="u")
    assert statuses(server.write(once, once)) == ["accepted", "duplicate"]
    assert statuses(server.write(once)) == ["duplicate"]
    parameters = {i.item_id: i.reason.parameters for i in server.recommend("u").items}
    assert parameters["p01"]["count"] == "1"


def test_an_event_without_an_id_gets_one_from_its_content(server: Caller) -> None:
    one = event("p01", "PURCHASE", user_id="u")
    one.event_time.FromMicroseconds(HORIZON_TIME)
    other = event("p02", "PURCHASE", user_id="u")
    other.event_time.FromMicroseconds(HORIZON_TIME)
    first, second, third = server.write(one, other, one)
    assert statuses([first, second, third]) == ["accepted", "accepted", "duplicate"]
    assert first.event_id == third.event_id != second.event_id


def bad_events() -> dict[str, tuple[event_pb2.Event, str]]:
    late = event(user_id="u")
    late.event_time.FromJsonString("2099-01-01T00:00:00Z")
    early = event(user_id="u")
    early.event_time.FromJsonString("1970-01-01T00:00:01Z")
    return {
        "nobody": (event(), ""),
        "no item": (event("", "PURCHASE", user_id="u"), ""),
        "no kind": (event_pb2.Event(item_id="p01", user_id="u"), "kind"),
        "negative": (event(user_id="u", quantity=-1), "quantity"),
        "not a number": (event(user_id="u", quantity=float("nan")), "quantity"),
        "long": (event("p" * 257, user_id="u"), "item_id"),
        "future": (late, "event_time"),
        "wrong unit": (early, "event_time"),
        "price": (event(user_id="u", price=money_pb2.Money(units=-3)), "price.units"),
    }


@pytest.mark.parametrize("name", bad_events())
def test_a_bad_event_is_set_aside_and_spoils_no_other(world: World, name: str) -> None:
    bad, field = bad_events()[name]
    good = event("p01", "VIEW", user_id="u", event_id="good")
    with serving(settings_of(world)) as (caller, _):
        outcomes = caller.write(good, bad, event("p02", "VIEW", user_id="u"))
        assert statuses(outcomes) == ["accepted", "rejected", "accepted"]
        assert field in [one.field for one in outcomes[1].violations]
        assert all(one.description for one in outcomes[1].violations)
    (refused,) = logged(world.home).read_refused()
    assert refused.reason
    assert refused.event.item == bad.item_id


def test_a_foreign_currency_is_rejected(world: World) -> None:
    with serving(settings_of(world, currency="USD")) as (caller, _):
        prices = [money_pb2.Money(currency_code=code, units=3) for code in ("USD", "", "EUR")]
        sold = [event("p01", "PURCHASE", user_id="u", event_id=str(n)) for n in range(3)]
        for one, price in zip(sold, prices, strict=True):
            one.price.CopyFrom(price)
        outcomes = caller.write(*sold)
    assert statuses(outcomes) == ["accepted", "accepted", "rejected"]
    assert outcomes[2].violations[0].field == "price.currency_code"


def test_nothing_that_is_kept_names_a_user(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with serving(settings_of(world)) as (caller, _):
        secret = "alice@shop.example"
        caller.write(event(user_id=secret, session_id=secret), event("", user_id=secret))
        caller.recommend(secret, session_id=secret)
    assert secret not in caplog.text
    for path in world.home.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()


def test_an_event_learns_its_placement_from_the_token(world: World) -> None:
    with serving(settings_of(world)) as (caller, _):
        token = caller.recommend(placement="trending").attribution_token
        clicks = [
            event(kind="CLICK", user_id="u", event_id="a", attribution_token=token),
            event(kind="CLICK", user_id="u", event_id="b", attribution_token="forged"),
            event(
                kind="CLICK", user_id="u", event_id="c", attribution_token=token, placement="home"
            ),
        ]
        assert statuses(caller.write(*clicks)) == ["accepted"] * 3
    placements = {one.event.event_id: one.event.placement for one in logged(world.home).read()}
    assert placements == {"a": "trending", "b": "", "c": "home"}


def test_events_without_a_time_happened_now(world: World) -> None:
    with serving(settings_of(world)) as (caller, _):
        caller.write(event(user_id="u"))
    (one,) = logged(world.home).read()
    kept = one.event
    assert kept.event_time == HORIZON_TIME


def test_the_wall_clock_is_the_time_now(world: World) -> None:
    before = time.time_ns() // 1_000
    with serving(settings_of(world, clock=Clock.WALL)) as (caller, _):
        answered = caller.recommend(user_id(2)).request_time.ToMicroseconds()
        caller.write(event(user_id="u"))
    (one,) = logged(world.home).read()
    kept = one.event
    assert before < answered < kept.event_time < time.time_ns() // 1_000


def test_a_stream_acknowledges_batch_by_batch(server: Caller) -> None:
    batches = [
        event_pb2.StreamEventsRequest(
            events=[event(item_id(n), "PURCHASE", user_id="u", event_id=f"{n}") for n in numbers]
        )
        for numbers in ((0, 1), (2,), (2, 3))
    ]
    answers = server.events.StreamEvents(iter(batches))
    found = [statuses(list(answer.outcomes)) for answer in answers]
    assert found == [["accepted", "accepted"], ["accepted"], ["duplicate", "accepted"]]
    own = [i.item_id for i in server.recommend("u").items if i.source == "repeat"]
    assert sorted(own) == ["p00", "p01", "p02", "p03"]


def test_a_batch_must_not_be_empty_or_huge(server: Caller) -> None:
    for num_events in (0, 1001):
        batch = [event(user_id="u")] * num_events
        with refused(grpc.StatusCode.INVALID_ARGUMENT) as caught:
            server.write(*batch)
        violations = detail(caught, error_details_pb2.BadRequest).field_violations
        assert [one.field for one in violations] == ["events"]
        stream = server.events.StreamEvents(
            iter([event_pb2.StreamEventsRequest(events=batch)]), timeout=TIMEOUT_S
        )
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            list(stream)


def test_a_full_batch_is_taken(server: Caller) -> None:
    batch = [
        event(item_id(n % NUM_ITEMS), "PURCHASE", user_id=f"u{n % 7}", event_id=f"{n}")
        for n in range(1000)
    ]
    assert statuses(server.write(*batch)) == ["accepted"] * 1000
    assert statuses(server.write(*batch[:500])) == ["duplicate"] * 500
