"""Recommend over a real server: who asks, where, for what."""

from typing import Any

import pytest

from aisle.v1 import context_pb2, corpus_pb2, event_pb2, recommendation_pb2, slate_pb2
from online.feedback.attribution import TokenSigner
from online.placements import PLACEMENTS, POPULAR_LISTS
from tests.online.serving import Caller, ids, serving, settings_of
from tests.worlds import HORIZON_TIME, KEY, NUM_ITEMS, UNAVAILABLE, World, is_even, item_id, user_id

SOURCES = {use.source for use in PLACEMENTS["home"].sources} | {"popular"}
NEW_ONLY = recommendation_pb2.PURCHASE_MODE_NEW_ONLY
REPEAT_ONLY = recommendation_pb2.PURCHASE_MODE_REPEAT_ONLY


@pytest.mark.parametrize("user", range(0, 40, 3))
def test_even_users_get_even_items(read_only_server: Caller, user: int) -> None:
    response = read_only_server.recommend(user_id(user))
    assert len(response.items) == len(set(ids(response))) == 20
    assert all(is_even(item) == (user % 2 == 0) for item in ids(response))
    assert not response.degraded
    assert not response.missing_ids


def test_an_answer_says_how_it_came_about(read_only_server: Caller, pristine_world: World) -> None:
    response = read_only_server.recommend(user_id(2))
    assert response.model_version == pristine_world.bundle.name
    assert response.request_time.ToMicroseconds() == HORIZON_TIME
    scores = [item.score for item in response.items]
    assert scores == sorted(scores, reverse=True)
    for item in response.items:
        assert item.corpus == corpus_pb2.CORPUS_PRODUCT
        assert item.propensity == 1
        assert item.source in SOURCES
        assert item.reason.code
        assert item.reason.text
        assert not item.HasField("display")


def test_nobody_gets_a_seed_and_somebody_does_not(world: World) -> None:
    with serving(settings_of(world)) as (caller, parts):
        for user, session in (("", ""), ("", ""), (user_id(2), ""), ("", "s")):
            caller.recommend(user, session_id=session)
        seeds = [request.seed for request in parts.watchdog.recent]
    assert seeds[2:] == [0, 0]
    assert 0 != seeds[0] != seeds[1] != 0


def test_each_answer_has_its_own_token(read_only_server: Caller) -> None:
    first, second = (read_only_server.recommend(user_id(2)) for _ in range(2))
    assert ids(first) == ids(second)
    assert first.attribution_token != second.attribution_token
    attribution = TokenSigner(KEY).read(first.attribution_token)
    assert attribution is not None
    assert attribution.request_id.hex() == first.request_id
    assert (attribution.placement, attribution.model_version) == ("home", first.model_version)


def test_the_reason_of_a_repeat_is_true(read_only_server: Caller, pristine_world: World) -> None:
    bought = [one for one in pristine_world.purchases if one.user == 4]
    for item in read_only_server.recommend(user_id(4)).items:
        if item.source == "repeat":
            times = [one.time for one in bought if item_id(one.item) == item.item_id]
            days = (HORIZON_TIME - max(times)) // 86_400_000_000
            assert dict(item.reason.parameters) == {"count": str(len(times)), "days": str(days)}


def test_the_full_view_shows_the_item(read_only_server: Caller) -> None:
    response = read_only_server.recommend(user_id(2), view=slate_pb2.ITEM_VIEW_FULL)
    for item in response.items:
        number = int(item.item_id[1:])
        display = item.display
        assert display.title == f"Even thing {number:02}"
        assert display.category == f"Even > Aisle {number % 5}"
        assert display.brand == f"Brand {number % 3}"
        assert display.url == f"https://shop.example/{item.item_id}"
        assert display.image_url == f"https://shop.example/{item.item_id}.png"
        assert display.price.currency_code == "USD"
        assert display.price.units + display.price.nanos / 1e9 == 1 + number / 4


@pytest.mark.parametrize("who", [{}, {"user": "nobody knows"}, {"session_id": "fresh"}])
def test_strangers_get_what_sells(read_only_server: Caller, who: dict[str, Any]) -> None:
    response = read_only_server.recommend(**who)
    assert len(response.items) == 20
    assert {item.source for item in response.items} <= set(POPULAR_LISTS)
    assert not response.degraded
    assert ids(response) == ids(read_only_server.recommend())


