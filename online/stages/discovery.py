"""Sources of what the user has not bought yet: by a linear filter, by taste for types of items.

Like all sources they are bound to the arrays of one bundle and read only the query.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from feature_store.ranking import AFFINITY_HALF_LIFE
from online.offering.allowed import holds
from online.stages.sources import highest_found, profile, profiles
from online.stages.vectors import top_allowed
from online.together.queries import FoundTogether, Queries, nothing_found
from online.together.ragged import Places, highest_of_each, starts_of, stretches
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
    _opened: list[tuple[Indexes, Indexes]] = field(default_factory=list)

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items that the profile speaks for most; nothing without a profile."""
        items, strength = profile(query, self.half_life)
        row = self.row.take(items)
        speaks = (row >= 0).nonzero()[0]
        sums = self._sum(row.take(speaks), strength.take(speaks))
        heard, known = (sums != 0).nonzero()[0], self._items()
        if not len(heard):
            return NOTHING

        def rate(wanted: Indexes) -> Scores:
            column = self.row.take(wanted)
            is_own = known.take(column, mode="wrap") == wanted
            rated: Scores = sums.take(column, mode="wrap") * is_own
            return rated

        found = top_allowed(query, known.take(heard), sums.take(heard), limit)
        return Found(found.items, found.scores, rate)

    def retrieve_together(self, queries: Queries, limits: Places) -> FoundTogether:
        """The allowed items that each profile speaks for most."""
        known, strength = profiles(queries, self.half_life)
        row = self.row[known.items]
        speaks = row >= 0
        if not speaks.any():
            return nothing_found(len(queries))
        sums = self._sum_each(known.owner[speaks], row[speaks], strength[speaks], len(queries))

        def rate(owners: Places, wanted: Indexes) -> Scores:
            column = self._columns_of(wanted)
            rated = sums[owners * len(self.neighbours) + np.maximum(column, 0)]
            return np.where(column >= 0, rated, 0.0).astype(np.float32)

        return replace(self._highest(queries, sums, limits), rate=rate)

    def _highest(
        self, queries: Queries, sums: NDArray[np.float64], limits: Places
    ) -> FoundTogether:
        """The allowed items with the highest sums for each query; `sums` as in `_sum_each`."""
        items, columns, blocked = self._items(), len(self.neighbours), queries.blocked
        column = self._columns_of(blocked.items)
        places = (blocked.owner * columns + column)[column >= 0]
        kept = sums[places]
        sums[places] = 0.0
        heard = np.flatnonzero(sums != 0.0)
        scores = sums[heard].astype(np.float32)
        sums[places] = kept
        starts = np.searchsorted(heard, np.arange(len(queries) + 1) * columns)
        owner = np.repeat(np.arange(len(queries)), np.diff(starts))
        column = heard - owner * columns
        mask = holds(queries.allowed, items)[column]
        owner, found = owner[mask], items[column[mask]]
        return highest_found(found, owner, scores[mask], limits, queries.num_items)

    def _columns_of(self, items: Indexes) -> Indexes:
        """The row of the filter that is each item's own, -1 without one.

        What came after the training shares that of another item, and nothing speaks for it.
        """
        column = self.row[items]
        own = (column >= 0) & (self._items()[np.maximum(column, 0)] == items)
        return np.where(own, column, np.int32(-1))

    def _items(self) -> Indexes:
        """The item of each row of the filter."""
        return self._tables()[0]

    def _tables(self) -> tuple[Indexes, Indexes]:
        """The item of each row, and the rows of its neighbours, of the shape of `neighbours`."""
        if not self._opened:
            known = np.flatnonzero(self.row[:] >= 0)[::-1]  # of those that share one, the first
            items = np.zeros(len(self.neighbours), np.int32)
            items[self.row[known]] = known
            self._opened.append((items, np.maximum(self.row[self.neighbours], 0)))
        return self._opened[0]

    def _sum_each(
        self, owner: Places, row: Indexes, strength: Scores, num_owners: int
    ) -> NDArray[np.float64]:
        """The profiles' weighted sums, shape (owners * rows,): all neighbours have rows."""
        targets = owner[:, None] * len(self.neighbours) + self._tables()[1][row]
        weights = self.weights[row] * strength[:, None]
        size = num_owners * len(self.neighbours)
        return np.asarray(np.bincount(targets.ravel(), weights.ravel(), size), np.float64)

    def _sum(self, row: Indexes, strength: Scores) -> Scores:
        """The profile's weighted sum for each row, shape (rows,)."""
        targets, weights = self._tables()[1].take(row, 0), self.weights.take(row, 0)
        weights *= strength[:, None]
        sums = np.bincount(targets.ravel(), weights.ravel(), len(self.neighbours))
        return sums.astype(np.float32)


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
    _by_place: list[tuple[NDArray[np.int32], Scores, int]] = field(default_factory=list)

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items with the highest affinity times appeal."""
        history = query.history
        if not history.bought.any():
            return NOTHING
        category, appeal, num_codes = self._columns()
        weight = history.decayed[:, AFFINITY_HALF_LIFE]
        types, categories = self.groups.take(history.items, 0).T[:2]
        by_type = np.log1p(np.bincount(types, weight, num_codes))
        by_category = CATEGORY_WEIGHT * np.log1p(np.bincount(categories, weight, num_codes))

        def rate(items: Indexes) -> Scores:
            types, categories = self.groups.take(items, 0).T[:2]
            taste = by_type.take(types) + by_category.take(categories) + BASE_AFFINITY
            scores: Scores = (taste * self.appeal.take(items)).astype(np.float32)
            return scores

        known = np.bincount(types).nonzero()[0]
        strongest = known[(-by_type[known]).argsort(kind="stable")[: self.num_types]]
        first = self.starts[strongest]
        lengths = np.minimum(self.starts[strongest + 1] - first, limit)
        places = stretches(first, lengths)
        taste = by_type.take(strongest).repeat(lengths)
        taste += by_category.take(category.take(places))
        taste += BASE_AFFINITY
        scores = (taste * appeal.take(places)).astype(np.float32)
        found = top_allowed(query, self.order.take(places), scores, limit)
        return Found(found.items, found.scores, rate)

    def retrieve_together(self, queries: Queries, limits: Places) -> FoundTogether:
        """The allowed items with the highest affinity times appeal for each query."""
        past, history = queries.past, queries.history
        buyers = np.zeros(len(queries), bool)
        buyers[past.owner[history.bought]] = True
        known = buyers[past.owner]
        if not known.any():
            return nothing_found(len(queries))
        owner, weight = past.owner[known], history.decayed[known, AFFINITY_HALF_LIFE]
        own = self.groups[past.items[known]]
        types = _sums_of_each(owner, own[:, 0], weight, len(queries))
        categories = _sums_of_each(owner, own[:, 1], weight, len(queries))
        found = self._affine(queries, self._strongest(types), categories, limits)

        def rate(owners: Places, items: Indexes) -> Scores:
            groups = self.groups[items]
            taste = types.look_up(owners, groups[:, 0])
            taste += CATEGORY_WEIGHT * categories.look_up(owners, groups[:, 1])
            scores = ((taste + BASE_AFFINITY) * self.appeal[items]).astype(np.float32)
            scores[~buyers[owners]] = 0.0
            return scores

        return replace(found, rate=rate)

    def _strongest(self, types: "_Sums") -> "_Sums":
        """The `num_types` strongest types of each owner."""
        order = np.lexsort((-types.values, types.owner))
        place = np.arange(len(order)) - types.starts[types.owner[order]]
        return types.take(order[place < self.num_types])

    def _affine(
        self, queries: Queries, types: "_Sums", categories: "_Sums", limits: Places
    ) -> FoundTogether:
        """The best of the first items of each owner's types."""
        category, appeal, _ = self._columns()
        first = self.starts[types.codes]
        lengths = np.minimum(self.starts[types.codes + 1] - first, limits[types.owner])
        places = stretches(first, lengths)
        items, owner = self.order[places], np.repeat(types.owner, lengths)
        allowed = holds(queries.allowed, items)
        taste = np.repeat(types.values, lengths)[allowed]
        items, owner, places = items[allowed], owner[allowed], places[allowed]
        taste += CATEGORY_WEIGHT * categories.look_up(owner, category[places])
        scores = ((taste + BASE_AFFINITY) * appeal[places]).astype(np.float32)
        starts, reach = starts_of(owner, len(queries)), limits + queries.blocked.lengths
        high = highest_of_each(starts, items, scores, reach, queries.num_items)
        items, owner, scores = items[high], owner[high], scores[high]
        mask = queries.allows(owner, items)
        return highest_found(items[mask], owner[mask], scores[mask], limits, queries.num_items)

    def _columns(self) -> tuple[NDArray[np.int32], Scores, int]:
        """The category and the appeal of each place of `order`, so that they are read in turn.

        And one more than the highest code of a type or category.
        """
        if not self._by_place:
            groups = self.groups.take(self.order, 0)[:, :2]
            num_codes = int(groups.max(initial=0)) + 1
            columns = (np.ascontiguousarray(groups[:, 1]), self.appeal[self.order], num_codes)
            self._by_place.append(columns)
        return self._by_place[0]


