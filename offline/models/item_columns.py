"""What ranking knows of each item: popularity and its trend, rhythm, price, promotions.

Everything is as of the dataset's horizon and computed from purchases before it. Rates of items
that few bought are drawn towards their type's and category's (shrinkage by pseudo-counts).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from feature_store.ranking import GROUPS, ITEM_FEATURES, PRICE_FLOOR, ItemColumns
from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY
from offline.dataset import Dataset, Purchases

Floats = NDArray[np.float64]

BUYER_WINDOWS_DAYS = (7, 28, 56)
FIRST_BUYER_WINDOWS_DAYS = (7, 28)
PRICE_WINDOW_DAYS = 56
PROMOTION_WINDOW_DAYS = 56
REPEAT_WINDOW_DAYS = 30
NUM_REPEAT_WINDOWS = 3
DISCOUNT_WINDOW_DAYS = 7
CO_PURCHASE_WINDOW_DAYS = 120
NUM_PRICE_BANDS = 5
ITEM_PRIOR = 10.0
GROUP_PRIOR = 20.0


@dataclass(frozen=True, slots=True)
class Popular:
    """How many users per thousand bought each item, and for the first time.

    Both have shape (items, windows).
    """

    buyers: Floats
    first: Floats


def fit_item_columns(dataset: Dataset) -> ItemColumns:
    """The columns of `feature_store.ranking.ITEM_FEATURES` for each item of the dataset."""
    price = _recent_price(dataset)
    groups = group_codes(dataset.items, price)
    popular = count_buyers(dataset)
    week, month, two_months = popular.buyers.T
    promo, usual = _promotions(dataset)
    type_buyers = np.bincount(groups[:, 0], month)
    values = {
        "buyers_7": np.log1p(week),
        "buyers_28": np.log1p(month),
        "trend_short": np.log((4.0 * week + 2.0) / (month + 2.0)),
        "trend_long": np.log((2.0 * month + 2.0) / (two_months + 2.0)),
        "first_buyers_7": np.log1p(popular.first[:, 0]),
        "first_buyers_28": np.log1p(popular.first[:, 1]),
        "repeat_rate": _repeat_rate(dataset, groups),
        "item_gap": _typical_gap_days(dataset, groups),
        "price_log": np.log(price + PRICE_FLOOR),
        "discount": _discount(dataset, price),
        "basket_mates": np.log1p(_basket_mates(dataset, groups)),
        "promo": promo,
        "promo_lift": promo - usual,
        "share_of_type": month / np.maximum(type_buyers[groups[:, 0]], 1e-9),
    }
    matrix = np.column_stack([values[name] for name in ITEM_FEATURES]).astype(np.float32)
    first_time = np.full(dataset.num_items, dataset.horizon_time)
    np.minimum.at(first_time, dataset.purchases.item, dataset.purchases.time)
    return ItemColumns(matrix, groups, first_time)


def group_codes(items: pl.DataFrame, price: Floats) -> NDArray[np.int32]:
    """Type, category, brand and price band of each item as codes that no two groups share.

    Shape (items, GROUPS). The type is the whole category path, the category the path without
    its last level. The price band says in which fifth of its type's prices the item lies; `price`
    has shape (items,), 0 for what is not known. Items that lack one share a code.
    """
    levels = pl.col("category").fill_null("").str.split(CATEGORY_SEPARATOR)
    names = items.select(
        type=pl.col("category").fill_null(""),
        category=levels.list.head(pl.max_horizontal(levels.list.len() - 1, 1)).list.join(
            CATEGORY_SEPARATOR
        ),
        brand=pl.col("brand").fill_null(""),
        price=pl.Series(price),
    )
    rank = (pl.col("price").rank("average").over("type") - 0.5) / pl.len().over("type")
    band = pl.when(pl.col("price") > 0).then((NUM_PRICE_BANDS * rank).floor()).otherwise(-1)
    names = names.with_columns(price_band=band)
    codes, start = [], 0
    for group in GROUPS:
        own = names[group].rank("dense").to_numpy().astype(np.int32) - 1 + start
        codes.append(own)
        start = int(own.max(initial=start)) + 1
    return np.column_stack(codes).astype(np.int32)


def count_buyers(dataset: Dataset) -> Popular:
    """Distinct users an item within the windows before the horizon, per thousand users."""
    purchases, end = dataset.purchases, dataset.horizon_time
    thousands = len(dataset.users) / 1000.0
    since = [end - days * MICROSECONDS_PER_DAY for days in BUYER_WINDOWS_DAYS]
    buyers = [_per_item(_pairs(purchases.between(start, end), dataset), dataset) for start in since]
    pairs, first = np.unique(_all_pairs(purchases, dataset), return_index=True)
    first_time = purchases.time[first]
    late = [end - days * MICROSECONDS_PER_DAY for days in FIRST_BUYER_WINDOWS_DAYS]
    firsts = [_per_item(pairs[first_time >= start], dataset) for start in late]
    return Popular(np.column_stack(buyers) / thousands, np.column_stack(firsts) / thousands)


def _all_pairs(purchases: Purchases, dataset: Dataset) -> NDArray[np.int64]:
    return purchases.user.astype(np.int64) * dataset.num_items + purchases.item


def _pairs(purchases: Purchases, dataset: Dataset) -> NDArray[np.int64]:
    return np.unique(_all_pairs(purchases, dataset))


def _per_item(pairs: NDArray[np.int64], dataset: Dataset) -> Floats:
    return np.bincount(pairs % dataset.num_items, minlength=dataset.num_items).astype(np.float64)


def _shrunk(total: Floats, size: Floats, groups: NDArray[np.int32]) -> Floats:
    """The ratio of each item, drawn to its type's ratio, which is drawn to its category's."""
    rate = np.full(len(total), total.sum() / max(size.sum(), 1e-9))
    for codes in (groups[:, 1], groups[:, 0]):
        up, down = np.bincount(codes, total)[codes], np.bincount(codes, size)[codes]
        rate = (up + GROUP_PRIOR * rate) / (down + GROUP_PRIOR)
    result: Floats = (total + ITEM_PRIOR * rate) / (size + ITEM_PRIOR)
    return result


def _repeat_rate(dataset: Dataset, groups: NDArray[np.int32]) -> Floats:
    """The share of a month's buyers who bought again in the month after, over three months."""
    window = REPEAT_WINDOW_DAYS * MICROSECONDS_PER_DAY
    ends = [dataset.horizon_time - number * window for number in range(NUM_REPEAT_WINDOWS + 1)]
    months = [_pairs(dataset.purchases.between(end - window, end), dataset) for end in ends]
    again, before = np.zeros(dataset.num_items), np.zeros(dataset.num_items)
    for late, early in pairwise(months):
        again += _per_item(np.intersect1d(early, late, assume_unique=True), dataset)
        before += _per_item(early, dataset)
    return _shrunk(again, before, groups)


