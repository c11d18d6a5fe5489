"""What visitors ask for of a budget at each price: the same arithmetic in training and in serving.

It also says how hours of the week are counted. It knows arrays, and no coupon, user or store.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

LADDER: Final = np.concatenate([[0.0], np.geomspace(0.05, 50.0, 31)])
"""The prices for which demand is known, in what a unit buys; between them it is a straight line."""

HOUR: Final = 3_600_000_000
FIRST_MONDAY_H: Final = 4 * 24
"""1970 began on a Thursday."""


def demand_by_price(
    value: Floats, cost: Floats, block: NDArray[np.int64] | Codes, resource: Codes, ladder: Floats
) -> Floats:
    """What offers would use at each price, shape (prices, resources), the best of each block given.

    `value`, `cost`, `block` and `resource`, shape (n,), of pairs of a visitor and an offer; those
    of one block (a visitor and a campaign) lie together and use the same resource.
    """
    if not len(value):
        return np.zeros_like(ladder)
    starts = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
    net = value - ladder[:, resource] * cost
    best = np.maximum.reduceat(net, starts, axis=1)
    sizes = np.diff(starts, append=len(value))
    is_given = (net > 0) & (net >= np.repeat(best, sizes, axis=1))
    used = np.maximum.reduceat(np.where(is_given, cost, 0.0), starts, axis=1)
    of_block = resource[starts][:, None] == np.arange(ladder.shape[1])
    total: Floats = used @ of_block.astype(np.float64)
    return total


def best_of_others(net: Floats, starts: NDArray[np.intp]) -> Floats:
    """What one has instead of each offer, shape (n,): the best other of its block, or nothing.

    `net` (n,) is what each is worth beyond what it uses; `starts` is where the blocks begin. Of
    several best ones the first is had, and the others have it.
    """
    if not len(net):
        return np.zeros_like(net)
    sizes = np.diff(starts, append=len(net))
    best = np.repeat(np.maximum.reduceat(net, starts), sizes)
    ties = np.flatnonzero(net >= best)
    block = np.repeat(np.arange(len(starts)), sizes)[ties]
    first = ties[np.diff(block, prepend=-1) > 0]
    rest = net.copy()
    rest[first] = -np.inf
    best[first] = np.maximum.reduceat(rest, starts)
    others: Floats = np.maximum(best, 0.0)
    return others
