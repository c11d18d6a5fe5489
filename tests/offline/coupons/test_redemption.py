"""Redemptions learned from past campaigns: point in time, exact as ONNX, and into the bundle."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter
from feature_store.coupon_features import COUPON_FEATURES
from feature_store.coupons import (
    BASE_RATE,
    HOURS_OF_WEEK,
    MICROS,
    MODELS_FILE,
    USER_NAMES,
    Learned,
    decode_learned,
    encode_learned,
    is_held_out,
)
from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, PRODUCTS, Table
from offline.coupons.dataset import REDEMPTION_SCHEMA, CouponData
from offline.coupons.examples import past_examples
from offline.coupons.learning import learn_coupons, visits_by_hour, write_learned
from offline.coupons.redemption import REDEMPTION, REDEMPTION_FILE, fit_redemption
from offline.coupons.trees import trees_to_onnx
from offline.dataset import Dataset, Purchases
from offline.ingest.tables import polars_schema

DAY = timedelta(days=1)
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
NUM_USERS, NUM_ITEMS, NUM_CAMPAIGNS = 120, 20, 6
OWN_GOODS = COUPON_FEATURES.index("own_goods_log")


def micros(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


def frame(table: Table, rows: list[dict[str, Any]]) -> pl.DataFrame:
    filled = [{name: row.get(name) for name in table.names} for row in rows]
    return pl.DataFrame(filled, schema=polars_schema(table))


def shop(num_days: int = 240) -> Dataset:
    """User u buys item u % 20 weekly and redeems coupons for it; one campaign every 30 days."""
    users = [f"{number:064x}" for number in range(NUM_USERS)]
    items = frame(PRODUCTS, [{"item": f"i{n:02d}", "title": "t"} for n in range(NUM_ITEMS)])
    times = [BEGIN + 7 * DAY * week for week in range(num_days // 7)]
    purchases = Purchases(
        user=np.tile(np.arange(NUM_USERS), len(times)).astype(np.int32),
        item=np.tile(np.arange(NUM_USERS) % NUM_ITEMS, len(times)).astype(np.int32),
        time=np.repeat([micros(time) for time in times], NUM_USERS),
        price=np.ones(NUM_USERS * len(times), np.float32),
    )
    starts = {f"c{n}": BEGIN + 30 * DAY * (n + 1) for n in range(NUM_CAMPAIGNS)}
    campaigns = [
        {"campaign": name, "kind": "A", "start_time": start, "end_time": start + 100 * DAY}
        | {"budget": NUM_USERS + 10.0}
        for name, start in starts.items()
    ]
    coupons = [
        {"item": f"{name}-{n:02d}", "campaign": name, "title": "t", "discount": "amount"}
        | {"products": [f"i{n:02d}"], "value": 1.0}
        for name in starts
        for n in range(NUM_ITEMS)
    ]
    chosen = [
        {"campaign": name, "user": user, "start_time": start}
        for name, start in starts.items()
        for user in users
    ]
    redeemed = [
        (user, f"{name}-{number % NUM_ITEMS:02d}", start + 5 * DAY, 1.0, 20.0)
        for name, start in starts.items()
        for number, user in enumerate(users)
        if start + 5 * DAY < BEGIN + num_days * DAY
    ]
    data = CouponData(
        frame(CAMPAIGNS, campaigns),
        frame(COUPONS, coupons).sort("item"),
        frame(AUDIENCES, chosen),
        pl.DataFrame(redeemed, REDEMPTION_SCHEMA, orient="row"),
    )
    return Dataset(tuple(users), items, purchases, micros(BEGIN + num_days * DAY), coupons=data)


def test_examples_say_who_bought_and_who_redeemed() -> None:
    examples = past_examples(shop(), 0, 2**62)
    assert len(examples) == NUM_CAMPAIGNS * NUM_USERS * NUM_ITEMS
    own = examples.features[:, OWN_GOODS] > 0
    np.testing.assert_array_equal(own, examples.labels > 0)
    assert len(np.unique(examples.group)) == NUM_CAMPAIGNS * NUM_USERS


def test_who_was_held_out_is_no_example() -> None:
    dataset = shop()
    campaigns = dataset.coupons.campaigns.with_columns(hold_out=pl.lit(0.3))
    coupons = replace(dataset.coupons, campaigns=campaigns)
    held = past_examples(replace(dataset, coupons=coupons), 0, 2**62)
    groups, everybody = len(np.unique(held.group)), NUM_CAMPAIGNS * NUM_USERS
    assert groups == pytest.approx(0.7 * everybody, rel=0.1)
    name = "c0"
    drawn = [is_held_out(f"{USER_NAMES}{user}", name, 0.3) for user in dataset.users]
    places = np.flatnonzero((coupons.coupons["campaign"] == name).to_numpy())
    users = np.unique(held.user[np.isin(held.coupon, places)])
    assert users.tolist() == np.flatnonzero(~np.array(drawn)).tolist()


def test_nothing_after_a_campaign_began_is_in_its_features() -> None:
    """A leak planted: from day 100 on everybody buys item 0 hourly and redeems its coupons."""
    honest = shop()
    start = micros(BEGIN + 100 * DAY)
    extra = np.arange(2_000)
    times = np.sort(np.concatenate([honest.purchases.time, start + extra * 3_600_000_000]))
    order = np.argsort(
        np.concatenate([honest.purchases.time, start + extra * 3_600_000_000]), kind="stable"
    )
    user = np.concatenate([honest.purchases.user, (extra % NUM_USERS).astype(np.int32)])[order]
    item = np.concatenate([honest.purchases.item, np.zeros(2_000, np.int32)])[order]
    purchases = Purchases(user, item, times, np.ones(len(times), np.float32))
    later = [(one, "c0-00", BEGIN + 101 * DAY, 1.0, 9.0) for one in honest.users]
    redemptions = pl.concat(
        [honest.coupons.redemptions, pl.DataFrame(later, REDEMPTION_SCHEMA, orient="row")]
    )
    leaky = replace(
        honest, purchases=purchases, coupons=replace(honest.coupons, redemptions=redemptions)
    )
    before, after = (past_examples(one, 0, start) for one in (honest, leaky))
    assert len(before) == 3 * NUM_USERS * NUM_ITEMS
    np.testing.assert_allclose(before.features, after.features)


def test_campaigns_without_time_to_show_are_left_out() -> None:
    dataset = shop(num_days=70)  # the campaign of day 60 has had 10 days
    assert len(past_examples(dataset, 0, 2**62)) == NUM_USERS * NUM_ITEMS


def test_trees_as_onnx_say_the_same() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3_000, 5)).astype(np.float32)
    features[:, 2] = np.round(features[:, 2])  # many equal values at thresholds
    labels = (features[:, 0] * features[:, 2] + 0.1 * rng.standard_normal(3_000) > 0.5).astype(
        float
    )
    rows = lgb.Dataset(features, labels)
    booster = lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, rows, 30)
    session = ort.InferenceSession(trees_to_onnx(booster))
    probability = session.run(None, {"features": features})[0].reshape(-1)
    np.testing.assert_allclose(probability, booster.predict(features), atol=1e-6)


def test_splits_of_choices_are_refused() -> None:
    rng = np.random.default_rng(1)
    features = rng.integers(0, 5, (500, 1)).astype(np.float32)
    rows = lgb.Dataset(features, (features[:, 0] % 2).astype(float), categorical_feature=[0])
    parameters = {"objective": "binary", "verbose": -1, "min_data_per_group": 1, "cat_smooth": 0}
    with pytest.raises(ValueError, match="cannot be written"):
        trees_to_onnx(lgb.train(parameters | {"max_cat_to_onehot": 1}, rows, 5))


def test_redemptions_are_foretold_with_their_true_rate() -> None:
    examples = past_examples(shop(), 0, 2**62)
    trees = fit_redemption(examples, seed=7)
    assert trees is not None
    probability = np.asarray(trees.predict(examples.features))
    assert probability[examples.labels > 0].min() > 5 * probability[examples.labels == 0].max()
    assert probability.mean() == pytest.approx(examples.labels.mean(), rel=0.1)


def test_what_was_learned_is_in_the_bundle_and_scarce_budgets_have_a_price(tmp_path: Path) -> None:
    dataset = shop()
    models = learn_coupons(dataset, seed=7)
    with BundleWriter(tmp_path) as writer:
        write_learned(writer, dataset, models)
        bundle = writer.commit(
            horizon_time=dataset.horizon_time,
            seed=7,
            recipe={},
            role=bundle_pb2.ROLE_REFIT,
            num_items={"product": NUM_ITEMS},
        )
    learned = decode_learned(bundle.json(MODELS_FILE))
    assert learned.redemption == REDEMPTION
    assert learned.uplift is None
    assert bundle.path(REDEMPTION_FILE).stat().st_size > 1_000
    assert len(bundle.array(BASE_RATE)) == NUM_CAMPAIGNS * NUM_ITEMS
    assert set(learned.shadow_prices) == {"c4", "c5"}
    assert min(learned.shadow_prices.values()) > 0
    for name, price in learned.shadow_prices.items():
        demand = learned.demand[name]
        (row,) = dataset.coupons.campaigns.filter(campaign=name).to_dicts()
        ahead = (row["end_time"] - (BEGIN + 240 * DAY)) / (row["end_time"] - row["start_time"])
        left = row["budget"] - NUM_USERS  # each has redeemed one of 1.00
        budget = MICROS * left / ahead
        below, above = (np.interp(price * step, demand.prices, demand.micros) for step in (0.5, 2))
        assert below > budget > above, "at its price a budget is what is asked for"
        assert (np.diff(demand.micros) <= 0).all()
    assert len(learned.visits) == HOURS_OF_WEEK
    assert sum(learned.visits) == pytest.approx(1.0, abs=1e-3)


def test_bundles_of_before_say_nothing_of_demand() -> None:
    content = encode_learned(Learned(shadow_prices={"c": 1.0}))
    del content["demand"], content["visits"]
    assert decode_learned(content) == Learned(shadow_prices={"c": 1.0})


def test_visits_are_counted_by_the_hour_of_the_week() -> None:
    dataset = shop()
    monday = micros(datetime(2024, 1, 1, 9, 30, tzinfo=UTC))
    times = np.full(2_000, monday)
    times[:500] += 3 * 24 * 3_600_000_000
    purchases = replace(dataset.purchases, time=times)
    visits = np.array(visits_by_hour(replace(dataset, purchases=purchases)))
    assert visits.argsort()[-2:].tolist() == [3 * 24 + 9, 9]
    assert visits[9] / visits[81] == pytest.approx(3, rel=0.01)
    few = replace(dataset.purchases, time=times[:10])
    assert visits_by_hour(replace(dataset, purchases=few)) == ()


def test_too_few_redemptions_leave_the_base_rates() -> None:
    dataset = shop()
    few = replace(dataset.coupons, redemptions=dataset.coupons.redemptions.head(20))
    models = learn_coupons(replace(dataset, coupons=few), seed=7)
    assert models is not None
    assert models.learned.redemption is None
    assert models.trees is None
    assert learn_coupons(replace(dataset, coupons=CouponData()), seed=7) is None