def _typical_gap_days(dataset: Dataset, groups: NDArray[np.int32]) -> Floats:
    """Days between a user's purchases of the item, at least one."""
    purchases = dataset.purchases
    pairs, index, count = np.unique(
        _all_pairs(purchases, dataset), return_inverse=True, return_counts=True
    )
    last = np.zeros(len(pairs), np.int64)
    last[index] = purchases.time  # sorted by time: the last one stays
    first = np.full(len(pairs), dataset.horizon_time)
    np.minimum.at(first, index, purchases.time)
    item = pairs % dataset.num_items
    span = _sums(item, (last - first) / MICROSECONDS_PER_DAY, dataset)
    gaps = _sums(item, count - 1.0, dataset)
    return np.maximum(_shrunk(span, gaps, groups), 1.0)


def _recent_price(dataset: Dataset) -> Floats:
    """The mean price paid of late, else the mean ever paid, else 0."""
    late = _mean_price(_latest(dataset, PRICE_WINDOW_DAYS), dataset.num_items)
    return np.where(late > 0, late, _mean_price(dataset.purchases, dataset.num_items))


def _discount(dataset: Dataset, usual: Floats) -> Floats:
    """How much less than usual was paid in the last week, as a share; below 0 for more."""
    week = _mean_price(_latest(dataset, DISCOUNT_WINDOW_DAYS), dataset.num_items)
    share = 1.0 - week / np.maximum(usual, 1e-9)
    return np.where((week > 0) & (usual > 0), np.clip(share, -1.0, 1.0), 0.0)


def _latest(dataset: Dataset, days: int) -> Purchases:
    """The purchases of the last days."""
    start = dataset.horizon_time - days * MICROSECONDS_PER_DAY
    return dataset.purchases.between(start, dataset.horizon_time)


def _basket_mates(dataset: Dataset, groups: NDArray[np.int32]) -> Floats:
    """How many other items are bought with each item at the same time, on average."""
    late = _latest(dataset, CO_PURCHASE_WINDOW_DAYS)
    order = np.lexsort((late.user, late.time))
    same = (np.diff(late.user[order]) == 0) & (np.diff(late.time[order]) == 0)
    basket = np.concatenate(([0], np.cumsum(~same)))[: len(order)]
    others = np.bincount(basket)[basket] - 1.0 if len(order) else np.zeros(0)
    item = late.item[order]
    return _shrunk(_sums(item, others, dataset), _sums(item, np.ones(len(item)), dataset), groups)


def _mean_price(purchases: Purchases, num_items: int) -> Floats:
    price = np.nan_to_num(purchases.price)
    total = np.bincount(purchases.item, price, minlength=num_items)
    return total / np.maximum(np.bincount(purchases.item, minlength=num_items), 1)


def _promotions(dataset: Dataset) -> tuple[Floats, Floats]:
    """The strength of what runs at the horizon, and its mean over the weeks before."""
    promotions, end = dataset.promotions, dataset.horizon_time
    start = end - PROMOTION_WINDOW_DAYS * MICROSECONDS_PER_DAY
    overlap = np.minimum(promotions.end_time, end) - np.maximum(promotions.start_time, start)
    usual = promotions.strength * np.maximum(overlap, 0) / (end - start)
    running = promotions.strength * (promotions.end_time > end)
    return _sums(promotions.item, running, dataset), _sums(promotions.item, usual, dataset)


def _sums(item: NDArray[np.integer], values: ArrayLike, dataset: Dataset) -> Floats:
    """The sum of the values of each item, shape (items,)."""
    total = np.bincount(item, np.asarray(values, np.float64), minlength=dataset.num_items)
    return total.astype(np.float64)
