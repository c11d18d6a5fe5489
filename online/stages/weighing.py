"""What a shop's rules and a tired eye make of the scores: boosted, buried, shown often enough.

It changes scores after the scorer, so that every scorer means the same by a boost.
"""

import numpy as np

from online.offering.allowed import contains, holds
from online.types import Candidates, Query, Scores


def weigh(query: Query, candidates: Candidates, scores: Scores) -> Scores:
    """The scores after boosts, buries and what was shown of late; the same array if none holds.

    A factor multiplies a positive score; of a negative one it takes as much away, or adds it.
    """
    for weighting in query.offer.weightings:
        hit = holds(weighting.items, candidates.items)
        scores = _multiplied(scores, hit, weighting.factor)
    fatigue = query.placement.fatigue
    if fatigue is not None and len(query.tired):
        scores = _multiplied(scores, contains(query.tired, candidates.items), fatigue.factor)
    return scores


def _multiplied(scores: Scores, hit: np.typing.NDArray[np.bool_], factor: float) -> Scores:
    change = np.abs(scores) * np.float32(factor - 1.0)
    changed: Scores = np.where(hit, scores + change, scores)
    return changed
