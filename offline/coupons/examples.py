"""What households did with the coupons of past campaigns, as each campaign began.

One example for each user whom a campaign chose and each of its coupons: features by the function
that serves, from purchases and redemptions before the campaign's first instant, and whether the
user redeemed the coupon before the campaign, or the data, ended. Nothing later is looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from feature_store.coupon_features import COUPON_FEATURES, HALF_LIFE, coupon_features
from feature_store.coupons import USER_NAMES, is_held_out
from feature_store.ranking import History
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import HALF_LIVES_DAYS, ITEM_DTYPE
from offline.coupons.dataset import CouponData
from offline.coupons.section import goods_of, with_times
from offline.coupons.values import base_rates
from offline.dataset import Dataset
from offline.ingest.tables import instant

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

MIN_LABEL_DAYS: Final = 14
"""A campaign that began less than this before the data end has not shown what becomes of it."""

POPULARITY_DAYS: Final = 90
POPULARITY_PRIOR: Final = 5.0
"""Buyers that a coupon's goods are taken to have had besides those counted."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Columns of one length: COUPON_FEATURES (n, features), labels, and whose they are.

    `group` numbers the pairs of user and campaign, `user` and `coupon` are indexes.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    group: Codes
    user: Codes
    coupon: Codes

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Goods:
    """What coupons are good for: pairs of product and coupon, sorted by product.

    `nums` is how many products each coupon names, `is_for_all` whether it is good for all,
    shape (coupons,).
    """

    items: Codes
    coupons: Codes
    nums: NDArray[np.int64]
    is_for_all: NDArray[np.bool_]

    def of(self, places: NDArray[np.integer]) -> "Goods":
        """Those of some coupons, which are numbered anew in the order of `places`."""
        numbers = np.full(len(self.nums), -1, np.int32)
        numbers[places] = np.arange(len(places))
        mine = numbers[self.coupons]
        kept = mine >= 0
        return Goods(self.items[kept], mine[kept], self.nums[places], self.is_for_all[places])


def read_goods(dataset: Dataset) -> Goods:
    """What the dataset's coupons are good for, in the bundle's product indexes."""
    coupons = dataset.coupons.coupons
    goods = goods_of(coupons, dataset.items)
    nums = np.array([len(one) for one in goods], np.int64)
    items = np.concatenate([*goods, np.zeros(0, np.int32)]).astype(np.int32)
    order = np.argsort(items, kind="stable")
    owner = np.repeat(np.arange(len(goods)), nums).astype(np.int32)
    lists = coupons.select(pl.col("products", "categories").list.len().fill_null(0))
    return Goods(items[order], owner[order], nums, lists.sum_horizontal().to_numpy() == 0)


def past_examples(dataset: Dataset, first_time: int, end_time: int) -> Examples:
    """The examples of campaigns that began from `first_time` until before `end_time`.

    Labels are redemptions before the dataset's horizon. Empty where no campaign had time enough.
    """
    goods = read_goods(dataset)
    coupons = with_times(dataset.coupons).with_row_index("coupon")
    codes = {user: number for number, user in enumerate(dataset.users)}
    histories = Histories(dataset)
    parts: list[Examples] = []
    last_time = dataset.horizon_time - MIN_LABEL_DAYS * MICROSECONDS_PER_DAY
    num_groups = 0
    shares = dict(dataset.coupons.campaigns.select("campaign", "hold_out").iter_rows())
    for campaign, start_time in _begun(dataset.coupons, first_time, min(end_time, last_time)):
        places = coupons.filter(pl.col("campaign") == campaign)["coupon"].to_numpy()
        chosen = dataset.coupons.audiences.filter(pl.col("campaign") == campaign)["user"]
        share = shares[campaign] or 0.0
        users = [
            codes[user]
            for user in chosen.sort().to_list()
            if user in codes and not is_held_out(f"{USER_NAMES}{user}", campaign, share)
        ]
        if not len(places) or not users:
            continue
        mine, rates = goods.of(places), rates_at(dataset, goods, start_time)[places]
        redeemed = _redeemed(dataset.coupons, coupons, codes, start_time)
        for user in users:
            features = histories.features(user, start_time, mine, rates)
            labels = np.isin(places, redeemed.get(user, ()))
            group = np.full(len(places), num_groups, np.int32)
            owner = np.full(len(places), user, np.int32)
            parts.append(
                Examples(features, labels.astype(np.float32), group, owner, places.astype(np.int32))
            )
            num_groups += 1
    return _joined(parts)


def rates_at(dataset: Dataset, goods: Goods, time: int) -> NDArray[np.float32]:
    """How often each coupon is redeemed by one of who may have it, as known at `time`.

    The campaign's rate, shared out by how many bought the coupon's goods of late.
    """
    known = before(dataset.coupons, time)
    rates = base_rates(known, len(dataset.users)).astype(np.float64)
    buyers = goods_buyers(dataset, goods, time) + POPULARITY_PRIOR
    frame = pl.DataFrame({"campaign": known.coupons["campaign"], "buyers": buyers})
    mean = frame.select(pl.col("buyers").mean().over("campaign")).to_series().to_numpy()
    adjusted = np.where(goods.is_for_all, rates, rates * buyers / mean)
    return np.minimum(adjusted, 0.9).astype(np.float32)


