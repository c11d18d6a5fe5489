"""A day in a simulated shop: visitors come one after the other, offers are given, budgets are used.

Two rules give offers: the product's own (value less the shadow prices of what is used, solved for
again as the day goes, `online.coupons.pacing`), and ranking by the propensity to redeem. Each
visitor gets at most one offer of each campaign. What is shown is redeemed by the dice of the day,
the same for all rules, and a redemption takes the coupon's face value; an offer that the budget
cannot hold is not shown, since showing is a promise.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from feature_store.coupon_demand import LADDER, demand_by_price
from infra.bench.coupon_shops import (
    CAMPAIGN,
    NUM_CAMPAIGNS,
    NUM_COUPONS,
    PER_CAMPAIGN,
    Floats,
    Shop,
    Truth,
)
from offline.coupons.allocation import programme, shadow_prices
from online.coupons.pacing import (
    MIN_STEP,
    Plan,
    fitting,
    noted,
    repriced,
    start,
)

ORDERS: Final = ("random", "waves", "surprise")
"""How visitors come: evenly; with rush hours in which others come than else; and as on no day
before, the latter half of the day brings other people."""

LEARNED_OF: Final = 4
_EXACT: Final = {"xatol": 1e-7}
NUM_STEPS: Final = round(1 / MIN_STEP)
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


def optimum(value: Floats, cost: Floats, limit: Floats) -> float:
    """What no rule exceeds in expectation: the exact dual of the whole day's linear programme.

    As campaigns share neither money nor places, it is a sum of duals with one price each.
    """
    total = 0.0
    for number in _CAMPAIGNS:
        mine = slice(number * PER_CAMPAIGN, (number + 1) * PER_CAMPAIGN)
        given = value[:, mine], cost[:, mine], float(limit[number])
        bounds = (0.0, float((given[0] / given[1]).max()))
        found = minimize_scalar(_dual, args=given, bounds=bounds, method="bounded", options=_EXACT)
        total += min(float(found.fun), _dual(0.0, *given))
    return total


def _dual(price: float, value: Floats, cost: Floats, limit: float) -> float:
    best = (value - price * cost).max(axis=1)
    return limit * price + float(np.maximum(best, 0.0).sum())


def first_prices(value: Floats, cost: Floats, limit: Floats) -> Floats:
    """What training puts into a bundle: prices of the programme of one visitor in LEARNED_OF."""
    value, cost = value[::LEARNED_OF], cost[::LEARNED_OF]
    user = np.repeat(np.arange(len(value)), NUM_COUPONS)
    campaign = np.tile(CAMPAIGN, len(value))
    problem, _ = programme(
        *(user, campaign, value.ravel(), campaign[:, None], cost.ravel()[:, None]),
        limit / LEARNED_OF,
    )
    return shadow_prices(problem)


@dataclass(frozen=True, slots=True)
class Belief:
    """What a rule believes of a day's visitors: `value` and `cost`, shape (people, coupons).

    `asked`, shape (steps, prices, campaigns): what those of each MIN_STEP would use at the prices
    of the LADDER, in `scale`.
    """

    value: Floats
    cost: Floats
    scale: Floats
    asked: Floats


def believe(day: Day, value: Floats, cost: Floats, scale: Floats) -> Belief:
    """The belief, and what follows from it of demand."""
    ladder = LADDER[:, None] * scale
    asked = [_asked(value[came], cost[came], ladder) for came in _steps(day.time)]
    return Belief(value, cost, scale, np.array(asked))


def typical_scale(value: Floats, cost: Floats) -> Floats:
    """What a unit of money buys on average, the same for all campaigns."""
    return np.full(NUM_CAMPAIGNS, np.maximum(value, 0.0).sum() / cost.sum())


def plan_day(past: Belief, limit: Floats) -> Plan:
    """What a day of the past says of the next: shadow prices, and what is asked for by when."""
    demand = np.concatenate([np.zeros_like(past.asked[:1]), np.cumsum(past.asked, axis=0)])
    return Plan(limit, first_prices(past.value, past.cost, limit), past.scale, demand)


def give_by_value(
    shop: Shop, day: Day, truth: Truth, belief: Belief, plan: Plan, dice: Floats
) -> Outcome:
    """The product's rule with what it believes."""
    gifts = _Gifts(shop, truth, dice, plan.limit)
    pace = start(plan, gifts.used)
    for came, asked in zip(_steps(day.time), belief.asked, strict=True):
        if came.start == came.stop:
            continue
        pace = repriced(plan, pace, gifts.used, float(day.time[came.start]))
        gifts.give(came, belief.value[came] - pace.price[CAMPAIGN] * belief.cost[came])
        pace = noted(pace, asked)
    return Outcome(gifts.earned, gifts.used, gifts.num_shown)


