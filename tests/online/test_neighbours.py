"""The sources that lead through the shop, on the checkerboard."""

from dataclasses import replace

import numpy as np

from online.completion import complete
from online.known import Known
from online.stages.browsing import Shelves, interval_days
from online.stages.neighbours import Neighbours
from online.types import Source
from tests.online.shops import TestShop, items, number, open_shop, request
from tests.worlds import HORIZON_TIME, NUM_ITEMS, World, is_even

DAY = 86_400_000_000


def source(shop: TestShop, placement: str, name: str) -> Source:
    uses = shop.engine.snapshot.pipelines[placement].sources
    return next(use.source for use in uses if use.source.name == name)


def test_similar_items_are_bought_by_the_same_users(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    similar = source(shop, "product_similar", "similar")
    assert isinstance(similar, Neighbours)
    for item in ("p04", "p05"):
        asked = request(None, "product_similar", context_items=(item,))
        query, _ = complete(shop.engine.snapshot, asked, Known())
        found = similar.retrieve(query, 10)
        assert len(found.items) == 10
        assert all(one % 2 == number(item) % 2 for one in found.items.tolist())
        assert (np.diff(found.scores) <= 0).all()
        assert similar.causes(query, found.items).tolist() == [number(item)] * 10
        reason = similar.reasons(query, found.items)[0]
        assert reason.code == "similar_to_item"
        assert reason.parameters["item_id"] == item


def test_the_sum_over_seeds_is_what_a_loop_gives(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    spoken = source(shop, "cart", "similar_to_visit")
    assert isinstance(spoken, Neighbours)
    asked = request(None, "cart", session_items=("p04", "p06", "p05"))
    query, _ = complete(shop.engine.snapshot, asked, Known())
    assert spoken.seeds_of(query).tolist() == [5, 6, 4]  # the latest first
    total: dict[int, float] = {}
    for place, seed in enumerate((5, 6, 4)):
        rows = range(int(spoken.ends[seed - 1]), int(spoken.ends[seed]))
        for row in rows:
            item = int(spoken.items[row])
            total[item] = total.get(item, 0) + 0.85**place * float(spoken.scores[row])
    found = spoken.retrieve(query, NUM_ITEMS)
    for item, score in zip(found.items.tolist(), found.scores.tolist(), strict=True):
        assert abs(total[item] - score) < 1e-5


def test_a_cart_shows_what_goes_with_it(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    slate = shop.ask(None, "cart", basket_items=("p05", "p07"))
    assert not {"p05", "p07"} & set(items(slate))
    from_basket = [one.item for one in slate.items if one.source != "popular"]
    assert sum(map(is_even, from_basket)) <= len(from_basket) // 4


def test_trending_follows_the_users_departments(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    for user in (2, 3):
        slate = shop.ask(user, "trending", page_size=15)
        mine = [one for one in slate.items if one.source == "trending"]
        assert len(mine) >= 10
        assert all(number(one.item) % 2 == user % 2 for one in mine)
        name = ("Even", "Odd")[user % 2]
        assert {one.reason.code for one in mine} == {"popular_in_category"}
        assert {one.reason.parameters["category"] for one in mine} == {name}


def test_the_category_of_the_page_decides(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    asked = request(None, "product_similar", category="Odd > Aisle 3")
    slate = shop.engine.recommend(asked)
    first = [one for one in slate.items if one.source == "popular_in_category"]
    assert first
    assert all(number(one.item) % 2 and number(one.item) % 5 == 3 for one in first)


def test_new_arrivals_are_new(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    slate = shop.ask(2, "new_arrivals", page_size=10)
    assert {one.source for one in slate.items} == {"new_arrivals"}
    assert {one.reason.code for one in slate.items} == {"new_arrival"}
    created = shop.engine.snapshot.shop.attributes.created_time
    later = HORIZON_TIME + 365 * DAY
    assert (created < HORIZON_TIME).all()
    late = shop.ask(2, "new_arrivals", page_size=10, request_time=later)
    assert {one.source for one in late.items} == {"popular"}  # a year on nothing is new


def test_what_is_due_is_bought_at_intervals(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    due = source(shop, "buy_again", "due")
    times = [one.time for one in pristine_world.purchases if one.user == 4]
    query, _ = shop.engine.candidates(request(4, "buy_again"))
    found = due.retrieve(query, 10)
    assert len(found.items) == 2  # the favourites of every week
    reasons = due.reasons(query, found.items)  # type: ignore[attr-defined]
    for item, reason in zip(found.items.tolist(), reasons, strict=True):
        own = [one.time for one in pristine_world.purchases if (one.user, one.item) == (4, item)]
        days = (max(own) - min(own)) / DAY / (len(own) - 1)
        assert reason.parameters == {"interval_days": str(round(days))}
        assert 5 <= days <= 9
    assert times
    rows = query.state.items[query.state.items["count"] >= 2]
    assert (interval_days(rows) >= 1).all()
    long_ago, _ = shop.engine.candidates(
        replace(request(4, "buy_again"), request_time=HORIZON_TIME + 60 * DAY)
    )
    assert not len(due.retrieve(long_ago, 10).items)


def test_shelves_look_deeper_when_their_best_are_not_allowed(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    num = 2_000
    order = np.arange(num, dtype=np.int32)
    shelves = Shelves(order, -order.astype(np.float32), np.array([0, num]))
    query, _ = complete(shop.engine.snapshot, request(None), Known())
    from online.offering.allowed import allowed_where
    from online.offering.offer import Offer

    allowed = allowed_where(order >= 1_500)
    found = shelves.best(replace(query, offer=Offer(allowed, allowed)), 0, 1, 10)
    assert found.items.tolist() == list(range(1_500, 1_510))
