"""Short columns of item indexes, sorted and summed up: what `numpy.unique` does, for less.

A request does this some ten times over hundreds of entries, where a general function's own
overhead is most of the time. It knows arrays only.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Indexes = NDArray[np.int32]
Float = TypeVar("Float", np.float32, np.float64)


def distinct(*parts: Indexes) -> Indexes:
    """All entries once, sorted."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return np.zeros(0, np.int32)
    ordered = np.concatenate(filled)
    if len(ordered) > 1:
        ordered.sort()
        ordered = ordered[_firsts(ordered)]
    return ordered


def positions(items: Indexes) -> tuple[Indexes, NDArray[np.intp]]:
    """All entries once, sorted, and where each of `items` stands among them; shape (n,)."""
    order = items.argsort()
    ordered = items.take(order)
    first = _firsts(ordered)
    place = np.empty(len(items), np.intp)
    place[order] = first.cumsum() - 1
    return ordered[first], place


def sums(items: Indexes, weights: NDArray[Float]) -> tuple[Indexes, NDArray[Float]]:
    """All entries once, sorted, and the sum of the weights of each."""
    if not len(items):
        return items, weights
    order = items.argsort()
    ordered = items[order]
    starts = np.flatnonzero(_firsts(ordered))
    return ordered[starts], np.add.reduceat(weights[order], starts)


def _firsts(ordered: Indexes) -> NDArray[np.bool_]:
    """Which entries of a sorted column differ from the one before."""
    first = np.empty(len(ordered), bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first


def highest(items: Indexes, scores: NDArray[np.float32], limit: int) -> NDArray[np.intp]:
    """Positions of the `limit` highest scores, in any order; ties go to the lower index.

    There must be more scores than that.
    """
    first = len(scores) - limit
    order = scores.argpartition(first - 1)
    kept, last = order[first:], scores[order[first - 1]]
    if np.minimum.reduce(scores.take(kept)) > last:
        return kept
    above, tied = (scores > last).nonzero()[0], (scores == last).nonzero()[0]
    tied = tied[items[tied].argsort()]
    return np.concatenate((above, tied[: limit - len(above)]))
