"""What a visitor asks for of each budget at each price: a campaign's money, and a coupon's own.

Of a campaign it is the best of its coupons, of a coupon's own money the coupon where it is better
than the others of its campaign. What else an offer uses is taken at the prices of now. It is
arithmetic on columns: it knows no user, ledger or store.
"""

import numpy as np
from numpy.typing import NDArray

from feature_store.coupon_demand import LADDER, best_of_others, demand_by_price
from online.coupons.columns import Coupons
from online.types import Mask

Floats = NDArray[np.float64]


def asked_of_budgets(
    coupons: Coupons, value: Floats, cost: Floats, shown: Mask, prices: Floats
) -> Floats:
    """How much a visitor would use at the prices of the LADDER, shape (prices, budgets).

    `value`, `cost` and `shown` of each coupon: what showing it is worth if money costs nothing
    beyond itself, what it is expected to use, and whether it may be shown. `prices` are those of
    now, in the order of `Coupons.budgets`.
    """
    num, budgeted = len(coupons.campaigns), coupons.limits.budgeted
    has_budget = np.array([one.budget is not None for one in coupons.campaigns], bool)
    asked = np.zeros((len(LADDER), num + len(budgeted)))
    own_price, column = np.zeros(len(coupons)), np.full(len(coupons), -1)
    own_price[budgeted] = prices[num:]
    column[budgeted] = np.arange(num, num + len(budgeted))
    is_limited = has_budget[coupons.campaign] | np.isin(
        coupons.campaign, coupons.campaign[budgeted]
    )
    order = np.argsort(coupons.campaign, kind="stable")
    places = order[(shown & is_limited)[order]]
    if not len(places):
        return asked
    ladder = LADDER[:, None] * earned_per_unit(coupons)
    campaign, value, cost = coupons.campaign[places], value[places], cost[places]
    left = value - own_price[places] * cost
    of_campaigns = demand_by_price(left, cost, campaign, campaign, ladder[:, :num])
    asked[:, :num] = np.where(has_budget, of_campaigns, 0.0)
    starts = np.flatnonzero(np.diff(campaign, prepend=-1))
    others = best_of_others(left - prices[campaign] * cost, starts)
    mine = np.flatnonzero(column[places] >= 0)
    to_offer = (value - prices[campaign] * cost - others)[mine]
    owned = column[places[mine]]
    is_worth = to_offer > ladder[:, owned] * cost[mine]
    asked[:, owned] = np.where(is_worth, cost[mine], 0.0)
    return asked


def earned_per_unit(coupons: Coupons) -> Floats:
    """Mean margin over face value of the coupons of each budget, shape (budgets,)."""
    count = np.bincount(coupons.campaign, minlength=len(coupons.campaigns))
    ratio = coupons.margin / np.maximum(coupons.face_value, 1)
    total = np.bincount(coupons.campaign, ratio, len(coupons.campaigns))
    mean = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    both: Floats = np.concatenate([mean, ratio[coupons.limits.budgeted]])
    return np.maximum(both, 1e-9)
