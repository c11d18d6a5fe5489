"""Sources of what the user has not bought yet: by a linear filter, by taste for types of items.

Like all sources they are bound to the arrays of one bundle and read only the query.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.ranking import AFFINITY_HALF_LIFE
from online.columns import positions, sums
from online.stages.sources import profile
from online.stages.vectors import top_allowed
from online.types import NOTHING, Found, Indexes, Query, Scores


@dataclass(frozen=True, slots=True)
class Linear:
    """The linear filter (EASE): what the user's items speak for, summed up.

    `row`, `neighbours` and `weights` are those of `offline.models.linear.Linear`; `half_life` is
    how fast purchases fade in the profile.
    """

    name: str
    row: Indexes
    neighbours: Indexes
    weights: Scores
    half_life: int

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items that the profile speaks for most; nothing without a profile."""
        items, strength = profile(query, self.half_life)
        row = self.row[items]
        speaks = row >= 0
        spoken_for, scores = self._sum(row[speaks], strength[speaks])
        if not len(spoken_for):
            return NOTHING

        def rate(wanted: Indexes) -> Scores:
            place = np.minimum(np.searchsorted(spoken_for, wanted), len(spoken_for) - 1)
            return np.where(spoken_for[place] == wanted, scores[place], np.float32(0))

        found = top_allowed(query, spoken_for, scores, limit)
        return Found(found.items, found.scores, rate)

    def _sum(self, row: Indexes, strength: Scores) -> tuple[Indexes, Scores]:
        """Every item that is spoken for, sorted by index, with the profile's weighted sum."""
        targets = self.neighbours[row].ravel()
        weights = (self.weights[row] * strength[:, None]).ravel()
        if 8 * len(targets) > len(self.row):
            everything = np.bincount(targets, weights)
            spoken_for = np.flatnonzero(everything).astype(np.int32)
            return spoken_for, everything[spoken_for].astype(np.float32)
        items, total = sums(targets, weights)
        heard = total != 0
        return items[heard], total[heard]


CATEGORY_WEIGHT = 0.3
BASE_AFFINITY = 0.05


@dataclass(frozen=True, slots=True)
class Affinity:
    """What is on the rise in the types and categories that the user buys from.

    `groups` holds each item's codes (see `ItemColumns`), `appeal` how much an item draws new
    buyers, shape (items,). `order` lists the items by type, most appealing first, and
    `starts` where each type begins in it. The `num_types` strongest types are looked into.
    """

    name: str
    groups: NDArray[np.int32]
    appeal: Scores
    order: Indexes
    starts: NDArray[np.int64]
    num_types: int = 32

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items with the highest affinity times appeal."""
        history = query.history
        if not history.bought.any():
            return NOTHING
        weight = history.decayed[:, AFFINITY_HALF_LIFE]
        own = self.groups[history.items]
        types, by_type = _sums(own[:, 0], weight)
        categories, by_category = _sums(own[:, 1], weight)

        def rate(items: Indexes) -> Scores:
            taste = _look_up(types, by_type, self.groups[items, 0])
            taste += CATEGORY_WEIGHT * _look_up(categories, by_category, self.groups[items, 1])
            scores: Scores = ((taste + BASE_AFFINITY) * self.appeal[items]).astype(np.float32)
            return scores

        strongest = np.argsort(-by_type, kind="stable")[: self.num_types]
        items = self._most_appealing(types[strongest], limit)
        found = top_allowed(query, items, rate(items), limit)
        return Found(found.items, found.scores, rate)

    def _most_appealing(self, types: NDArray[np.int32], limit: int) -> Indexes:
        """The first items of each type."""
        first, last = self.starts[types], self.starts[types + 1]
        reach = np.minimum(last, first + limit)
        return np.concatenate([self.order[a:b] for a, b in zip(first, reach, strict=True)])


def _sums(
    codes: NDArray[np.int32], weight: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The distinct codes, sorted, and log(1 + sum of weight) of each."""
    known, place = positions(codes)
    return known, np.log1p(np.bincount(place, weight))


def _look_up(
    known: NDArray[np.int32], values: NDArray[np.float64], codes: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The value of each code, 0 for one that is not known."""
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[place] == codes, values[place], 0.0)
