"""Coupons' own money, caps and floors in answers: their prices, and how own money is paced."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from feature_store.bundle import open_bundle
from feature_store.coupon_demand import LADDER, best_of_others
from feature_store.coupon_features import OWN_GOODS
from feature_store.coupons import (
    USER_NAMES,
    Campaign,
    FloorOf,
    Learned,
    coupon_account,
    is_held_out,
)
from feature_store.ledger import Ledger
from feature_store.people import Consent
from feature_store.store import MemoryStore
from online.catalog import Catalog, open_catalog
from online.completion import complete
from online.coupons.asking import asked_of_budgets, earned_per_unit
from online.coupons.live import LiveCoupons
from online.coupons.valuing import (
    Estimates,
    base_rates_only,
    estimate,
    kept_for,
    money_prices,
)
from online.known import Known
from online.snapshot import Snapshot, open_snapshot
from tests.online.coupons import DAY, ONE, columns, coupon
from tests.online.shops import request
from tests.online.test_coupon_shelf import (
    NOW,
    amount,
    claim_of,
    each_its_own,
    history,
    learned_models,
    ledger,
    offered,
    shelf_of,
)
from tests.worlds import World

__all__ = ["ledger"]

SMALL = Known(traits=frozenset({"segment=small"}))
TIMES = {"start_time": NOW - 5 * DAY, "end_time": NOW + 5 * DAY}


@pytest.fixture(scope="module")
def snapshot(pristine_world: World) -> Snapshot:
    return open_snapshot(open_bundle(pristine_world.bundle))


@pytest.fixture(scope="module")
def catalog(pristine_world: World) -> Catalog:
    return open_catalog(open_bundle(pristine_world.bundle))


def test_a_price_of_own_money_or_of_a_cap_makes_a_coupon_dearer(
    tmp_path: Path, snapshot: Snapshot, catalog: Catalog
) -> None:
    """A basket earns 20.00: a coupon of 2.00 is worth its face value 9 times over."""
    coupons = columns(catalog, *each_its_own(coupon("a", budget=99 * ONE), coupon("b")))
    for learned, expected in (
        (Learned(), ["a", "b"]),
        (Learned(shadow_prices={coupon_account("a"): 8.9}), ["b", "a"]),
        (Learned(shadow_prices={coupon_account("a"): 9.1}), ["b"]),
        (Learned(cap_prices={"a": 17.9}), ["b", "a"]),
        (Learned(cap_prices={"a": 18.1}), ["b"]),
    ):
        shelf = shelf_of(coupons, catalog, learned_models(tmp_path, coupons, learned))
        assert offered(shelf, snapshot) == expected


@pytest.mark.parametrize("floor_of", FloorOf)
def test_a_floor_favours_its_segment_at_the_cost_of_others(
    tmp_path: Path, snapshot: Snapshot, catalog: Catalog, floor_of: FloorOf
) -> None:
    floor = {"floor_audience": "segment = small", "floor_share": 0.25, "floor_of": floor_of}
    offer = coupon("a", discount=amount(19.0), **floor)  # earns 1.00 for each redemption
    coupons = columns(catalog, offer)
    earned = 0.01 * 1.0 if floor_of is FloorOf.OFFERS else 1 / 19
    for price, to_small, to_others in ((3.9, True, True), (4.1, True, False)):
        models = learned_models(tmp_path, coupons, Learned(floor_prices={"a": price * earned}))
        shelf = shelf_of(coupons, catalog, models)
        assert bool(offered(shelf, snapshot, SMALL)) is to_small
        assert bool(offered(shelf, snapshot)) is to_others
    found = Estimates(np.array([0.01]), np.array([0.01]), np.zeros(1))
    cost = np.array([19 * ONE])
    mine, theirs = (
        kept_for(coupons, models.held, found, cost, known.traits) for known in (SMALL, Known())
    )
    assert mine == pytest.approx(-3 * theirs), ".75 nearer, .25 further"
    assert kept_for(coupons, None, found, cost, SMALL.traits) == 0.0


def test_what_lots_say_of_a_campaign_is_shared_out_by_redemption(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    """Learned is what offering the best of a campaign does; another one moves fewer, not others."""
    goods = {"own": [3], "far": [7], "alone": [7]}
    named = [coupon("own"), coupon("far"), coupon("alone", campaign="autumn")]
    coupons = columns(catalog, *named, goods=goods)
    chance = {3: 0.2, 7: 0.05}

    def redemption(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.where(features[:, OWN_GOODS] > 0, chance[3], chance[7])

    def uplift(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.where(features[:, OWN_GOODS] > 0, 0.04, 0.3)

    models = replace(base_rates_only(coupons), redemption=redemption, uplift=uplift)
    found = estimate(coupons, models, history(p3=2.0), 2.0, np.ones(3, bool))
    assert found.uplift == pytest.approx([0.04, 0.04 * chance[7] / chance[3], 0.3])
    without = estimate(coupons, models, history(p3=2.0), 2.0, np.array([False, True, True]))
    assert without.uplift == pytest.approx([0.0, 0.3, 0.3]), "of what may be shown"


def test_own_money_is_paced_like_a_campaigns(catalog: Catalog, ledger: Ledger) -> None:
    coupons = columns(catalog, coupon("a", discount=amount(4), budget=100 * ONE, **TIMES))
    first, store = np.array([0.0, 1.0]), MemoryStore()
    live, another = (LiveCoupons(coupons, ledger, store, first) for _ in range(2))
    assert live.prices(NOW).tolist() == [0.0, 1.0]
    for number in range(12):  # 48 of 100 in a tenth of the time
        ledger.claim(claim_of(coupons, 0, str(number), NOW))
    (none, risen) = live.prices(NOW + DAY)
    assert none == 0.0
    assert risen > 1.0
    assert another.prices(NOW + DAY).tolist() == [0.0, risen]
    assert live.prices_without_trace(NOW + DAY).tolist() == [0.0, risen]


def test_visitors_who_ask_for_own_money_move_its_price(catalog: Catalog, ledger: Ledger) -> None:
    coupons = columns(catalog, coupon("a", discount=amount(4), budget=100 * ONE, **TIMES))
    live, alone = (LiveCoupons(coupons, ledger, MemoryStore(), np.array([0.0, 1.0])) for _ in "ab")
    for one in (live, alone):
        one.prices(NOW)
    cost = np.array([0.8 * ONE])
    for _ in range(600):
        live.note(3.0 * cost, cost, np.ones(1, bool))
    for number in range(12):
        ledger.claim(claim_of(coupons, 0, str(number), NOW))
    assert live.prices(NOW + DAY)[1] > alone.prices(NOW + DAY)[1]


def test_what_a_visitor_asks_for_is_what_would_be_shown(catalog: Catalog) -> None:
    """Each budget in turn at each price, the others at theirs: offer by offer, without arrays."""
    rng = np.random.default_rng(3)
    given = [
        coupon(f"c{n}", campaign=f"k{n % 3}", budget=9 * ONE if n % 2 else None) for n in range(9)
    ]
    campaigns = [Campaign("k0", budget=9 * ONE), Campaign("k1", budget=9 * ONE), Campaign("k2")]
    coupons = columns(catalog, *given, campaigns=campaigns)
    prices, shown = rng.random(3 + 4), rng.random(9) < 0.8
    prices[2] = 0.0
    cost = ONE * rng.random(9)
    value = cost * rng.uniform(-0.5, 20, 9)
    found = asked_of_budgets(coupons, value, cost, shown, prices)
    scale = earned_per_unit(coupons)
    for budget, one in enumerate(coupons.budgets):
        for rung in range(0, len(LADDER), 5):
            now = prices.copy()
            now[budget] = LADDER[rung] * scale[budget]
            net = value - money_prices(coupons, now) * cost
            best: dict[int, int] = {}
            for place in np.flatnonzero(shown & (net > 0)).tolist():
                campaign = int(coupons.campaign[place])
                if campaign not in best or net[place] > net[best[campaign]]:
                    best[campaign] = place
            paid = [
                cost[place]
                for place in best.values()
                if one in (coupons.campaigns[coupons.campaign[place]], coupons.coupons[place])
            ]
            expected = sum(paid) if one.budget is not None else 0.0
            assert found[rung, budget] == pytest.approx(expected)


def test_who_is_held_out_gets_none_and_the_others_a_chance_that_is_logged(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    halved = (Campaign("spring", hold_out=0.25),)
    shelf = shelf_of(columns(catalog, coupon("a"), campaigns=halved), catalog)
    drawn = 0
    for number in range(200):
        name = f"{USER_NAMES}{number}"
        known = Known(name=name)
        query, _ = complete(snapshot, request(None), known)
        items = shelf.recommend(query, known, (), 1)
        assert bool(items) is not is_held_out(name, "spring", 0.25)
        assert {item.propensity for item in items} <= {0.75}
        drawn += not items
    assert drawn == pytest.approx(50, abs=20)
    query, _ = complete(snapshot, request(None), Known(name="visit/1"))
    (item,) = shelf.recommend(query, Known(name="visit/1"), (), 1)
    assert item.propensity == 1.0, "lots are drawn of users"


def test_who_refuses_personalization_is_neither_held_out_nor_logged_as_if(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    halved = (Campaign("spring", hold_out=0.25),)
    shelf = shelf_of(columns(catalog, coupon("a"), campaigns=halved), catalog)
    for number in range(30):
        known = Known(name=f"{USER_NAMES}{number}", consent=Consent(personalization=False))
        query, _ = complete(snapshot, request(None), known)
        (item,) = shelf.recommend(query, known, (), 1)
        assert item.propensity == 1.0


def test_of_equal_coupons_nobody_pays_for_the_one_with_money_of_its_own(catalog: Catalog) -> None:
    coupons = columns(catalog, coupon("a", budget=99 * ONE), coupon("b"), coupon("c"))
    value, cost = ONE * np.array([5.0, 5.0, 1.0]), ONE * np.ones(3)
    asked = asked_of_budgets(coupons, value, cost, np.ones(3, bool), np.zeros(2))
    assert not asked[1:, 1].any(), "the other one is as good, and free"
    alone = asked_of_budgets(coupons, value, cost, np.array([True, False, True]), np.zeros(2))
    assert alone[1, 1] == ONE


def test_what_one_has_instead_is_the_first_best_of_the_block() -> None:
    net = np.array([5.0, 5.0, 1.0, 2.0, 3.0, -1.0, -2.0])
    others = best_of_others(net, np.array([0, 3, 5, 6]))
    assert others.tolist() == [5.0, 5.0, 5.0, 3.0, 2.0, 0.0, 0.0]
    assert not len(best_of_others(net[:0], np.zeros(0, np.intp)))


def test_without_money_of_their_own_nothing_changes(catalog: Catalog) -> None:
    coupons = columns(catalog, coupon("a"), coupon("b"))
    models = base_rates_only(coupons)
    assert models.prices.tolist() == [0.0]
    assert models.held is None
    assert money_prices(coupons, np.array([0.5])).tolist() == [0.5, 0.5]
