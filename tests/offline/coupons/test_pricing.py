"""Prices of caps, coupons' own money and floors: that each binds, and that serving goes by it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter
from feature_store.coupons import MICROS, MODELS_FILE, coupon_account, decode_learned
from offline.coupons import pricing
from offline.coupons.examples import read_goods
from offline.coupons.learning import FLOOR_WITHOUT_MEMBERS, learn_coupons, write_learned
from offline.coupons.pairs import running_pairs
from offline.coupons.pricing import Priced, price_limits
from offline.coupons.values import base_rates
from offline.dataset import Dataset
from tests.offline.coupons.test_redemption import NUM_ITEMS, NUM_USERS, shop

SEGMENT = "segment = small"
NUM_SMALL = 30
"""The first users are of the small segment; an offer moves them less than the others."""


def limited(listed: bool = True, **fields: Any) -> Dataset:
    """The shop with one coupon for all goods in a running campaign without a budget."""
    dataset = shop()
    data = dataset.coupons
    campaigns = data.campaigns.tail(1).with_columns(pl.lit(None, pl.Float64).alias("budget"))
    name = campaigns["campaign"][0]
    coupon = data.coupons.filter(pl.col("campaign") == name).head(1)
    values = {"products": None, "value": 1.0, **fields}
    coupon = coupon.with_columns(
        pl.lit(value, dtype=coupon.schema[column]).alias(column) for column, value in values.items()
    )
    traits = pl.DataFrame(
        {"user": dataset.users, "traits": [[trait_of(number)] for number in range(NUM_USERS)]}
    )
    audiences = data.audiences if listed else data.audiences.clear()
    changed = replace(
        data, campaigns=campaigns, coupons=coupon, audiences=audiences, traits=traits,
        redemptions=data.redemptions.clear(),
    )  # fmt: skip
    return replace(dataset, coupons=changed)


def trait_of(user: int) -> str:
    return "segment=small" if user < NUM_SMALL else "segment=large"


def chances(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Redemption and uplift of users: alike in the first, the small segment moved less."""
    uplift = np.where(user < NUM_SMALL, 0.06, 0.15) + 0.0005 * (user % NUM_SMALL)
    return 0.2 + 0.001 * (user % 7), uplift


def priced(dataset: Dataset) -> Priced:
    rates = base_rates(dataset.coupons, NUM_USERS)
    goods = read_goods(dataset)
    pairs = running_pairs(dataset, goods, rates)
    assert pairs is not None
    redemption, uplift = chances(pairs.user)
    return price_limits(dataset, goods, rates, lambda _: redemption, lambda _: uplift)


def test_without_a_limit_nothing_has_a_price() -> None:
    assert running_pairs(limited(), read_goods(limited()), np.ones(1, np.float32)) is None


def test_a_cap_that_binds_has_a_price_and_one_that_does_not_has_none() -> None:
    (item,) = limited().coupons.coupons["item"]
    scarce, plenty = priced(limited(max_claims=5.0)), priced(limited(max_claims=99.0))
    assert scarce.cap_prices[item] > 0
    assert not plenty.cap_prices
    assert not scarce.shadow_prices, "no money is limited"


def test_what_was_redeemed_is_no_part_of_a_cap_any_more() -> None:
    dataset = limited(max_claims=25.0)
    (item,) = dataset.coupons.coupons["item"]
    assert not priced(dataset).cap_prices
    redeemed = shop().coupons.redemptions.head(20).with_columns(item=pl.lit(item))
    used = replace(dataset, coupons=replace(dataset.coupons, redemptions=redeemed))
    assert priced(used).cap_prices[item] > 0


def test_who_has_had_it_as_often_as_one_may_is_not_counted() -> None:
    dataset = limited(max_claims=99.0, max_claims_per_user=1.0)
    (item,) = dataset.coupons.coupons["item"]
    redeemed = shop().coupons.redemptions.head(20).with_columns(item=pl.lit(item))
    used = replace(dataset, coupons=replace(dataset.coupons, redemptions=redeemed))
    rates = base_rates(used.coupons, NUM_USERS)
    pairs = running_pairs(used, read_goods(used), rates)
    assert pairs is not None
    assert len(pairs.user) == NUM_USERS - redeemed["user"].n_unique()


