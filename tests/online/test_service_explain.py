"""Explain over a real server, and what is kept of what was shown."""

import pytest

from aisle.v1 import context_pb2, recommendation_pb2
from feature_store.event_log import EventLog
from feature_store.schema import EventKind
from online.process.server import EVENT_LOG
from tests.online.serving import TIMEOUT_S, Caller, ids, serving, settings_of
from tests.online.shops import TestShop, items, number, open_shop, request
from tests.worlds import HORIZON_TIME, KEY, NUM_ITEMS, UNAVAILABLE, World, item_id, user_id

Response = recommendation_pb2.ExplainResponse
NEW_ONLY = recommendation_pb2.PURCHASE_MODE_NEW_ONLY


def explain(caller: Caller, item: str, user: str = "", **fields: object) -> Response:
    asked = recommendation_pb2.RecommendRequest(
        **{"user_id": user, "placement": "home", **fields}  # type: ignore[arg-type]
    )
    call = recommendation_pb2.ExplainRequest(item_id=item, recommend=asked)
    return caller.recommendations.Explain(call, timeout=TIMEOUT_S)


def removed_by(response: Response) -> list[str]:
    return [one.filter for one in response.filters if not one.kept]


def test_every_item_gets_the_verdict_of_the_slate(read_only_server: Caller) -> None:
    slate = read_only_server.recommend(user_id(2), page_size=10)
    chosen = {item.item_id: (rank, item) for rank, item in enumerate(slate.items, 1)}
    for place in range(NUM_ITEMS):
        response = explain(read_only_server, item_id(place), user_id(2), page_size=10)
        assert response.text
        assert not response.degraded
        assert response.model_version == slate.model_version
        if item_id(place) in chosen:
            rank, item = chosen[item_id(place)]
            assert response.verdict == Response.VERDICT_SELECTED
            assert response.rank == rank
            assert response.score == pytest.approx(item.score, abs=1e-5)
            assert response.reason == item.reason
            found = {one.source: one.rank for one in response.sources}
            assert found[item.source] >= 1
            terms = sum(term.value for term in response.score_terms)
            assert terms == pytest.approx(item.score, abs=1e-4)
        elif item_id(place) == UNAVAILABLE:
            assert response.verdict == Response.VERDICT_FILTERED
            assert removed_by(response) == ["available"]
        else:
            assert response.verdict in (
                Response.VERDICT_OUTRANKED,
                Response.VERDICT_NOT_RETRIEVED,
            )
            assert not response.HasField("reason")


def test_what_removed_it_is_named(read_only_server: Caller, pristine_world: World) -> None:
    best = ids(read_only_server.recommend(user_id(2)))[0]
    south = context_pb2.Context(region="south")
    assert removed_by(explain(read_only_server, best, user_id(2), exclude_ids=[best])) == [
        "excluded"
    ]
    assert removed_by(explain(read_only_server, best, user_id(2), filter="price > 90")) == [
        "filter"
    ]
    assert removed_by(explain(read_only_server, "p06", user_id(2), context=south)) == ["region"]
    owned = min(pristine_world.bought(2) - {UNAVAILABLE})
    response = explain(read_only_server, owned, user_id(2), purchase_mode=NEW_ONLY)
    assert removed_by(response) == ["new_only"]
    assert response.verdict == Response.VERDICT_FILTERED


def test_which_filter_removed_it_is_named(pristine_world: World) -> None:
    shop: TestShop = open_shop(pristine_world)

    def removed(item: str, placement: str = "home", **fields: object) -> list[str]:
        found = shop.engine.explain(request(2, placement, **fields), item)
        return [one.name for one in found.filters if not one.kept]

    assert removed("p04", context_items=("p04",)) == ["looked_at"]
    assert removed("p04", basket_items=("p04",)) == ["in_basket"]
    assert removed("p04", "product_similar", session_items=("p04",)) == ["seen"]
    assert removed("p04", exclude_items=("p04",), basket_items=("p04",)) == [
        "excluded",
        "in_basket",
    ]
    slate = shop.ask(2, "new_arrivals", page_size=5)
    shop.show(slate, 2, HORIZON_TIME - 1)
    assert removed(items(slate)[0], "new_arrivals") == ["shown_lately"]
    shop.show(slate, 2, HORIZON_TIME - 1, EventKind.DISLIKE)
    assert removed(items(slate)[0]) == ["disliked"]
    shop.show(slate, 2, HORIZON_TIME - 1, EventKind.PURCHASE)
    assert "not_due" in removed(items(slate)[0], "email")


def test_an_unknown_item_is_no_error(read_only_server: Caller) -> None:
    response = explain(read_only_server, "not ours")
    assert response.verdict == Response.VERDICT_UNKNOWN_ITEM
    chinese = context_pb2.Context(locale="zh-CN")
    assert (
        explain(read_only_server, "not ours", context=chinese).text == "当前商品目录中没有该商品。"
    )


def test_rules_and_caps_are_findings(pristine_world: World) -> None:
    from online.explain.explaining import Verdict

    shop: TestShop = open_shop(
        pristine_world,
        {"name": "gone", "action": "block", "items": ["p04"]},
        {"name": "up", "action": "boost", "items": ["p06"], "factor": 2},
        {"name": "one", "action": "cap", "by": "brand", "count": 1},
    )
    gone = shop.engine.explain(request(2), "p04")
    assert gone.verdict is Verdict.FILTERED
    assert {one.name for one in gone.filters if not one.kept} >= {"rule.gone"}
    boosted = shop.engine.explain(request(2), "p06")
    assert dict(boosted.terms)["rules"] > 0
    assert [one.kept for one in boosted.filters if one.name == "rule.up"] == [True]
    slate = shop.ask(2)
    assert len(slate.items) == 3
    held = {number(item.item) % 3 for item in slate.items}
    assert held == {0, 1, 2}
    verdicts = {shop.engine.explain(request(2), item_id(place)).verdict for place in range(58)}
    assert Verdict.SELECTED in verdicts
    capped = [shop.engine.explain(request(2), item_id(place)) for place in range(58)]
    assert any(one.verdict is Verdict.FILTERED and one.rank for one in capped)


def test_what_was_shown_is_kept_and_not_repeated(world: World) -> None:
    with serving(settings_of(world)) as (caller, parts):
        first = caller.recommend(user_id(2), placement="new_arrivals", page_size=10)
        parts.showing.flush()
        second = caller.recommend(user_id(2), placement="new_arrivals", page_size=10)
        assert len(second.items) == 10
        assert not set(ids(first)) & set(ids(second))
        validated = caller.recommend(user_id(2), validate_only=True)
        assert not validated.items
        home = caller.recommend(session_id="visit", disable_exploration=True)
        parts.showing.flush()
    exposures = [one.exposure for one in EventLog(world.home / EVENT_LOG, 0).read_exposures()]
    assert [one.placement for one in exposures] == ["new_arrivals", "new_arrivals", "home"]
    kept = exposures[0]
    assert kept.attribution_token == first.attribution_token
    assert list(kept.items) == ids(first)
    assert list(kept.propensities) == [item.propensity for item in first.items]
    assert kept.model_version == first.model_version
    assert set(kept.corpora) == {"product"}
    assert len(kept.user) == 64
    assert user_id(2) not in str(kept)
    assert exposures[2].session
    assert list(exposures[2].items) == ids(home)
    assert KEY
