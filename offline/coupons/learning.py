"""What a training run learns of coupons: who redeems what, whom offers move, what limits cost.

Where no uplift can be learned (`offline.coupons.shop_uplift`), a redemption is taken for a basket
that would not have been.
"""

import logging
from dataclasses import dataclass, replace
from typing import Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.coupon_demand import FIRST_MONDAY_H, HOUR
from feature_store.coupon_features import COUPON_FEATURES
from feature_store.coupons import HOURS_OF_WEEK, UPLIFT_REPORT, Learned
from offline.coupons.examples import past_examples, rates_at, read_goods
from offline.coupons.fitted import Trees
from offline.coupons.pricing import price_limits
from offline.coupons.redemption import REDEMPTION, REDEMPTION_FILE, fit_redemption
from offline.coupons.section import write_coupons
from offline.coupons.shop_uplift import UPLIFT, UPLIFT_FILE, ShopUplift, learn_uplift
from offline.coupons.trees import trees_to_onnx
from offline.coupons.uplift_onnx import uplift_to_onnx
from offline.dataset import Dataset

logger = logging.getLogger(__name__)

MIN_VISITS: Final = 1_000
"""Purchases from which hours of the week are told apart."""

FLOOR_WITHOUT_MEMBERS: Final = (
    "the floor of coupon %s is not kept: of its floor_audience nobody was found who may have it"
)


@dataclass(frozen=True, slots=True)
class CouponModels:
    """What was learned, and the trees that it names; `rates` is by coupon."""

    learned: Learned
    rates: NDArray[np.float32]
    uplift: ShopUplift
    trees: lgb.Booster | None = None


def learn_coupons(
    dataset: Dataset, seed: int, *, acts_on_observed: bool = False
) -> CouponModels | None:
    """Learn from campaigns of the past; None for a shop without coupons. See `learn_uplift`.

    With too few redemptions the base rates serve, and limits have neither price nor demand if
    nothing else asks for them.
    """
    if not len(dataset.coupons):
        return None
    goods = read_goods(dataset)
    rates = rates_at(dataset, goods, dataset.horizon_time)
    examples = past_examples(dataset, 0, dataset.horizon_time)
    trees = fit_redemption(examples, seed)
    uplift = learn_uplift(dataset, goods, seed, acts_on_observed=acts_on_observed)
    served = None if uplift.model is None else UPLIFT
    learned = Learned(uplift=served, visits=visits_by_hour(dataset))
    redemption = None if trees is None else Trees(trees)
    if redemption is not None:
        learned = replace(learned, redemption=REDEMPTION)
    if redemption is not None or uplift.model is not None or _has_floors(dataset):
        priced = price_limits(dataset, goods, rates, redemption, uplift.model)
        for item in priced.floors_without_members:
            logger.warning(FLOOR_WITHOUT_MEMBERS, item)
        learned = replace(
            learned,
            shadow_prices=priced.shadow_prices,
            demand=priced.demand,
            cap_prices=priced.cap_prices,
            floor_prices=priced.floor_prices,
        )
    return CouponModels(learned, rates, uplift, trees)


def write_learned(writer: BundleWriter, dataset: Dataset, models: CouponModels | None) -> None:
    """The coupon section of a bundle with what was learned; without, with base rates."""
    data, items, num_users = dataset.coupons, dataset.items, len(dataset.users)
    if models is None:
        write_coupons(writer, data, items, num_users)
        return
    write_coupons(writer, data, items, num_users, models.learned, models.rates)
    if models.trees is not None:
        writer.data(REDEMPTION_FILE, trees_to_onnx(models.trees))
    writer.json(UPLIFT_REPORT, models.uplift.report.as_json())
    if models.uplift.model is not None:
        writer.data(UPLIFT_FILE, uplift_to_onnx(models.uplift.model, len(COUPON_FEATURES)))


def _has_floors(dataset: Dataset) -> bool:
    return bool((dataset.coupons.coupons["floor_share"] > 0).any())


def visits_by_hour(dataset: Dataset) -> tuple[float, ...]:
    """The share of purchases in each hour of the week, see `Learned.visits`; () where too few."""
    hour = dataset.purchases.time // HOUR - FIRST_MONDAY_H
    if len(hour) < MIN_VISITS:
        return ()
    count = np.bincount(hour % HOURS_OF_WEEK, minlength=HOURS_OF_WEEK) + 1.0
    return tuple(np.round(count / count.sum(), 6).tolist())
