"""Who should get which coupon, when there is not enough for all: a linear programme by its dual.

Of user-coupon pairs with values it takes the best, at most one of each block (a user and a
campaign), so that no resource (a campaign's budget, a coupon's cap) is used beyond its limit:

    max  sum_p value_p x_p    so that   sum_p use_rp x_p <= limit_r,   sum_{p in block} x_p <= 1

A fairness floor is a resource that some use negatively: -1 for each pair of the group, with a limit
of minus the floor, or, for a share s of all, s - 1 for those of the group and s for the others,
with a limit of 0. The dual has one price for each resource and falls apart into blocks:

    min  sum_r limit_r price_r + sum_block max(0, max_{p in block} value_p - sum_r use_rp price_r)

Its kinks are smoothed by log-sum-exp (Nesterov 2005), minimised by L-BFGS-B with falling
temperature, and the exact dual at the prices found bounds what any allocation can earn. A plan that
keeps every limit is then read off in order of surplus, which bounds it from below.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

TEMPERATURES: Final = (0.1, 0.01, 0.002)
"""Smoothing, as shares of the mean positive value; each starts where the one before ended."""

MAX_ITERATIONS: Final = 150
MAX_PRICE: Final = 100.0
"""Highest price, in mean values per mean use: where a floor cannot be kept, it ends there."""

NUM_FILLS: Final = 4
NONE: Final = -1


@dataclass(frozen=True, slots=True)
class Programme:
    """Pairs, sorted by block. `resource` NONE: the pair has fewer resources than columns.

    `block_starts` (blocks,): where each block begins. `value` (n,). `resource` and `use`, both
    (n, k): what a pair uses, and how much. `limit` (resources,).
    """

    block_starts: NDArray[np.int64]
    value: Floats
    resource: Codes
    use: Floats
    limit: Floats

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.value)

    @property
    def blocks(self) -> NDArray[np.int64]:
        """The block of each pair, shape (n,)."""
        sizes = np.diff(self.block_starts, append=len(self))
        return np.repeat(np.arange(len(sizes)), sizes)

    def surplus(self, price: Floats) -> Floats:
        """What each pair is worth beyond what it uses, shape (n,); `price` (resources,)."""
        padded = np.append(price, 0.0)  # NONE is the last place
        surplus = self.value.copy()
        for column in range(self.resource.shape[1]):
            surplus -= padded[self.resource[:, column]] * self.use[:, column]
        return surplus

    def used(self, share: Floats) -> Floats:
        """How much of each resource is used, shape (resources,), by `share` of each pair, (n,)."""
        total = np.zeros(len(self.limit) + 1)
        for column in range(self.resource.shape[1]):
            # Places are shifted by one, so that NONE falls into the first.
            weight = self.use[:, column] * share
            total += np.bincount(self.resource[:, column] + 1, weight, len(total))
        return total[1:]


@dataclass(frozen=True, slots=True)
class Allocation:
    """What came of a programme.

    `price` (resources,): what a unit of each is worth at the margin. `chosen` (n,): the plan.
    `earned` is its value; `bound` is what no plan can exceed; `used` is what the plan uses.
    """

    price: Floats
    chosen: NDArray[np.bool_]
    earned: float
    bound: float
    used: Floats

    @property
    def gap(self) -> float:
        """How far the plan may at most be from the optimum, as a share of the bound."""
        return (self.bound - self.earned) / max(abs(self.bound), 1e-12)


def programme(
    user: NDArray[np.int64],
    campaign: Codes,
    value: Floats,
    resource: Codes,
    use: Floats,
    limit: Floats,
) -> tuple[Programme, NDArray[np.intp]]:
    """The programme of pairs in any order, and the order in which it has them."""
    order = np.lexsort((campaign, user))
    same = (np.diff(user[order]) == 0) & (np.diff(campaign[order]) == 0)
    starts = np.flatnonzero(np.concatenate(([True], ~same))) if len(order) else np.zeros(0, int)
    sorted_columns = value[order], resource[order], use[order]
    return Programme(starts.astype(np.int64), *sorted_columns, limit), order


def allocate(problem: Programme) -> Allocation:
    """Prices, a plan that keeps all limits, and how far from the optimum it may be."""
    price = shadow_prices(problem)
    chosen = plan(problem, price)
    used = problem.used(chosen.astype(np.float64))
    return Allocation(
        price, chosen, float(problem.value[chosen].sum()), bound(problem, price), used
    )


def bound(problem: Programme, price: Floats) -> float:
    """The exact dual: no allocation earns more, whatever the prices."""
    if not len(problem):
        return float(problem.limit @ price)
    best = np.maximum.reduceat(problem.surplus(price), problem.block_starts)
    return float(problem.limit @ price + np.maximum(best, 0.0).sum())


def shadow_prices(problem: Programme) -> Floats:
    """The prices that minimise the dual, shape (resources,)."""
    if not len(problem) or not len(problem.limit):
        return np.zeros(len(problem.limit))
    typical = float(np.mean(np.abs(problem.value))) or 1.0
    scale = typical / _mean_use(problem)
    price = np.zeros(len(problem.limit))
    blocks = problem.blocks
    best = price, bound(problem, price)
    for share in TEMPERATURES:

        def dual(scaled: Floats, temperature: float = share * typical) -> tuple[float, Floats]:
            value, slope = smooth_dual(problem, blocks, scaled * scale, temperature)
            return value / typical, slope * scale / typical

        found = minimize(
            dual,
            price / scale,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, MAX_PRICE)] * len(price),
            options={"maxiter": MAX_ITERATIONS, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-5},
        )
        price = found.x * scale
        exact = bound(problem, price)
        best = min(best, (price, exact), key=lambda pair: pair[1])
    return best[0]


def smooth_dual(
    problem: Programme, blocks: NDArray[np.int64], price: Floats, temperature: float
) -> tuple[float, Floats]:
    """The smoothed dual and its slope by price, shape (resources,).

    A block is worth `temperature * log(1 + sum exp(surplus / temperature))`; the slope is the
    limits less what the smoothed choice uses.
    """
    surplus = problem.surplus(price) / temperature
    starts = problem.block_starts
    highest = np.maximum(np.maximum.reduceat(surplus, starts), 0.0)
    share = np.exp(surplus - highest[blocks])
    total = np.exp(-highest) + np.add.reduceat(share, starts)
    share /= total[blocks]
    value = problem.limit @ price + temperature * float((highest + np.log(total)).sum())
    return float(value), problem.limit - problem.used(share)


def plan(problem: Programme, price: Floats) -> NDArray[np.bool_]:
    """A plan that keeps every limit, shape (n,): the best of each block, best surplus first.

    What does not fit is dropped, and what is left of the limits goes to who got nothing, in a few
    rounds. Floors are what prices made of them; a shortfall shows in `Allocation.used`.
    """
    chosen = np.zeros(len(problem), bool)
    if not len(problem):
        return chosen
    surplus, blocks = problem.surplus(price), problem.blocks
    floors = np.zeros(len(problem.limit) + 1, bool)
    floors[problem.resource[problem.use < 0]] = True
    floors[NONE] = False
    is_floor = floors[problem.resource]
    left = np.where(floors, np.inf, np.append(problem.limit, np.inf))
    is_open = np.ones(len(problem.block_starts), bool)
    for number in range(NUM_FILLS):
        worth = surplus if number == 0 else problem.value
        needed = np.where(is_floor, 0.0, problem.use)
        fits = (needed <= left[problem.resource]).all(axis=1)
        able = np.flatnonzero(fits & is_open[blocks] & (worth > 0.0))
        picked = able[_best_of_block(blocks[able], surplus[able])]
        picked = picked[np.argsort(-surplus[picked], kind="stable")]
        for column in range(problem.resource.shape[1]):
            picked = picked[_within(problem.resource[picked, column], needed[picked, column], left)]
        if not len(picked):
            break
        chosen[picked] = True
        is_open[blocks[picked]] = False
        for column in range(problem.resource.shape[1]):
            np.subtract.at(left, problem.resource[picked, column], needed[picked, column])
    return chosen


def _best_of_block(blocks: NDArray[np.int64], surplus: Floats) -> NDArray[np.intp]:
    """The position of the best pair of each block that has any."""
    order = np.lexsort((-surplus, blocks))
    is_first = np.concatenate(([True], np.diff(blocks[order]) != 0)) if len(order) else order > 0
    return order[is_first]


def _within(resource: Codes, need: Floats, left: Floats) -> NDArray[np.bool_]:
    """Which pairs, in their order, fit into what is left of one resource each, shape (n,)."""
    order = np.argsort(resource, kind="stable")
    running = np.cumsum(need[order])
    starts = np.flatnonzero(np.diff(resource[order], prepend=-2) != 0)
    sizes = np.diff(starts, append=len(order))
    before = np.repeat(np.concatenate(([0.0], running))[starts], sizes)
    fits = np.empty(len(resource), bool)
    fits[order] = running - before <= left[resource[order]]
    return fits


def _mean_use(problem: Programme) -> Floats:
    """The mean size of a use of each resource, shape (resources,)."""
    places = problem.resource.ravel() + 1
    size = len(problem.limit) + 1
    total = np.bincount(places, np.abs(problem.use).ravel(), size)[1:]
    count = np.bincount(places, minlength=size)[1:]
    mean: Floats = np.where(total > 0, total / np.maximum(count, 1), 1.0)
    return mean
