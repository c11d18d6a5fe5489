"""A day in a simulated shop: visitors come one after the other, offers are given, budgets are used.

Two rules give offers: the product's own (value less the shadow prices of what is used, prices moved
as the day goes, `online.coupons.pacing`), and ranking by the propensity to redeem. Each visitor
gets at most one offer of each campaign. What is shown is redeemed by the dice of the day, the same
for all rules, and a redemption takes the coupon's face value; an offer that the budget cannot hold
is not shown, since showing is a promise.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.bench.coupon_shops import (
    CAMPAIGN,
    NUM_CAMPAIGNS,
    NUM_COUPONS,
    PER_CAMPAIGN,
    Floats,
    Shop,
    Truth,
)
from offline.coupons.allocation import Allocation, allocate, programme
from online.coupons.pacing import Plan, fitting, net_values, repriced, start

ORDERS: Final = ("random", "waves", "surprise")
"""How visitors come: evenly; with rush hours in which others come than else; and as on no day
before, the latter half of the day brings other people."""

NUM_CURVE_POINTS: Final = 25
RESOURCE: Final = CAMPAIGN[:, None]
"""What each coupon uses: its campaign's money."""


@dataclass(frozen=True, slots=True)
class Day:
    """Visitors in order: features (people, features), when each came as a share of the day."""

    features: Floats
    time: Floats


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule came to: the true expected value of what it showed, and the money used."""

    earned: float
    used: Floats
    num_shown: int


def draw_day(shop: Shop, num: int, order: str, seed: int) -> Day:
    """`num` visitors; what a person's first features are decides when they come in `waves`."""
    rng = np.random.default_rng(seed)
    features = shop.people(rng, num)
    time = rng.random(num)
    if order == "waves":
        late = features[:, 0] + features[:, 1] > 0.5
        rush = np.where(late, rng.beta(9, 3, num), rng.beta(3, 6, num))
        time = np.where(rng.random(num) < 0.7, rush, time)
    if order == "surprise":
        others = shop.people(rng, num)
        wanted = others[np.argsort(-others[:, -1], kind="stable")][: num // 2]
        is_late = np.argsort(time)[num - num // 2 :]
        features[is_late] = rng.permutation(wanted)
    arrival = np.argsort(time, kind="stable")
    return Day(features[arrival], time[arrival])


def budgets(shop: Shop, truth: Truth, share: float) -> Floats:
    """Money of each campaign: a share of what the likeliest offer to everybody would cost."""
    cost, best = shop.cost(truth), _likeliest(truth.propensity)
    everyone = [cost[np.arange(len(cost)), best[:, number]].sum() for number in _CAMPAIGNS]
    return share * np.array(everyone)


def optimum(value: Floats, cost: Floats, limit: Floats) -> tuple[Allocation, NDArray[np.bool_]]:
    """The linear programme of a whole day; and its plan, shape (people, coupons)."""
    num = len(value)
    user = np.repeat(np.arange(num), NUM_COUPONS)
    campaign = np.tile(CAMPAIGN, num)
    problem, order = programme(
        user, campaign, value.ravel(), campaign[:, None], cost.ravel()[:, None], limit
    )
    found = allocate(problem)
    chosen = np.zeros(value.size, bool)
    chosen[order] = found.chosen
    return found, chosen.reshape(value.shape)


def plan_day(value: Floats, cost: Floats, limit: Floats, time: Floats) -> Plan:
    """What a day of the past says of the next: shadow prices, and when the money is well spent."""
    found, chosen = optimum(value, cost, limit)
    spent = np.stack([(cost * chosen)[:, number == CAMPAIGN].sum(axis=1) for number in _CAMPAIGNS])
    edges = np.linspace(0.0, 1.0, NUM_CURVE_POINTS)
    running = np.concatenate([np.zeros((NUM_CAMPAIGNS, 1)), np.cumsum(spent, axis=1)], axis=1)
    curve = running[:, np.searchsorted(time, edges)].T
    curve /= np.maximum(curve[-1], 1e-12)
    scale = np.full(NUM_CAMPAIGNS, np.maximum(value, 0.0).sum() / cost.sum())
    return Plan(limit, found.price, scale, curve)


def give_by_value(
    shop: Shop, day: Day, truth: Truth, value: Floats, cost: Floats, plan: Plan, dice: Floats
) -> Outcome:
    """The product's rule; `value` and `cost` are what it believes, (people, coupons)."""
    earned, shown, used = 0.0, 0, np.zeros(NUM_CAMPAIGNS)
    true_value, pace = shop.value(truth), start(plan, used)
    for person in range(len(day.time)):
        pace = repriced(plan, pace, used, float(day.time[person]))
        net = net_values(value[person], pace.price, RESOURCE, cost[person][:, None])
        net[~fitting(plan.limit - used, RESOURCE, shop.face[:, None])] = -np.inf
        best = net.reshape(NUM_CAMPAIGNS, PER_CAMPAIGN).argmax(axis=1) + _FIRST
        given = best[net[best] > 0]
        earned += float(true_value[person, given].sum())
        shown += len(given)
        redeemed = given[dice[person, CAMPAIGN[given]] < truth.propensity[person, given]]
        used[CAMPAIGN[redeemed]] += shop.face[redeemed]
    return Outcome(earned, used, shown)


def give_by_propensity(
    shop: Shop, truth: Truth, limit: Floats, dice: Floats, order: NDArray[np.intp]
) -> Outcome:
    """Each in `order` gets the offer of each campaign that they are likeliest to redeem."""
    earned, shown, used = 0.0, 0, np.zeros(NUM_CAMPAIGNS)
    value, best = shop.value(truth), _likeliest(truth.propensity)
    for number in _CAMPAIGNS:
        coupon = best[order, number]
        is_redeemed = dice[order, number] < truth.propensity[order, coupon]
        before = np.cumsum(is_redeemed * shop.face[coupon]) - is_redeemed * shop.face[coupon]
        fits = before + shop.face[coupon] <= limit[number]
        # Once an offer does not fit, a cheaper one may: what it takes is counted again.
        last = len(fits) if fits.all() else int(np.argmin(fits))
        earned += float(value[order[:last], coupon[:last]].sum())
        shown += last
        used[number] = float((is_redeemed * shop.face[coupon])[:last].sum())
    return Outcome(earned, used, shown)


def ranked_by_propensity(shop: Shop, truth: Truth, limit: Floats, dice: Floats) -> Outcome:
    """The better of two: whoever comes first, and the likeliest of the whole day first."""
    num = len(truth.base)
    likeliest = np.argsort(-truth.propensity.max(axis=1), kind="stable")
    outcomes = [
        give_by_propensity(shop, truth, limit, dice, order) for order in (np.arange(num), likeliest)
    ]
    return max(outcomes, key=lambda outcome: outcome.earned)


_CAMPAIGNS: Final = range(NUM_CAMPAIGNS)
_FIRST: Final = np.arange(NUM_CAMPAIGNS) * PER_CAMPAIGN


def _likeliest(propensity: Floats) -> NDArray[np.intp]:
    """Of each person and campaign the likeliest coupon, shape (people, campaigns)."""
    shape = (len(propensity), NUM_CAMPAIGNS, PER_CAMPAIGN)
    best: NDArray[np.intp] = propensity.reshape(shape).argmax(axis=2) + _FIRST
    return best
