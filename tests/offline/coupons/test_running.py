"""What is left of running coupons' money, and which coupons have a known cost."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from feature_store.coupons import MICROS, Campaign, coupon_account
from offline.coupons.running import running_coupons
from offline.dataset import Dataset
from online.coupons.pacing import repriced, start
from online.coupons.usual import Usual
from tests.offline.coupons.test_pricing import SEGMENT, limited, priced
from tests.offline.coupons.test_redemption import micros, shop

NUM_USED, LEFT = 20, 4.0


def with_money(owner: str, budget: float, *, dated: bool, num_used: int = 0) -> Dataset:
    """The shop whose coupon or campaign has a budget, and of it so many units used."""
    dataset = limited(budget=budget if owner == "coupon" else None)
    data = dataset.coupons
    campaigns = data.campaigns.with_columns(
        budget=pl.lit(budget if owner == "campaign" else None, pl.Float64),
        end_time=pl.col("end_time") if dated else pl.lit(None, pl.Datetime("us", "UTC")),
    )
    # Baskets of 30.00 are what is assumed without any: they earn the same.
    redemptions = (
        shop()
        .coupons.redemptions.head(num_used)
        .with_columns(item=pl.lit(data.coupons["item"][0]), basket_amount=pl.lit(30.0))
    )
    changed = replace(data, campaigns=campaigns, redemptions=redemptions)
    return replace(dataset, coupons=changed)


@pytest.mark.parametrize("owner", ["coupon", "campaign"])
@pytest.mark.parametrize("dated", [True, False])
def test_what_redemptions_gave_is_no_part_of_a_budget_any_more(owner: str, dated: bool) -> None:
    used = priced(with_money(owner, LEFT + NUM_USED, dated=dated, num_used=NUM_USED))
    left, whole = (
        priced(with_money(owner, budget, dated=dated)) for budget in (LEFT, LEFT + NUM_USED)
    )
    (price,) = used.shadow_prices.values()
    assert used.shadow_prices == left.shadow_prices
    assert price > 2 * next(iter(whole.shadow_prices.values()))


def test_a_redemption_without_a_price_has_given_the_face_value() -> None:
    dataset = with_money("coupon", 30.0, dated=False, num_used=NUM_USED)
    data = dataset.coupons
    unknown = data.redemptions.with_columns(price=pl.lit(None, pl.Float32))
    for given, left in ((data.redemptions, 10.0), (unknown, 10.0)):
        rows = running_coupons(replace(dataset, coupons=replace(data, redemptions=given)))
        assert rows["budget"].to_list() == [left]
    spent = with_money("coupon", 3.0, dated=False, num_used=NUM_USED)
    assert running_coupons(spent)["budget"].to_list() == [0.0], "no less than nothing"


@pytest.mark.parametrize("owner", ["coupon", "campaign"])
def test_the_first_price_is_the_one_that_pacing_finds(owner: str) -> None:
    """In the middle of a campaign: what is left of the money for what is left of the time."""
    budget = LEFT + NUM_USED
    dataset = with_money(owner, budget, dated=True, num_used=NUM_USED)
    found, (row,) = priced(dataset), dataset.coupons.campaigns.to_dicts()
    ((name, price),) = found.shadow_prices.items()
    first, last = micros(row["start_time"]), micros(row["end_time"])
    one = Campaign(name, start_time=first, end_time=last, budget=round(budget * MICROS))
    plan = Usual(found.demand).plan(one, name, price, scale=7.5)
    used = np.array([NUM_USED * 1e6])
    elapsed = (dataset.horizon_time - first) / (last - first)
    assert elapsed == pytest.approx(0.6)
    pace = start(plan, used, elapsed - 0.01)
    assert repriced(plan, pace, used, elapsed).price[0] == pytest.approx(price, rel=0.1)


@pytest.mark.parametrize(
    "discount",
    [
        {"discount": "percent", "value": 20.0},
        {"discount": "gift", "value": None, "gift_item": "i01"},
        {"discount": "free_delivery", "value": None},
    ],
)
def test_whatever_has_a_maximum_is_priced_at_it(discount: dict[str, Any]) -> None:
    limits: dict[str, Any] = {"floor_audience": SEGMENT, "floor_share": 0.4, "max_claims": 9.0}
    limits["budget"] = 3.0
    amount, other = (priced(limited(**one, **limits)) for one in ({}, discount | {"maximum": 1.0}))
    (item,) = limited().coupons.coupons["item"]
    assert other == amount
    assert other.floor_prices[item] > 0
    assert coupon_account(item) in other.shadow_prices
    assert not len(running_coupons(limited(**discount, max_claims=9.0))), "its cost has no bound"
