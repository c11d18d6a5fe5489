"""The coupon section of a bundle: tables become the layout of `feature_store.coupons`.

Products and categories become indexes here once, so that serving compares numbers. What is learned
comes from outside; without it base rates serve, and the section says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.coupons import (
    BASE_RATE,
    COUPONS_FILE,
    GOODS,
    GOODS_END,
    MARGIN,
    MODELS_FILE,
    NOTHING_LEARNED,
    Campaign,
    Coupon,
    Discount,
    DiscountKind,
    FloorOf,
    Learned,
    encode_coupons,
    encode_learned,
    to_micros,
)
from feature_store.schema import CATEGORY_SEPARATOR
from offline.coupons.dataset import CouponData
from offline.coupons.values import base_rates, basket_margin, coupon_values

_MONEY: Final = ("maximum", "minimum_basket", "budget")


def write_coupons(
    writer: BundleWriter,
    data: CouponData,
    items: pl.DataFrame,
    num_users: int,
    learned: Learned = NOTHING_LEARNED,
    rates: NDArray[np.float32] | None = None,
) -> None:
    """Write the section; nothing at all for a shop without coupons.

    `items` is the product table in the order of the bundle's indexes. A product that the bundle
    lacks is left out; a coupon that was for such products only is good for nothing. `rates`, shape
    (coupons,), stand in the place of base rates.
    """
    if not len(data):
        return
    rows = with_times(data)
    coupons = [
        read_coupon(row, value)
        for row, value in zip(rows.iter_rows(named=True), coupon_values(data), strict=True)
    ]
    goods = goods_of(rows, items)
    writer.json(COUPONS_FILE, encode_coupons(read_campaigns(data.campaigns), coupons))
    writer.array(GOODS, np.concatenate([*goods, np.zeros(0, np.int32)]).astype(np.int32))
    writer.array(GOODS_END, np.cumsum([len(part) for part in goods], dtype=np.int64))
    writer.array(BASE_RATE, base_rates(data, num_users) if rates is None else rates)
    writer.array(MARGIN, np.full(len(coupons), basket_margin(data), np.float64))
    writer.json(MODELS_FILE, encode_learned(learned))


def with_times(data: CouponData) -> pl.DataFrame:
    """The coupons; one without times of its own is good as long as its campaign."""
    times = data.campaigns.select("campaign", start="start_time", end="end_time")
    return data.coupons.join(times, on="campaign", how="left", maintain_order="left").with_columns(
        start_time=pl.coalesce("start_time", "start").dt.epoch("us"),
        end_time=pl.coalesce("end_time", "end").dt.epoch("us"),
    )


def read_campaigns(campaigns: pl.DataFrame) -> list[Campaign]:
    """The rows of the campaign table as values."""
    times = [pl.col(name).dt.epoch("us") for name in ("start_time", "end_time")]
    return [
        Campaign(
            campaign=row["campaign"],
            kind=row["kind"] or "",
            title=row["title"] or "",
            start_time=row["start_time"],
            end_time=row["end_time"],
            budget=_micros(row["budget"]),
            hold_out=row["hold_out"] or 0.0,
        )
        for row in campaigns.with_columns(times).iter_rows(named=True)
    ]


def read_coupon(row: Mapping[str, Any], value: float) -> Coupon:
    """A row of the coupon table as a value; times in microseconds, `value` as it was found."""
    money = {name: _micros(row[name]) for name in _MONEY}
    kind = DiscountKind(row["discount"])
    discount = Discount(
        kind=kind,
        basis_points=round(100 * value) if kind is DiscountKind.PERCENT else 0,
        amount=to_micros(value) if kind is DiscountKind.AMOUNT else 0,
        gift_item=row["gift_item"] or "",
        maximum=money["maximum"],
    )
    return Coupon(
        item=row["item"],
        campaign=row["campaign"],
        title=row["title"],
        discount=discount,
        terms=row["terms"] or "",
        minimum_basket=money["minimum_basket"] or 0,
        is_for_all_goods=not row["products"] and not row["categories"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        audience=row["audience"] or "",
        max_claims_per_user=int(row["max_claims_per_user"] or 0),
        max_claims=int(row["max_claims"] or 0),
        budget=money["budget"],
        stacking_group=row["stacking_group"] or "",
        exclusive=bool(row["exclusive"]),
        regions=tuple(row["region"] or ()),
        channels=tuple(row["channel"] or ()),
        floor_audience=(row["floor_audience"] or "") if row["floor_share"] else "",
        floor_share=row["floor_share"] or 0.0,
        floor_of=FloorOf(row["floor_of"] or FloorOf.OFFERS),
    )


def goods_of(coupons: pl.DataFrame, items: pl.DataFrame) -> list[NDArray[np.int32]]:
    """Of each coupon the sorted indexes of what it is good for; none where it is for all."""
    return [_goods(row, items) for row in _with_indexes(coupons, items)]


def _with_indexes(rows: pl.DataFrame, items: pl.DataFrame) -> list[dict[str, Any]]:
    """Of each coupon the indexes of its products that there are, and its category paths."""
    index = items.select(products="item").with_row_index("index")
    named = rows.select("item", "products").explode("products", empty_as_null=True)
    found = named.join(index, on="products").group_by("item").agg("index")
    return (
        rows.select("item", "categories")
        .join(found, on="item", how="left", maintain_order="left")
        .to_dicts()
    )


def _goods(row: Mapping[str, Any], items: pl.DataFrame) -> NDArray[np.int32]:
    """The sorted indexes of the products that a coupon is good for; none where it is for all."""
    named = np.array(row["index"] or (), np.int32)
    return np.union1d(named, _below(row["categories"] or (), items)).astype(np.int32)


def _below(paths: Sequence[str], items: pl.DataFrame) -> NDArray[np.intp]:
    category = items["category"].fill_null("")
    mask = np.zeros(len(items), bool)
    for path in paths:
        is_below = category.str.starts_with(path + CATEGORY_SEPARATOR) | (category == path)
        mask |= is_below.to_numpy()
    return np.flatnonzero(mask)


def _micros(amount: float | None) -> int | None:
    return None if amount is None else to_micros(amount)