def goods_buyers(dataset: Dataset, goods: Goods, time: int) -> Floats:
    """How many users bought each coupon's goods in the days before `time`, shape (coupons,)."""
    recent = dataset.purchases.between(time - POPULARITY_DAYS * MICROSECONDS_PER_DAY, time)
    bought = sparse.csr_matrix(
        (np.ones(len(recent), np.int32), (recent.item, recent.user)),
        shape=(dataset.num_items, len(dataset.users)),
    )
    names = sparse.csr_matrix(
        (np.ones(len(goods.items), np.int32), (goods.coupons, goods.items)),
        shape=(len(goods.nums), dataset.num_items),
    )
    return np.asarray(np.diff((names @ bought).indptr), np.float64)


def before(data: CouponData, time: int) -> CouponData:
    """What was known before an instant: who had been chosen, what had been redeemed."""
    chosen = pl.col("start_time").is_null() | (pl.col("start_time") < instant(time))
    return replace(
        data,
        audiences=data.audiences.filter(chosen),
        redemptions=data.redemptions.filter(pl.col("event_time") < instant(time)),
    )


class Histories:
    """The purchases of each user, as histories of any instant."""

    def __init__(self, dataset: Dataset) -> None:
        purchases = dataset.purchases
        order = np.argsort(purchases.user, kind="stable")  # keeps the order in time
        self._item, self._time = purchases.item[order], purchases.time[order]
        self._ends = np.cumsum(np.bincount(purchases.user, minlength=len(dataset.users)))

    def features(
        self,
        user: int,
        time: int,
        goods: Goods,
        rates: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """COUPON_FEATURES of the coupons of `goods`, as serving would have had them at `time`."""
        history, num_baskets = self.at(user, time)
        named, lines = _pairs(goods, history.items)
        return coupon_features(
            history, num_baskets, named, lines, goods.nums, goods.is_for_all, rates
        )

    def at(self, user: int, time: int) -> tuple[History, int]:
        """What the state of that instant gives coupon features, and the number of baskets.

        Purchases of one instant are taken for one basket. A `user` of -1 has never bought.
        """
        start = self._ends[user - 1] if user > 0 else 0
        times = self._time[start : self._ends[user] if user >= 0 else 0]
        rows = slice(start, start + int(np.searchsorted(times, time)))
        items, inverse = np.unique(self._item[rows], return_inverse=True)
        days = (time - self._time[rows]) / MICROSECONDS_PER_DAY
        decayed = np.zeros((len(items), len(HALF_LIVES_DAYS)))
        faded = np.exp2(-days / HALF_LIVES_DAYS[HALF_LIFE])
        decayed[:, HALF_LIFE] = np.bincount(inverse, faded, len(items))
        since = np.full(len(items), np.inf)
        np.minimum.at(since, inverse, days)
        bought = np.ones(len(items), bool)
        records = np.zeros(len(items), ITEM_DTYPE)
        history = History(items.astype(np.int32), records, bought, decayed, since)
        return history, len(np.unique(self._time[rows]))


def _pairs(goods: Goods, items: Codes) -> tuple[Codes, NDArray[np.intp]]:
    """Coupons that name one of the products, and the position of the product in `items`."""
    starts = goods.items.searchsorted(items)
    nums = goods.items.searchsorted(items, side="right") - starts
    lines = np.repeat(np.arange(len(items)), nums)
    ends = np.cumsum(nums)
    total = int(ends[-1]) if len(ends) else 0
    return goods.coupons[np.arange(total) + np.repeat(starts - ends + nums, nums)], lines


def _begun(data: CouponData, first_time: int, end_time: int) -> Iterator[tuple[str, int]]:
    """The campaigns that began in between, and when."""
    starts = data.campaigns.select("campaign", start=pl.col("start_time").dt.epoch("us"))
    begun = starts.filter((pl.col("start") >= first_time) & (pl.col("start") < end_time))
    yield from begun.sort("start", "campaign").iter_rows()


def _redeemed(
    data: CouponData, coupons: pl.DataFrame, codes: dict[str, int], start_time: int
) -> dict[int, list[int]]:
    """By user the coupons that they redeemed from `start_time` on."""
    later = data.redemptions.filter(pl.col("event_time") >= instant(start_time))
    found = later.join(coupons.select("item", "coupon"), on="item").select("user", "coupon")
    result: dict[int, list[int]] = {}
    for user, coupon in found.unique().iter_rows():
        if user in codes:
            result.setdefault(codes[user], []).append(coupon)
    return result


def _joined(parts: list[Examples]) -> Examples:
    if not parts:
        nothing = np.zeros(0, np.int32)
        empty = np.zeros((0, len(COUPON_FEATURES)), np.float32)
        return Examples(empty, np.zeros(0, np.float32), nothing, nothing, nothing)
    names = ("features", "labels", "group", "user", "coupon")
    return Examples(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))
