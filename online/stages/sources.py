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
from online.offering.allowed import allows, few_allowed
from online.stages.vectors import VectorIndex, top
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

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """How often the user bought each, and how many days ago."""
        rows = query.history.rows[np.searchsorted(query.history.items, items)]
        days = np.maximum(query.time - rows["last_time"], 0) // MICROSECONDS_PER_DAY
        return [
            Reason(
                "bought_once" if count == 1 else "bought_often",
                {"count": str(count), "days": str(ago)},
            )
            for count, ago in zip(rows["count"].astype(int).tolist(), days.tolist(), strict=True)
        ]


def profile(query: Query, half_life: int) -> tuple[Indexes, Scores]:
    """The user's items, sorted, and log(1 + decayed purchases) of each, shape (n,).

    An item of the running session or basket counts as one purchase more.
    """
    history = query.history
    items, counts = history.items, history.decayed[:, half_life]
    if len(query.session) or len(query.basket):
        items = np.concatenate((items, query.session, query.basket))
        counts = np.concatenate((counts, np.ones(len(items) - len(counts))))
        items, counts = sums(items, counts)
    kept = counts > 0
    return items[kept], np.log1p(counts[kept]).astype(np.float32)


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
        return Found(found.items, found.scores, lambda wanted: self.index.vectors[wanted] @ vector)

    def fold_in(self, items: Indexes, confidence: Scores) -> NDArray[np.float32]:
        """The user vector, shape (factors,): (Y'Y + λI + Y'(C - I)Y)⁻¹ Y'C p.

        Hu, Koren and Volinsky 2008, equation 4, over these items alone.
        """
        vectors = self.index.vectors[items]
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
