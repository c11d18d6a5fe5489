"""The price of a budget here and now, so that each answer is near the best for the whole day.

Offline a linear programme says what a unit of each resource (a campaign's money, a coupon's cap) is
worth at the margin. An offer is worth showing for what its value exceeds the price of what it uses;
that alone makes each answer near-optimal if the day is like the days before. As it never quite is,
prices are moved as budgets are used: up where more is used than was planned for this time, down
where less is. The step is that of dual mirror descent (Balseiro, Lu and Mirrokni 2020), with the
plan drawn anew each time from what is left, so that an error is made up for and not carried along.

It is arithmetic on arrays: it knows no coupon, user, clock or store. A price guides; that no budget
is ever exceeded is for the ledger to hold.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

NONE: Final = -1
"""In a coupon's resources: the column is not used."""

SPEED: Final = 1.5
"""How far a log-price moves while all that is left falls due, if twice of it is used.

Slow on purpose: what training learned of whole days says more than the last few claims do.
"""

MAX_MOVE: Final = 0.5
"""How far a log-price moves in one step, at most, for each multiple of the plan in excess."""

MIN_STEP: Final = 0.005
"""The share of the day that must pass between two steps."""

MAX_EXCESS: Final = 3.0
"""Use beyond this multiple of the plan counts as this much: a single large claim is no trend."""

MIN_PRICE: Final = 1e-3
MAX_PRICE: Final = 1e3
"""Bounds of a price, in `Plan.scale`; below the lower one it is 0."""

LAST_SHARE: Final = 0.01
"""Less than this share of the day is planned as if this much were left."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What training says of the resources, each shape (resources,) but `curve`.

    `limit`: how much there is. `price`: what a unit is worth when the day begins. `scale`: what a
    unit buys on average, value per use, which says what a small price is. `curve`, shape
    (points, resources): the share of each that should be used by evenly spaced times of the day,
    from 0 to 1; a straight line where the days before say nothing.
    """

    limit: Floats
    price: Floats
    scale: Floats
    curve: Floats

    def due(self, elapsed: float) -> Floats:
        """The share of each resource that should be used by a share of the day, (resources,)."""
        place = min(max(elapsed, 0.0), 1.0) * (len(self.curve) - 1)
        low = min(int(place), len(self.curve) - 2)
        part = place - low
        due: Floats = (1 - part) * self.curve[low] + part * self.curve[low + 1]
        return due


@dataclass(frozen=True, slots=True)
class Pace:
    """Live prices, shape (resources,), and what they were made from.

    `used`: of each resource when the prices were made. `elapsed`: the share of the day then.
    """

    price: Floats
    used: Floats
    elapsed: float


def straight(num_resources: int, num_points: int = 2) -> Floats:
    """The curve of a day of which nothing is known: evenly through."""
    line = np.linspace(0.0, 1.0, num_points)
    return np.repeat(line[:, None], num_resources, axis=1)


def start(plan: Plan, used: Floats, elapsed: float = 0.0) -> Pace:
    """The prices of the plan, for when no live ones are known."""
    return Pace(plan.price.astype(np.float64), used.astype(np.float64), elapsed)


def repriced(plan: Plan, pace: Pace, used: Floats, elapsed: float) -> Pace:
    """The prices at `elapsed`, with `used` of each resource by then; the same within MIN_STEP.

    What is due in a step is the part of what was left that the plan gives to that time.
    """
    if elapsed - pace.elapsed < MIN_STEP:
        return pace
    step = _due_since(plan, pace, elapsed)
    left = np.maximum(plan.limit - pace.used, 1e-12)
    excess = np.minimum((used - pace.used) / (left * step), MAX_EXCESS) - 1.0
    low, high = MIN_PRICE * plan.scale, MAX_PRICE * plan.scale
    gain = np.minimum(SPEED * step, MAX_MOVE)
    moved = np.clip(np.maximum(pace.price, low) * np.exp(gain * excess), low, high)
    return Pace(np.where(moved > low, moved, 0.0), used.astype(np.float64), elapsed)


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


def _due_since(plan: Plan, pace: Pace, elapsed: float) -> Floats:
    """Of what was left at the last step, the share that was due until now, (resources,)."""
    before, now = plan.due(pace.elapsed), plan.due(elapsed)
    rest = np.maximum(1.0 - before, LAST_SHARE)
    return np.clip((now - before) / rest, 1e-6, 1.0)