@pytest.mark.parametrize("listed", [True, False])
def test_own_money_has_a_price_and_a_demand_that_meets_it(listed: bool) -> None:
    budget = 4.0
    dataset = limited(listed, budget=budget)
    found = priced(dataset)
    (item,) = dataset.coupons.coupons["item"]
    account = coupon_account(item)
    price, demand = found.shadow_prices[account], found.demand[account]
    assert price > 0
    below, above = (np.interp(price * step, demand.prices, demand.micros) for step in (0.8, 1.25))
    assert below >= budget * MICROS >= above
    assert set(found.shadow_prices) == {account}


@pytest.mark.parametrize("floor_of", ["offers", "money"])
def test_a_floor_brings_its_segment_in(floor_of: str) -> None:
    """With scarce money the small segment gets nothing; with a floor, its share and no more."""
    share, budget = 0.4, 3.0
    fields: dict[str, Any] = {"floor_audience": SEGMENT, "floor_share": share}
    fields["floor_of"] = floor_of
    without, held = limited(budget=budget), limited(budget=budget, **fields)
    given = {
        name: shares_given(one, floor_of) for name, one in (("without", without), ("held", held))
    }
    assert given["without"] < 0.1
    assert given["held"] == pytest.approx(share, abs=0.08)


def shares_given(dataset: Dataset, floor_of: str) -> float:
    """The small segment's share of what is given to whom it is worth its prices, as in serving."""
    found = priced(dataset)
    row = dataset.coupons.coupons.row(0, named=True)
    user = np.arange(NUM_USERS)
    small, (chance, uplift) = user < NUM_SMALL, chances(user)
    cost = chance * row["value"]
    rest = found.shadow_prices[coupon_account(row["item"])] * cost
    unit = cost if floor_of == "money" else np.ones(NUM_USERS)
    nearer = (small - (row["floor_share"] or 0.0)) * unit
    worth = 7.5 * uplift - cost - rest + found.floor_prices.get(row["item"], 0.0) * nearer
    given = np.flatnonzero(worth > 0)
    return float(unit[given][small[given]].sum() / unit[given].sum())


def test_all_of_it_reaches_the_bundle(tmp_path: Path) -> None:
    dataset = shop()
    fields = {"max_claims": 9.0, "budget": 8.0, "floor_share": 0.5, "floor_audience": SEGMENT}
    changed = dataset.coupons.coupons.with_columns(
        pl.lit(value).alias(name) for name, value in fields.items()
    )
    traits = pl.DataFrame({"user": dataset.users, "traits": [["segment=small"]] * NUM_USERS})
    data = replace(dataset.coupons, coupons=changed, traits=traits)
    dataset = replace(dataset, coupons=data)
    with BundleWriter(tmp_path) as writer:
        write_learned(writer, dataset, learn_coupons(dataset, seed=7))
        bundle = writer.commit(
            horizon_time=dataset.horizon_time, seed=7, recipe={}, role=bundle_pb2.ROLE_REFIT,
            num_items={"product": NUM_ITEMS},
        )  # fmt: skip
    learned = decode_learned(bundle.json(MODELS_FILE))
    assert set(learned.cap_prices) <= set(changed["item"])
    assert any(name.startswith("coupon/") for name in learned.shadow_prices)
    assert any(name.startswith("coupon/") for name in learned.demand)


@pytest.mark.parametrize("owner", ["coupon", "campaign"])
@pytest.mark.parametrize("why", ["nobody is of its audience", "everybody has used it"])
def test_money_that_nobody_may_have_costs_nothing_and_no_demand_is_known(
    owner: str, why: str
) -> None:
    """Beside a coupon that somebody may have, which keeps its price."""
    dataset = with_empty(limited(listed=False, budget=4.0), owner, why)
    found = priced(dataset)
    (item,) = limited().coupons.coupons["item"]
    name = coupon_account("empty") if owner == "coupon" else "empty"
    assert found.shadow_prices[name] == 0.0
    assert set(found.demand) == {coupon_account(item)}
    assert found.shadow_prices[coupon_account(item)] > 0


