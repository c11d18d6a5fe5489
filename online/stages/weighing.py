"""What a shop's rules and a tired eye make of the scores: boosted, buried, shown often enough.

And what a sale is worth to the shop: with the margin to the power of 1, a purchase probability
becomes the profit to expect.

It changes scores after the scorer, so that every scorer means the same by a boost.
"""

from typing import Final

import numpy as np

from feature_store.schema import MICROSECONDS_PER_DAY
from online.offering.allowed import contains, holds
from online.offering.offer import Objective
from online.types import Candidates, Indexes, Query, Scores

FRESH_DAYS: Final = 60.0


def weigh(query: Query, candidates: Candidates, scores: Scores) -> Scores:
    """The scores after boosts, buries and what was shown of late; the same array if none holds.

    A factor multiplies a positive score; of a negative one it takes as much away, or adds it.
    """
    for weighting in query.offer.weightings:
        hit = holds(weighting.items, candidates.items)
        scores = _multiplied(scores, hit, weighting.factor)
    if query.offer.objective is not None:
        factors = worth(query.offer.objective, candidates.items, query.time)
        scores = scores + np.abs(scores) * (factors - np.float32(1.0))
    fatigue = query.placement.fatigue
    if fatigue is not None and len(query.tired):
        scores = _multiplied(scores, contains(query.tired, candidates.items), fatigue.factor)
    return scores


def worth(objective: Objective, items: Indexes, time: int) -> Scores:
    """By how much more than usual the shop is after a sale of each item, shape (n,).

    Freshness halves every FRESH_DAYS since the item came, from 1.
    """
    age_days = np.maximum(time - objective.created_time[items], 0) / MICROSECONDS_PER_DAY
    value = objective.price[items] ** objective.price_exponent
    value *= objective.margin[items] ** objective.margin_exponent
    value *= np.exp2(-objective.freshness_exponent * age_days / FRESH_DAYS)
    return value.astype(np.float32)


def _multiplied(scores: Scores, hit: np.typing.NDArray[np.bool_], factor: float) -> Scores:
    change = np.abs(scores) * np.float32(factor - 1.0)
    changed: Scores = np.where(hit, scores + change, scores)
    return changed
