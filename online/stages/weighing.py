"""What a shop's rules and a tired eye make of the scores: boosted, buried, shown often enough.

And what a sale is worth to the shop: with the margin to the power of 1, a purchase probability
becomes the profit to expect. Only then comes what fits a search first, or is lifted: on the page of
a search the shop orders what fits about as well, and brings nothing past it.

It changes scores after the scorer, so that every scorer means the same by a boost.
"""

from typing import Final

import numpy as np

from feature_store.schema import MICROSECONDS_PER_DAY
from online.offering.allowed import contains, holds
from online.offering.offer import Objective, Offer
from online.search.relevance import by_search
from online.together.queries import CandidatesTogether, Queries
from online.together.ragged import places_among
from online.types import Candidates, Indexes, Query, Scores

FRESH_DAYS: Final = 60.0


def weigh(query: Query, candidates: Candidates, scores: Scores) -> Scores:
    """The scores after the shop's rules, what was shown of late, and the search.

    The same array if nothing holds.
    """
    return by_search(query, candidates, by_rules(query, candidates, scores))


def by_rules(query: Query, candidates: Candidates, scores: Scores) -> Scores:
    """The scores after boosts, buries, what a sale is worth and what was shown of late.

    A factor multiplies a positive score; of a negative one it takes as much away, or adds it.
    """
    scores = _ruled(query.offer, query.time, candidates.items, scores)
    fatigue = query.placement.fatigue
    if fatigue is not None and len(query.tired):
        scores = _multiplied(scores, contains(query.tired, candidates.items), fatigue.factor)
    return scores


def weigh_together(queries: Queries, candidates: CandidatesTogether, scores: Scores) -> Scores:
    """`weigh` for the candidates of many queries, which search for nothing."""
    one, found = queries.each[0], candidates.lists
    scores = _ruled(one.offer, one.time, found.items, scores)
    fatigue = one.placement.fatigue
    if fatigue is not None and fatigue.factor:
        owner = np.repeat(np.arange(len(queries)), [len(query.tired) for query in queries.each])
        tired = queries.keys(owner, np.concatenate([query.tired for query in queries.each]))
        hit = np.zeros(len(scores), bool)
        hit[places_among(queries.keys(found.owner, found.items), tired)] = True
        scores = _multiplied(scores, hit, fatigue.factor)
    return scores


def _ruled(offer: Offer, time: int, items: Indexes, scores: Scores) -> Scores:
    """The scores after boosts and buries, and what a sale is worth."""
    for weighting in offer.weightings:
        scores = _multiplied(scores, holds(weighting.items, items), weighting.factor)
    if offer.objective is not None:
        factors = worth(offer.objective, items, time)
        scores = scores + np.abs(scores) * (factors - np.float32(1.0))
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
