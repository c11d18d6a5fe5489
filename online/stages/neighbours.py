"""Item to item: what goes with the page's product, the basket or the visit.

Bound to the arrays of one bundle, like all sources; reads only the query.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from online.catalog import Catalog
from online.offering.allowed import allows
from online.stages.vectors import top
from online.types import NOTHING, Found, Indexes, Query, Reason, Scores

MAX_SEEDS: Final = 12
FADING: Final = 0.85
"""How much less each older seed counts than the one after it."""

VISIT_FADING: Final = 0.7
"""The same where the order of a visit was learned from, see `offline.models.transitions`."""


NEXT_IN_VISIT: Final = "next_in_visit"


class Seeds(StrEnum):
    """Where the items come from whose neighbours are wanted."""

    CONTEXT = "context"
    BASKET = "basket"
    SESSION = "session"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The neighbours of what the query is about.

    Those of item i, best first, lie in `items` and `scores` before `ends[i]` and from
    `ends[i - 1]`. `seeds` are tried in order: the first kind that the query has is taken. Each
    seed counts `fading` of the one before it.
    """

    name: str
    ends: NDArray[np.int64]
    items: Indexes
    scores: Scores
    seeds: tuple[Seeds, ...]
    catalog: Catalog
    reason_code: str
    fading: float = FADING

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items with the highest sum over the seeds; nothing without seeds."""
        targets, weights, _ = self._spread(self.seeds_of(query))
        if not len(targets):
            return NOTHING
        items, inverse = np.unique(targets, return_inverse=True)
        scores = np.bincount(inverse, weights).astype(np.float32)
        mask = allows(query, items)
        return top(items[mask], scores[mask], limit)

    def seeds_of(self, query: Query) -> Indexes:
        """What the answer is about, most important first, MAX_SEEDS at most."""
        for kind in self.seeds:
            found = _SEEDS[kind](query)
            if len(found):
                return found[:MAX_SEEDS]
        return query.context

    def causes(self, query: Query, wanted: Indexes) -> Indexes:
        """The seed that speaks most for each of `wanted`, -1 where none does; shape (n,)."""
        seeds = self.seeds_of(query)
        targets, weights, origins = self._spread(seeds)
        if not len(targets):
            return np.full(len(wanted), -1, np.int32)
        order = np.lexsort((-weights, targets))
        place = np.searchsorted(targets[order], wanted)
        place = order[np.minimum(place, len(order) - 1)]
        causes: Indexes = np.where(targets[place] == wanted, seeds[origins[place]], np.int32(-1))
        return causes

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """Which seed each item goes with."""
        ids, titles = self.catalog.ids, self.catalog.title
        return [
            Reason(self.reason_code, {"item_id": ids[cause], "title": titles[cause]})
            if cause >= 0
            else Reason("chosen")
            for cause in self.causes(query, items).tolist()
        ]

    def _spread(self, seeds: Indexes) -> tuple[Indexes, Scores, NDArray[np.intp]]:
        """All neighbours of the seeds, their weights, and the place of the seed of each."""
        if not len(seeds):
            return NOTHING.items, NOTHING.scores, np.zeros(0, np.intp)
        last = self.ends[seeds]
        first = np.where(seeds > 0, self.ends[seeds - 1], 0)
        origins = np.repeat(np.arange(len(seeds)), last - first)
        skipped = np.cumsum(last - first) - (last - first)
        rows = np.arange(len(origins)) - skipped[origins] + first[origins]
        weights = self.scores[rows] * (self.fading**origins).astype(np.float32)
        return self.items[rows], weights, origins


def _latest_bought(query: Query) -> Indexes:
    """The user's latest purchases, latest first."""
    history = query.history
    days = np.where(history.bought, history.days_since, np.inf)
    if len(days) > MAX_SEEDS:
        latest = np.argpartition(days, MAX_SEEDS)[:MAX_SEEDS]
        latest = latest[np.lexsort((history.items[latest], days[latest]))]
    else:
        latest = np.lexsort((history.items, days))
    return history.items[latest[np.isfinite(days[latest])]]


_SEEDS: Final[dict[Seeds, Callable[[Query], Indexes]]] = {
    Seeds.CONTEXT: lambda query: query.context,
    Seeds.BASKET: lambda query: query.basket[::-1],
    Seeds.SESSION: lambda query: query.visit,
    Seeds.HISTORY: _latest_bought,
}


_SOURCES: Final = (
    ("bought_with", "bought_with", (Seeds.CONTEXT, Seeds.BASKET, Seeds.SESSION), FADING),
    ("bought_with_basket", "bought_with", (Seeds.BASKET, Seeds.CONTEXT, Seeds.HISTORY), FADING),
    ("similar", "also_bought", (Seeds.CONTEXT, Seeds.SESSION), FADING),
    ("similar_to_visit", "also_bought", (Seeds.SESSION, Seeds.HISTORY), FADING),
    (NEXT_IN_VISIT, "transitions", (Seeds.SESSION,), VISIT_FADING),
)
"""Each source's name, the neighbours that it reads, whose they are, and how older ones fade."""

_OPTIONAL: Final = frozenset({"transitions"})
"""Neighbours that not every bundle has."""

_CODES: Final = {
    "bought_with": "bought_with",
    "also_bought": "similar_to_item",
    "transitions": "looked_at_with",
}


def neighbour_sources(bundle: Bundle, catalog: Catalog) -> tuple[Neighbours, ...]:
    """The item-to-item sources of an opened bundle."""
    return tuple(
        Neighbours(
            name=name,
            ends=bundle.column(f"{kind}/ends"),
            items=bundle.array(f"{kind}/items"),
            scores=bundle.array(f"{kind}/scores"),
            seeds=seeds,
            catalog=catalog,
            reason_code=_CODES[kind],
            fading=fading,
        )
        for name, kind, seeds, fading in _SOURCES
        if kind not in _OPTIONAL or f"{kind}/ends" in bundle
    )