def test_what_is_not_sold_is_never_shown(read_only_server: Caller) -> None:
    everything = read_only_server.recommend(user_id(6), page_size=1000)
    assert len(everything.items) == NUM_ITEMS - 1
    assert UNAVAILABLE not in ids(everything)


def test_the_items_of_a_session_count(read_only_server: Caller) -> None:
    for parity in (0, 1):
        visited = [context_pb2.SessionItem(item_id=item_id(n)) for n in (parity, parity + 2)]
        response = read_only_server.recommend(session_items=visited)
        brought = [item.item_id for item in response.items if item.source in ("als", "linear")]
        assert len(brought) >= 10
        assert all(is_even(item) == (parity == 0) for item in brought)


def test_a_disliked_item_of_the_session_is_not_shown(read_only_server: Caller) -> None:
    best = ids(read_only_server.recommend(user_id(2)))[0]
    disliked = context_pb2.SessionItem(item_id=best, kind=event_pb2.EVENT_KIND_NOT_INTERESTED)
    assert best not in ids(read_only_server.recommend(user_id(2), session_items=[disliked]))


def test_a_product_page_shows_similar_products(read_only_server: Caller) -> None:
    context = context_pb2.Context(item_ids=["p05", "not ours"])
    response = read_only_server.recommend(placement="product_similar", context=context)
    similar = [item.item_id for item in response.items if item.source.endswith("similar")]
    assert len(similar) >= 15
    assert sum(not is_even(item) for item in similar) >= len(similar) - 2
    assert "p05" not in ids(response)
    assert list(response.missing_ids) == ["not ours"]


def test_ids_that_are_not_known_are_named_once(read_only_server: Caller) -> None:
    context = context_pb2.Context(
        item_ids=["x", "p01"], basket=[context_pb2.BasketLine(item_id=i) for i in ("x", "y")]
    )
    visited = [context_pb2.SessionItem(item_id="z")]
    response = read_only_server.recommend(placement="cart", context=context, session_items=visited)
    assert sorted(response.missing_ids) == ["x", "y", "z"]
    assert len(response.items) == 20


@pytest.mark.parametrize(("asked", "got"), [(0, 20), (1, 1), (7, 7), (10_000, NUM_ITEMS - 1)])
def test_page_size_is_coerced(read_only_server: Caller, asked: int, got: int) -> None:
    assert len(read_only_server.recommend(user_id(1), page_size=asked).items) == got


def test_quotas_say_how_many(read_only_server: Caller) -> None:
    exact = recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_PRODUCT, count=3)
    as_earned = recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_CONTENT)
    for page_size in (0, 9):
        response = read_only_server.recommend(corpora=[exact, as_earned], page_size=page_size)
        assert len(response.items) == 3


def test_purchase_modes(read_only_server: Caller, pristine_world: World) -> None:
    bought = pristine_world.bought(8)
    new = ids(read_only_server.recommend(user_id(8), purchase_mode=NEW_ONLY))
    assert len(new) == 20
    assert not bought & set(new)
    again = ids(read_only_server.recommend(user_id(8), purchase_mode=REPEAT_ONLY, page_size=40))
    assert set(again) == bought - {UNAVAILABLE}


def test_excluded_items_are_not_shown(read_only_server: Caller) -> None:
    best = ids(read_only_server.recommend(user_id(3)))[:10]
    others = ids(read_only_server.recommend(user_id(3), exclude_ids=best))
    assert len(others) == 20
    assert not set(best) & set(others)


def test_validate_only_answers_nothing(read_only_server: Caller) -> None:
    response = read_only_server.recommend(user_id(3), validate_only=True)
    assert response == recommendation_pb2.RecommendResponse()


@pytest.mark.parametrize(
    ("locale", "fallbacks", "text"),
    [
        ("", [], "A favourite of our customers"),
        ("zh-Hans-CN", [], "顾客最爱"),
        ("de-DE", ["fr", "zh"], "顾客最爱"),
        ("de-DE", ["fr"], "A favourite of our customers"),
    ],
)
def test_reasons_speak_the_language_asked_for(
    read_only_server: Caller, locale: str, fallbacks: list[str], text: str
) -> None:
    context = context_pb2.Context(locale=locale, fallback_locales=fallbacks)
    response = read_only_server.recommend(context=context, page_size=59)
    assert text in {item.reason.text for item in response.items}


def test_a_session_is_not_the_user_of_the_same_id(read_only_server: Caller) -> None:
    response = read_only_server.recommend(session_id=user_id(2))
    assert ids(response) == ids(read_only_server.recommend())