class _Gifts:
    """What is given to visitors, and what comes of it."""

    def __init__(self, shop: Shop, truth: Truth, dice: Floats, limit: Floats) -> None:
        self.earned, self.num_shown, self.used = 0.0, 0, np.zeros(NUM_CAMPAIGNS)
        self._face, self._limit, self._value = shop.face, limit, shop.value(truth)
        self._is_redeemed = dice[:, CAMPAIGN] < truth.propensity

    def give(self, people: slice, net: Floats) -> None:
        """The best of each campaign above 0, of what its money still holds; `net` as `Belief`."""
        for number in _CAMPAIGNS:
            mine = slice(number * PER_CAMPAIGN, (number + 1) * PER_CAMPAIGN)
            start = people.start
            while start < people.stop:
                left = self._limit[number] - self.used[number]
                fits = fitting(left[None], _ONLY, self._face[mine, None])
                if not fits.any():
                    break
                start = self._give(
                    slice(start, people.stop), mine, net[start - people.stop :], fits
                )

    def _give(self, people: slice, mine: slice, net: Floats, fits: NDArray[np.bool_]) -> int:
        """Until money may not hold one of those that `fits`; who is next."""
        offers = np.where(fits, net[:, mine], -np.inf)
        best, rows = offers.argmax(axis=1), np.arange(len(offers))
        is_given = offers[rows, best] > 0
        redeemed = is_given & self._is_redeemed[people, mine][rows, best]
        used = np.cumsum(self._face[mine][best] * redeemed)
        number = mine.start // PER_CAMPAIGN
        spare = self._limit[number] - self.used[number] - self._face[mine][fits].max()
        last = int(np.searchsorted(used, spare, side="right"))  # the first after whom it is short
        num = min(last + 1, len(used))
        until = slice(0, num)
        self.earned += float(self._value[people, mine][rows, best][until][is_given[until]].sum())
        self.num_shown += int(is_given[until].sum())
        self.used[number] += used[until][-1]
        return int(people.start) + num


def _steps(time: Floats) -> list[slice]:
    """The visitors of each MIN_STEP, between whom prices stay."""
    ends = np.searchsorted(time, np.linspace(0.0, 1.0, NUM_STEPS + 1))
    return [slice(int(first), int(end)) for first, end in pairwise([*ends[:-1], len(time)])]


def _asked(value: Floats, cost: Floats, ladder: Floats) -> Floats:
    """What visitors would use at each price, (prices, campaigns), of (visitors, coupons)."""
    blocks = (np.arange(len(value))[:, None] * NUM_CAMPAIGNS + CAMPAIGN).ravel()
    campaigns = np.tile(CAMPAIGN, len(value))
    return demand_by_price(value.ravel(), cost.ravel(), blocks, campaigns, ladder)


def give_by_propensity(
    shop: Shop,
    truth: Truth,
    believed: Floats,
    limit: Floats,
    dice: Floats,
    order: NDArray[np.intp],
) -> Outcome:
    """Each in `order` gets of each campaign the offer that is believed likeliest to be redeemed."""
    earned, shown, used = 0.0, 0, np.zeros(NUM_CAMPAIGNS)
    value, best = shop.value(truth), _likeliest(believed)
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


def ranked_by_propensity(
    shop: Shop, truth: Truth, believed: Floats, limit: Floats, dice: Floats
) -> Outcome:
    """The better of two: whoever comes first, and the likeliest of the whole day first.

    `believed`, shape (people, coupons), are propensities of the models that the other rule has.
    """
    likeliest = np.argsort(-believed.max(axis=1), kind="stable")
    outcomes = [
        give_by_propensity(shop, truth, believed, limit, dice, order)
        for order in (np.arange(len(believed)), likeliest)
    ]
    return max(outcomes, key=lambda outcome: outcome.earned)


_CAMPAIGNS: Final = range(NUM_CAMPAIGNS)
_FIRST: Final = np.arange(NUM_CAMPAIGNS) * PER_CAMPAIGN
_ONLY: Final = np.zeros((PER_CAMPAIGN, 1), np.int32)


def _likeliest(propensity: Floats) -> NDArray[np.intp]:
    """Of each person and campaign the likeliest coupon, shape (people, campaigns)."""
    shape = (len(propensity), NUM_CAMPAIGNS, PER_CAMPAIGN)
    best: NDArray[np.intp] = propensity.reshape(shape).argmax(axis=2) + _FIRST
    return best