@dataclass(frozen=True, slots=True)
class _Sums:
    """The distinct codes of each owner, sorted, and log(1 + sum of weight) of each."""

    owner: Places
    codes: NDArray[np.int32]
    values: NDArray[np.float64]
    starts: Places

    def take(self, places: Places) -> "_Sums":
        """Those at these places, by owner."""
        owner = self.owner[places]
        starts = starts_of(owner, len(self.starts) - 1)
        return _Sums(owner, self.codes[places], self.values[places], starts)

    def look_up(self, owners: Places, codes: NDArray[np.int32]) -> NDArray[np.float64]:
        """The value of each code for the owner of that number, 0 for one that is not known.

        `owners` is ascending.
        """
        found = np.zeros(len(codes))
        if not len(self.codes):
            return found
        table = np.zeros(int(self.codes.max()) + 2)
        bounds, own = starts_of(owners, len(self.starts) - 1).tolist(), self.starts.tolist()
        codes = np.minimum(codes, len(table) - 1)
        for number in range(len(own) - 1):
            some, mine = slice(*bounds[number : number + 2]), slice(*own[number : number + 2])
            table[self.codes[mine]] = self.values[mine]
            np.take(table, codes[some], out=found[some])
            table[self.codes[mine]] = 0.0
        return found


def _sums_of_each(
    owner: Places, codes: NDArray[np.int32], weight: NDArray[np.float64], num_owners: int
) -> _Sums:
    num_codes = np.int64(int(codes.max()) + 1)
    keys, place = np.unique(owner * num_codes + codes, return_inverse=True)
    owner = keys // num_codes
    values = np.log1p(np.bincount(place, weight))
    own_codes = (keys - owner * num_codes).astype(np.int32)
    return _Sums(owner, own_codes, values, starts_of(owner, num_owners))
