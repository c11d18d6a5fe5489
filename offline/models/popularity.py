"""Popularity: how many users bought an item, all-time and of late."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from offline.dataset import Purchases
from offline.recipe import PopularityConfig


@dataclass(frozen=True, slots=True)
class Popularity:
    """The fitted model: item indexes most popular first, and the popularity of each place."""

    order: NDArray[np.int32]
    score: NDArray[np.float32]


def fit_popularity(purchases: Purchases, num_items: int) -> Popularity:
    """Distinct users an item, over all purchases; ties go to the lower index."""
    pairs = purchases.user.astype(np.int64) * num_items + purchases.item
    num_users = np.bincount(np.unique(pairs) % num_items, minlength=num_items)
    return ordered(num_users)


def ordered(score: NDArray[np.floating] | NDArray[np.integer]) -> Popularity:
    """Items by any score, shape (items,), best first; ties go to the lower index."""
    order = np.argsort(-score, kind="stable").astype(np.int32)
    return Popularity(order, score[order].astype(np.float32))


def above_zero(fitted: Popularity) -> Popularity:
    """Without the items whose score is 0: a list of promotions names what is promoted alone."""
    counts = fitted.score > 0
    return Popularity(fitted.order[counts], fitted.score[counts])


def fit_recent_popularity(
    purchases: Purchases, num_items: int, horizon_time: int, config: PopularityConfig
) -> Popularity:
    """Distinct users an item over the last days before the horizon."""
    since = horizon_time - config.num_recent_days * MICROSECONDS_PER_DAY
    return fit_popularity(purchases.between(since, horizon_time), num_items)