def with_empty(dataset: Dataset, owner: str, why: str) -> Dataset:
    """With a coupon `empty` with money, in the campaign that there is or in one of its own."""
    data = dataset.coupons
    campaign = data.campaigns["campaign"][0] if owner == "coupon" else "empty"
    is_used = why == "everybody has used it"
    one = data.coupons.head(1).with_columns(
        item=pl.lit("empty"),
        campaign=pl.lit(campaign),
        budget=pl.lit(500.0 if owner == "coupon" else None, pl.Float64),
        audience=pl.lit(None if is_used else "segment = vip", pl.String),
        max_claims_per_user=pl.lit(1.0),
    )
    own = data.campaigns.with_columns(campaign=pl.lit("empty"), budget=pl.lit(500.0))
    campaigns = data.campaigns if owner == "coupon" else pl.concat([data.campaigns, own])
    redeemed = shop().coupons.redemptions.unique("user", maintain_order=True)
    redeemed = redeemed.with_columns(item=pl.lit("empty"))
    return replace(
        dataset,
        coupons=replace(
            data,
            campaigns=campaigns,
            coupons=pl.concat([data.coupons, one]),
            redemptions=redeemed if is_used else data.redemptions,
        ),
    )


def test_training_goes_on_where_nobody_may_have_a_coupon_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = shop()
    data = dataset.coupons
    one = data.coupons.tail(1).with_columns(
        item=pl.lit("later"), audience=pl.lit("segment = vip"), budget=pl.lit(50.0),
        floor_audience=pl.lit("segment = vip"), floor_share=pl.lit(0.5),
    )  # fmt: skip
    audiences = data.audiences.filter(pl.col("campaign") != one["campaign"][0])
    coupons = pl.concat([data.coupons, one])
    changed = replace(dataset, coupons=replace(data, coupons=coupons, audiences=audiences))
    models = learn_coupons(changed, seed=7)
    assert models is not None
    assert models.learned.shadow_prices[coupon_account("later")] == 0.0
    assert coupon_account("later") not in models.learned.demand
    assert models.learned.demand
    assert [record.getMessage() for record in caplog.records] == [FLOOR_WITHOUT_MEMBERS % "later"]


def test_a_floor_of_whose_segment_nobody_is_has_no_price(caplog: pytest.LogCaptureFixture) -> None:
    dataset = limited(floor_audience="segment = vip", floor_share=0.1)
    (item,) = dataset.coupons.coupons["item"]
    found = priced(dataset)
    assert not found.floor_prices
    assert found.floors_without_members == [item]
    assert not priced(limited(floor_audience=SEGMENT, floor_share=0.1)).floors_without_members
    assert learn_coupons(dataset, seed=7) is not None
    assert [record.getMessage() for record in caplog.records] == [FLOOR_WITHOUT_MEMBERS % item]


@pytest.mark.parametrize("floor_of", ["offers", "money"])
def test_a_floor_costs_others_no_more_than_a_coupon_is_worth(
    monkeypatch: pytest.MonkeyPatch, floor_of: str
) -> None:
    """Whatever the programme finds: beyond that price there is nobody else to keep it from."""
    share = 0.4
    dataset = limited(floor_audience=SEGMENT, floor_share=share, floor_of=floor_of)
    (item,) = dataset.coupons.coupons["item"]
    monkeypatch.setattr(pricing, "shadow_prices", lambda one: np.full(len(one.limit), 1e6))
    chance, uplift = chances(np.arange(NUM_SMALL, NUM_USERS))
    worth = (7.5 * uplift - chance) / (chance if floor_of == "money" else 1.0)
    assert priced(dataset).floor_prices[item] == pytest.approx(worth.max() / share)
