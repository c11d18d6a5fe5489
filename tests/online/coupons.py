"""Coupons in memory for tests: any campaign and coupon over the checkerboard's catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feature_store.coupons import Campaign, Coupon, Discount, DiscountKind
from online.catalog import Catalog
from online.coupons.columns import Coupons, make_coupons
from online.coupons.eligibility import Situation
from online.coupons.usage import holds_nothing, nothing_used
from tests.worlds import HORIZON_TIME

ONE = 1_000_000
DAY = 86_400_000_000
AMOUNT = Discount(DiscountKind.AMOUNT, amount=2 * ONE)


def coupon(item: str = "c", **fields: Any) -> Coupon:
    """A coupon of 2.00 for anybody and anything, with these changes."""
    fixed = {"campaign": "spring", "title": item, "discount": AMOUNT}
    return Coupon(**{"item": item, **fixed, **fields})


def columns(
    catalog: Catalog,
    *coupons: Coupon,
    campaigns: Sequence[Campaign] = (),
    goods: Mapping[str, Sequence[int]] | None = None,
    base_rate: float = 0.01,
) -> Coupons:
    """Columns of these coupons; `goods` are products by the coupon's id."""
    named = goods or {}
    marked = [replace(one, is_for_all_goods=False) if one.item in named else one for one in coupons]
    return make_coupons(
        campaigns,
        marked,
        [np.array(sorted(named.get(one.item, ())), np.int32) for one in marked],
        catalog,
        np.full(len(coupons), base_rate, np.float32),
        np.full(len(coupons), 20.0 * ONE),
    )


def situation(coupons: Coupons, catalog: Catalog, **fields: Any) -> Situation:
    """Somebody unknown at the horizon without a basket, with these changes."""
    fixed = {
        "time": HORIZON_TIME,
        "usage": nothing_used(coupons),
        "holdings": holds_nothing(coupons),
        "sold": np.asarray(catalog.available),
    }
    return Situation(**{**fixed, **fields})
