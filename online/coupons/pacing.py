"""The price of a budget here and now, so that each answer is near the best for the whole day.

Offline a linear programme says what a unit of each resource (a campaign's money) is worth at the
margin. An offer is worth showing for what its value exceeds the price of what it uses; that alone
makes each answer near-optimal if the day is like the days before. As it never quite is, the price
is solved for again all day long (Agrawal, Wang and Ye 2014; Li and Ye 2022): it is the one at which
what is still to come would use just what is left. What is to come is what training expects of the
rest of the day at each of some prices, corrected twice: by what the visitors so far would have
used at these prices, and by how much was used beside what that says.

It is arithmetic on arrays: it knows no coupon, user, clock or store. A price guides; that no budget
is ever exceeded is for the ledger to hold.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.coupon_demand import LADDER

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

NONE: Final = -1
"""In a coupon's resources: the column is not used."""

MIN_STEP: Final = 0.005
"""The share of the day that must pass between two steps."""

MEMORY: Final = 0.2
"""After this share of the day what was seen and used counts for 1/e."""

TRUST_IN_DEMAND: Final = 0.01
"""The demand that training expects counts as much as this share of a day seen."""

TRUST_IN_USE: Final = 0.15
"""That models are right about use counts as much as this share of the limit used."""

ELASTICITY: Final = 1.0
"""Where training says no more than a price: demand falls by so many percent for one of price."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What training says of the resources.

    `limit`, shape (resources,): how much there is. `price` (resources,): what a unit is worth when
    the day begins. `scale` (resources,): what a unit buys on average, value per use. `demand`,
    shape (points, prices, resources): how much would be used by evenly spaced times of the day,
    from 0 to 1, at each price of the LADDER, if there were no limit.
    """

    limit: Floats
    price: Floats
    scale: Floats
    demand: Floats

    @property
    def ladder(self) -> Floats:
        """The prices of `demand`, shape (prices, resources)."""
        return LADDER[:, None] * self.scale

    def demanded(self, elapsed: float) -> Floats:
        """The demand until a share of the day, shape (prices, resources)."""
        place = min(max(elapsed, 0.0), 1.0) * (len(self.demand) - 1)
        low = min(int(place), len(self.demand) - 2)
        part = place - low
        demand: Floats = (1 - part) * self.demand[low] + part * self.demand[low + 1]
        return demand


@dataclass(frozen=True, slots=True)
class Pace:
    """Live prices, and what they were made from; all fade but `price`, `used` and `fresh`.

    `price` (resources,); `used` (resources,) and `elapsed`, the share of the day, when they were
    made. `seen` and `usual`, (prices, resources): demand of those who came, and what the plan
    expected of that time. `spent` and `expected`, (resources,): what was used, at least 0 where
    reservations ended, and what demand at the prices then says. `fresh`, (prices, resources):
    demand since the prices were made.
    """

    price: Floats
    used: Floats
    elapsed: float
    seen: Floats
    usual: Floats
    spent: Floats
    expected: Floats
    fresh: Floats


def steady(limit: Floats, price: Floats, scale: Floats) -> Plan:
    """A plan where training says prices alone: all day alike, and the price just right."""
    ladder = LADDER[:, None] * scale
    lowest = LADDER[1] * scale
    ratio = np.maximum(ladder, lowest) / np.maximum(price, lowest)
    whole = limit * ratio**-ELASTICITY
    return Plan(limit, price, scale, np.stack([np.zeros_like(whole), whole]))


def start(plan: Plan, used: Floats, elapsed: float = 0.0) -> Pace:
    """The prices of the plan, for when no live ones are known."""
    none, nothing = np.zeros_like(plan.ladder), np.zeros_like(plan.limit)
    price = plan.price.astype(np.float64)
    return Pace(price, used.astype(np.float64), elapsed, none, none, nothing, nothing, fresh=none)


def noted(pace: Pace, demand: Floats) -> Pace:
    """With the demand, (prices, resources), of visitors who came since."""
    return replace(pace, fresh=pace.fresh + demand)


def repriced(
    plan: Plan, pace: Pace, used: Floats, elapsed: float, held: Floats | float = 0.0
) -> Pace:
    """The prices at `elapsed`, with `used` of each resource by then; the same within MIN_STEP.

    `held`, (resources,), is set aside for others: it is not left, and no visitor used it. Where no
    demand was noted, what the plan expects stands for it.
    """
    step = elapsed - pace.elapsed
    if step < MIN_STEP:
        return pace
    kept = float(np.exp(-step / MEMORY))
    planned = plan.demanded(elapsed) - plan.demanded(pace.elapsed)
    is_seen = pace.fresh[0] > 0
    came = np.where(is_seen, pace.fresh, planned * _busier(plan, pace))
    now = Pace(
        price=pace.price,
        used=used.astype(np.float64),
        elapsed=elapsed,
        seen=np.where(is_seen, kept * pace.seen + pace.fresh, pace.seen),
        usual=np.where(is_seen, kept * pace.usual + planned, pace.usual),
        spent=np.maximum(kept * pace.spent + used - pace.used, 0.0),
        expected=kept * pace.expected + _at(plan.ladder, came, pace.price),
        fresh=np.zeros_like(pace.fresh),
    )
    return replace(now, price=_solved(plan, now, held))


def net_values(value: Floats, price: Floats, resource: Codes, use: Floats) -> Floats:
    """What each offer is worth beyond what it uses, shape (n,).

    `value` (n,); `price` (resources,); `resource` and `use`, (n, k): what each uses and how much.
    """
    padded = np.append(price, 0.0)  # NONE is the last place
    net: Floats = value - (padded[resource] * use).sum(axis=1)
    return net


def fitting(left: Floats, resource: Codes, need: Floats) -> NDArray[np.bool_]:
    """Which offers what is left still holds, shape (n,); `need` (n, k) is what a claim reserves."""
    padded = np.append(left, np.inf)
    return np.asarray((need <= padded[resource]).all(axis=1), bool)


def _busier(plan: Plan, pace: Pace) -> Floats:
    """Demand seen over demand expected, at each price, shape (prices, resources)."""
    trust = TRUST_IN_DEMAND * plan.demand[-1] + 1e-12
    ratio: Floats = (pace.seen + trust) / (pace.usual + trust)
    return ratio


def _solved(plan: Plan, pace: Pace, held: Floats | float) -> Floats:
    """The price at which the rest of the day uses what is left, shape (resources,)."""
    trust = TRUST_IN_USE * plan.limit + 1e-12
    surplus_use = (pace.spent + trust) / (pace.expected + trust)
    rest = (plan.demand[-1] - plan.demanded(pace.elapsed)) * _busier(plan, pace) * surplus_use
    left = np.maximum(plan.limit - pace.used - held, 0.0)
    falling = np.minimum.accumulate(rest, axis=0)
    ladder = plan.ladder
    return np.array(
        [
            np.interp(left[one], falling[::-1, one], ladder[::-1, one])
            for one in range(len(plan.limit))
        ]
    )


def _at(ladder: Floats, demand: Floats, price: Floats) -> Floats:
    """Demand at a price, shape (resources,), from that at the prices of a ladder."""
    pairs = enumerate(price)
    return np.array([np.interp(value, ladder[:, one], demand[:, one]) for one, value in pairs])
