"""The features of a user and a coupon, the same for training at a past instant and for serving.

A user's history and a coupon's goods, and nothing else: no store, no model, no basket. Learning
what a redemption depends on is offline's; `Model.features` names columns of `COUPON_FEATURES`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.ranking import History
from feature_store.state import HALF_LIVES_DAYS

COUPON_FEATURES: Final = (
    "base_rate_logit",
    "own_goods_log",
    "own_kinds_log",
    "own_share",
    "days_since_goods_log",
    "num_goods_log",
    "is_for_all",
    "baskets_log",
)

OWN_GOODS: Final = COUPON_FEATURES.index("own_goods_log")
BASE_RATE: Final = COUPON_FEATURES.index("base_rate_logit")

HALF_LIFE: Final = HALF_LIVES_DAYS.index(90.0)
NEVER_DAYS: Final = 400.0

Floats = NDArray[np.float64]


def coupon_features(
    history: History,
    num_baskets: float,
    named: NDArray[np.int32],
    lines: NDArray[np.intp],
    num_goods: NDArray[np.int64],
    is_for_all: NDArray[np.bool_],
    base_rate: NDArray[np.float32],
) -> NDArray[np.float32]:
    """One row a coupon, one column a feature, shape (coupons, COUPON_FEATURES).

    `named` and `lines` pair coupons with the positions in `history.items` of their goods that the
    user has dealt with. `num_goods`, `is_for_all` and `base_rate` are by coupon.
    """
    num = len(base_rate)
    bought = history.bought.astype(np.float64)
    weight: Floats = history.decayed[:, HALF_LIFE] * bought
    total = float(weight.sum())
    own = np.bincount(named, weight[lines], num) if len(named) else np.zeros(num)
    kinds = np.bincount(named, bought[lines], num) if len(named) else np.zeros(num)
    days = np.full(num, NEVER_DAYS)
    was_bought = history.bought[lines]
    np.minimum.at(days, named[was_bought], history.days_since[lines[was_bought]])
    share = own / total if total > 0 else np.zeros(num)
    rate = np.clip(base_rate.astype(np.float64), 1e-6, 1 - 1e-6)
    columns = (
        np.log(rate / (1 - rate)),
        np.log1p(own),
        np.log1p(kinds),
        np.where(is_for_all, 1.0, share),
        np.log1p(np.maximum(days, 0.0)),
        np.log1p(num_goods),
        is_for_all.astype(np.float64),
        np.full(num, np.log1p(num_baskets)),
    )
    return np.column_stack(columns).astype(np.float32)


def best_fitting(features: NDArray[np.floating], block: NDArray[np.integer]) -> NDArray[np.intp]:
    """Of each row the row of its block whose coupon fits the user best, shape (n,).

    `block` numbers users and campaigns. It is the coupon whose goods the user buys most, of equals
    the one that is redeemed most.
    """
    order = np.lexsort((-features[:, BASE_RATE], -features[:, OWN_GOODS], block))
    names, first = np.unique(block[order], return_index=True)
    best: NDArray[np.intp] = order[first[np.searchsorted(names, block)]]
    return best


def uplift_by_coupon(uplift: Floats, redemption: Floats, best: NDArray[np.intp]) -> Floats:
    """What showing each coupon adds, shape (n,), of what is learned of campaigns.

    Lots decide about campaigns, so learned is the `uplift` of offering the `best` coupon of one.
    Another coupon moves as much less as it is less likely to be redeemed: what a campaign does is
    taken to come through its redemptions.
    """
    share = redemption / np.maximum(redemption[best], 1e-12)
    moved: Floats = uplift[best] * np.minimum(share, 1.0)
    return moved
