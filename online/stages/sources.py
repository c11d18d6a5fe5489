"""The sources: where candidates come from.

Each is bound to the arrays of one bundle, reads only the query, and searches inside what the
query allows. Scores are the source's own; a scorer makes them comparable.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.features import decayed_count
from feature_store.schema import MICROSECONDS_PER_DAY
from online.columns import sums
from online.offering.allowed import allows, few_allowed, holds
from online.stages.searching import search_together
from online.stages.vectors import VectorIndex, top
from online.together.queries import FoundTogether, Queries, nothing_found, together
from online.together.ragged import Lists, Places, highest_of_each, lists, starts_of
from online.types import NOTHING, Found, Indexes, Query, Reason, Scores


@dataclass(frozen=True, slots=True)
class Popular:
    """The items bought by most users, all-time or of late.

    `order` holds item indexes, most popular first, and `score` the popularity of each place;
    `rank` is the place of each item, the length of `order` for one that is not in it.
    """

    name: str
    order: Indexes
    score: Scores
    rank: Indexes

    def retrieve(self, query: Query, limit: int) -> Found:
        """The first `limit` allowed items of the list."""
        if not len(self.order):
            return NOTHING
        few = few_allowed(query)
        if few is not None:
            return self._among(few, limit)
        reach = int((limit + len(query.blocked)) / max(query.allowed.share, 1e-3)) + 8
        while True:
            items = self.order[:reach]
            mask = allows(query, items)
            if reach >= len(self.order) or np.count_nonzero(mask) >= limit:
                return Found(items[mask][:limit], self.score[:reach][mask][:limit])
            reach *= 4

    def retrieve_together(self, queries: Queries, limits: Places) -> FoundTogether:
        """The first allowed items of the list for each query."""
        first = queries.each[0]
        if few_allowed(first) is not None:
            found = zip(queries.each, limits.tolist(), strict=True)
            return together([self.retrieve(query, limit) for query, limit in found])
        blocked = queries.blocked
        places = self.rank[blocked.items]
        deep = int((limits + blocked.lengths).max())
        reach = min(int(deep / max(queries.allowed.share, 1e-3)) + 8, len(self.order))
        while True:
            items = self.order[:reach]
            mask = np.tile(holds(queries.allowed, items), (len(queries), 1))
            near = places < reach
            mask[blocked.owner[near], places[near]] = False
            counts = mask.cumsum(axis=1)
            if reach == len(self.order) or (counts[:, -1] >= limits).all():
                break
            reach = min(4 * reach, len(self.order))
        owner, place = np.nonzero(mask & (counts <= limits[:, None]))
        return FoundTogether(lists(items[place], owner, len(queries)), self.score[place])

    def score_of(self, items: Indexes) -> Scores:
        """The popularity of any items, 0 for one that is not on the list; shape (n,)."""
        places, scores = self.rank[items], np.zeros(len(items), np.float32)
        listed = places < len(self.order)
        scores[listed] = self.score[places[listed]]
        return scores

    def _among(self, items: Indexes, limit: int) -> Found:
        """The first of these items, however deep in the list they are."""
        places = self.rank[items]
        places = places[places < len(self.order)]
        if len(places) > limit:
            places = np.partition(places, limit - 1)[:limit]
        places = np.sort(places)
        return Found(self.order[places], self.score[places])


@dataclass(frozen=True, slots=True)
class Repeat:
    """What the user buys again and again: own purchases, halved every so many days."""

    name: str
    half_life: int

    def retrieve(self, query: Query, limit: int) -> Found:
        """The user's own items by decayed number of purchases."""
        rows = query.state.items
        mask = (query.owned >= 0) & (rows["count"] > 0)
        items, rows = query.owned[mask], rows[mask]
        allowed = allows(query, items)
        scores = decayed_count(rows[allowed], self.half_life, query.time)
        return top(items[allowed], scores, limit)

    def retrieve_together(self, queries: Queries, limits: Places) -> FoundTogether:
        """Each user's own items by decayed number of purchases."""
        owned = queries.owned
        mask = (owned.items >= 0) & (queries.rows["count"] > 0)
        items, owner = owned.items[mask], owned.owner[mask]
        allowed = queries.allows(owner, items)
        items, owner, rows = items[allowed], owner[allowed], queries.rows[mask][allowed]
        scores = decayed_count(rows, self.half_life, queries.time)
        return highest_found(items, owner, scores, limits, queries.num_items)

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """How often the user bought each, and how many days ago."""
        rows, places = query.history.rows, query.history.items.searchsorted(items)
        counts, times = rows["count"][places].tolist(), rows["last_time"][places].tolist()
        return [
            Reason(
                "bought_once" if count == 1 else "bought_often",
                {
                    "count": str(int(count)),
                    "days": str(max(query.time - time, 0) // MICROSECONDS_PER_DAY),
                },
            )
            for count, time in zip(counts, times, strict=True)
        ]


def profile(query: Query, half_life: int) -> tuple[Indexes, Scores]:
    """The user's items, sorted, and log(1 + decayed purchases) of each, shape (n,).

    An item of the running session or basket counts as one purchase more. Made once for a query.
    """
    made = query.profiles.get(half_life)
    if made is None:
        made = query.profiles[half_life] = _profile(query, half_life)
    return made


def _profile(query: Query, half_life: int) -> tuple[Indexes, Scores]:
    history = query.history
    items, counts = history.items, history.decayed[:, half_life]
    if len(query.session) or len(query.basket):
        items = np.concatenate((items, query.session, query.basket))
        counts = np.concatenate((counts, np.ones(len(items) - len(counts))))
        items, counts = sums(items, counts)
    kept = counts > 0
    return items[kept], np.log1p(counts[kept]).astype(np.float32)


def profiles(queries: Queries, half_life: int) -> tuple[Lists, Scores]:
    """The profile of each user, as `profile` has it."""
    past, session = queries.past, queries.session
    owner, items, counts = past.owner, past.items, queries.history.decayed[:, half_life]
    if len(session.items):
        keys = np.concatenate(
            (queries.keys(owner, items), queries.keys(session.owner, session.items))
        )
        counts = np.concatenate((counts, np.ones(len(session.items))))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        counts = np.add.reduceat(counts[order], starts)
        owner = keys[starts] // queries.num_items
        items = (keys[starts] - owner * queries.num_items).astype(np.int32)
    kept = counts > 0
    strength = np.log1p(counts[kept]).astype(np.float32)
    return lists(items[kept], owner[kept], len(queries)), strength


def highest_found(
    items: Indexes, owner: Places, scores: Scores, limits: Places, num_items: int
) -> FoundTogether:
    """Each owner's highest scores, at most `limits[owner]`."""
    num_owners = len(limits)
    kept = highest_of_each(starts_of(owner, num_owners), items, scores, limits, num_items)
    return FoundTogether(lists(items[kept], owner[kept], num_owners), scores[kept])


@dataclass(frozen=True, slots=True)
class AlsForUser:
    """Items near the user's ALS vector, folded in from the history at the time of asking.

    `gram` is Y'Y + regularisation, shape (factors, factors), Y being all item vectors. The
    confidence of an item is `alpha` times its strength in the profile.
    """

    name: str
    index: VectorIndex
    gram: NDArray[np.float32]
    alpha: float
    half_life: int

    def retrieve(self, query: Query, limit: int) -> Found:
        """The nearest allowed items; nothing for a user without a history or session."""
        items, strength = profile(query, self.half_life)
        if not len(items):
            return NOTHING
        vector = self.fold_in(items, self.alpha * strength)
        found = self.index.search(query, vector, limit)
        vectors = self.index.vectors
        return Found(found.items, found.scores, lambda wanted: vectors.take(wanted, 0) @ vector)

    def retrieve_together(self, queries: Queries, limits: Places) -> FoundTogether:
        """The nearest allowed items for each query whose user has a history or session."""
        known, strength = profiles(queries, self.half_life)
        asked = np.flatnonzero(known.lengths)
        if not len(asked):
            return nothing_found(len(queries))
        vectors = np.zeros((len(queries), len(self.gram)), np.float32)
        vectors[asked] = self._fold_in_each(known, self.alpha * strength, asked)
        return search_together(self.index, queries, asked, vectors, limits)

    def _fold_in_each(self, known: Lists, confidence: Scores, asked: Places) -> Scores:
        """The vectors of the users `asked`, as `fold_in` has them; shape (asked, factors)."""
        gram = self.gram
        left = np.empty((len(asked), *gram.shape), np.float32)
        right = np.empty((len(asked), len(gram)), np.float32)
        everything, bounds = self.index.vectors[known.items], known.starts.tolist()
        for row, number in enumerate(asked.tolist()):
            own = slice(bounds[number], bounds[number + 1])
            vectors, trust = everything[own], confidence[own]
            weighted = vectors * (trust - 1.0)[:, None]
            np.matmul(weighted.T, vectors, out=left[row])
            np.matmul(trust, vectors, out=right[row])
        left += gram
        solution: Scores = np.linalg.solve(left, right[:, :, None])[:, :, 0]
        return solution

    def fold_in(self, items: Indexes, confidence: Scores) -> NDArray[np.float32]:
        """The user vector, shape (factors,): (Y'Y + λI + Y'(C - I)Y)⁻¹ Y'C p.

        Hu, Koren and Volinsky 2008, equation 4, over these items alone.
        """
        vectors = self.index.vectors.take(items, 0)
        weighted = vectors * (confidence - 1.0)[:, None]
        solution: NDArray[np.float32] = np.linalg.solve(
            self.gram + weighted.T @ vectors, confidence @ vectors
        )
        return solution


@dataclass(frozen=True, slots=True)
class AlsSimilar:
    """Items whose ALS vectors point the same way as those of the context's items."""

    name: str
    index: VectorIndex

    def retrieve(self, query: Query, limit: int) -> Found:
        """The nearest allowed items by cosine to the mean direction of the context."""
        if not len(query.context):
            return NOTHING
        vectors = np.asarray(self.index.vectors[query.context])
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return self.index.search(query, (vectors / np.maximum(length, 1e-12)).mean(axis=0), limit)
