"""What a training run learns of a shop's coupons: who redeems what, and what budgets are worth.

Nothing here is an uplift: what a shop's own campaigns show is not randomised, so a redemption is
taken for a basket that would not have been, until the shop keeps a log of lots drawn.
"""

from dataclasses import dataclass
from typing import Final

import lightgbm as lgb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.coupon_demand import FIRST_MONDAY_H, HOUR, LADDER, demand_by_price
from feature_store.coupons import HOURS_OF_WEEK, MICROS, Demand, Learned
from offline.coupons.allocation import programme, shadow_prices
from offline.coupons.examples import Floats, Histories, past_examples, rates_at, read_goods
from offline.coupons.redemption import REDEMPTION, REDEMPTION_FILE, fit_redemption
from offline.coupons.section import with_times, write_coupons
from offline.coupons.trees import trees_to_onnx
from offline.coupons.values import basket_margin, coupon_values
from offline.dataset import Dataset

MIN_VISITS: Final = 1_000
"""Purchases from which hours of the week are told apart."""


@dataclass(frozen=True, slots=True)
class CouponModels:
    """What was learned, and the trees that it names; `rates` is by coupon."""

    learned: Learned
    rates: NDArray[np.float32]
    trees: lgb.Booster | None = None


def learn_coupons(dataset: Dataset, seed: int) -> CouponModels | None:
    """Learn from campaigns of the past; None for a shop without coupons.

    With too few redemptions the base rates serve, and budgets have neither price nor demand.
    """
    if not len(dataset.coupons):
        return None
    goods = read_goods(dataset)
    rates = rates_at(dataset, goods, dataset.horizon_time)
    examples = past_examples(dataset, 0, dataset.horizon_time)
    trees = fit_redemption(examples, seed)
    visits = visits_by_hour(dataset)
    if trees is None:
        return CouponModels(Learned(visits=visits), rates)
    prices, demand = priced_budgets(dataset, trees, rates)
    learned = Learned(redemption=REDEMPTION, shadow_prices=prices, demand=demand, visits=visits)
    return CouponModels(learned, rates, trees)


def write_learned(writer: BundleWriter, dataset: Dataset, models: CouponModels | None) -> None:
    """The coupon section of a bundle with what was learned; without, with base rates."""
    data, items, num_users = dataset.coupons, dataset.items, len(dataset.users)
    if models is None:
        write_coupons(writer, data, items, num_users)
        return
    write_coupons(writer, data, items, num_users, models.learned, models.rates)
    if models.trees is not None:
        writer.data(REDEMPTION_FILE, trees_to_onnx(models.trees))


def visits_by_hour(dataset: Dataset) -> tuple[float, ...]:
    """The share of purchases in each hour of the week, see `Learned.visits`; () where too few."""
    hour = dataset.purchases.time // HOUR - FIRST_MONDAY_H
    if len(hour) < MIN_VISITS:
        return ()
    count = np.bincount(hour % HOURS_OF_WEEK, minlength=HOURS_OF_WEEK) + 1.0
    return tuple(np.round(count / count.sum(), 6).tolist())


def priced_budgets(
    dataset: Dataset, trees: lgb.Booster, rates: NDArray[np.float32]
) -> tuple[dict[str, float], dict[str, Demand]]:
    """By campaign with a budget that runs at the horizon: its price, and demand at other prices.

    The price is what a unit of the budget is worth at the margin; demand is what would be used if
    all chosen users were offered the best of their coupons that is worth the price. Each chosen
    user may have one coupon of each campaign; what a coupon of unknown value costs, and what a
    redemption earns, are as the section says.
    """
    running = _running(dataset)
    if not len(running):
        return {}, {}
    names = running["campaign"].unique(maintain_order=True).to_list()
    user, coupon, probability = _chances(dataset, running, trees, rates)
    if not len(user):
        return {}, {}
    campaign_of = dict(zip(running["coupon"], running["campaign"], strict=True))
    place_of = {name: number for number, name in enumerate(names)}
    campaign = np.array([place_of[campaign_of[one]] for one in coupon.tolist()], np.int32)
    face = coupon_values(dataset.coupons)[coupon]
    cost = probability * face
    value = probability * basket_margin(dataset.coupons) / MICROS - cost
    budgets = dict(running.select("campaign", "budget").unique().iter_rows())
    limit = np.array([budgets[name] for name in names], np.float64)
    problem, _ = programme(
        user.astype(np.int64), campaign, value, campaign[:, None], cost[:, None], limit
    )
    price = shadow_prices(problem)
    prices = {name: round(float(price[place]), 6) for name, place in place_of.items()}
    blocks = user + campaign.astype(np.int64) * len(dataset.users)
    return prices, _demand(names, campaign, blocks, value, cost)


def _demand(
    names: list[str],
    campaign: NDArray[np.int32],
    blocks: NDArray[np.int64],
    value: Floats,
    cost: Floats,
) -> dict[str, Demand]:
    """Of each campaign what its users ask for at the prices of the LADDER."""
    gained = np.bincount(campaign, np.maximum(value, 0.0), len(names))
    ladder = LADDER[:, None] * gained / np.bincount(campaign, cost, len(names))
    used = [demand_by_price(value, cost, blocks, campaign, prices[None, :])[0] for prices in ladder]
    micros = MICROS * np.array(used)
    return {
        name: Demand(
            tuple(np.round(ladder[:, place], 6).tolist()),
            tuple(np.round(micros[:, place]).tolist()),
        )
        for place, name in enumerate(names)
    }


def _running(dataset: Dataset) -> pl.DataFrame:
    """Coupons of an amount in campaigns with a budget and chosen users, good at the horizon."""
    coupons = with_times(dataset.coupons).with_row_index("coupon")
    budgets = dataset.coupons.campaigns.select("campaign", campaign_budget="budget")
    chosen = dataset.coupons.audiences.select("campaign").unique()
    now = dataset.horizon_time
    return (
        coupons.drop("budget")
        .join(budgets, on="campaign", how="left", maintain_order="left")
        .rename({"campaign_budget": "budget"})
        .join(chosen, on="campaign", how="semi", maintain_order="left")
        .filter(
            pl.col("budget").is_not_null(),
            pl.col("discount") == "amount",
            pl.col("end_time").is_null() | (pl.col("end_time") > now),
            pl.col("start_time").is_null() | (pl.col("start_time") <= now),
        )
        .select("coupon", "campaign", "budget")
    )


def _chances(
    dataset: Dataset,
    running: pl.DataFrame,
    trees: lgb.Booster,
    rates: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Users and coupons as pairs, and the probability of a redemption by each."""
    codes = {user: number for number, user in enumerate(dataset.users)}
    histories, goods = Histories(dataset), read_goods(dataset)
    users, coupons, features = [], [], []
    for (name,), rows in running.group_by("campaign", maintain_order=True):
        places = rows["coupon"].to_numpy().astype(np.int32)
        mine = goods.of(places)
        chosen = dataset.coupons.audiences.filter(pl.col("campaign") == name)["user"].unique()
        for user in sorted(codes[one] for one in chosen if one in codes):
            features.append(histories.features(user, dataset.horizon_time, mine, rates[places]))
            users.append(np.full(len(places), user, np.int32))
            coupons.append(places)
    if not users:
        nothing = np.zeros(0, np.int32)
        return nothing, nothing, np.zeros(0)
    probability = np.asarray(trees.predict(np.concatenate(features), num_threads=1), np.float64)
    return np.concatenate(users), np.concatenate(coupons), probability
