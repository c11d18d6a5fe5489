"""Products that came after the training: found by what their text means, and given a first chance.

They have no buyers yet. What the user's own items mean, or those of the page, says which of them
are near; how their neighbours sell says which are worth a try; and one slot of a page may be drawn
among the nearest, so that something can be learned of them. Bound to one bundle and the products
that came after it; reads only the query.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from online.stages.places import pins_of, room_of
from online.stages.selectors import dice
from online.stages.sources import profile
from online.stages.vectors import top_allowed
from online.together.queries import CandidatesTogether, Queries
from online.together.ragged import Lists
from online.types import Candidates, Found, Indexes, Query, Scores, Selection, Selector

NAME: Final = "fresh"
SIZE: Final = 30
"""How many candidates the source may add."""

MAX_SEEDS: Final = 32
PRIOR_WEIGHT: Final = 0.25
"""What the best selling neighbours count for beside a cosine of 1."""

MIN_SLATE: Final = 5
"""A shorter slate has no slot for a draw."""

POOL: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """The products that came after the training.

    `vectors` has shape (items and room, dimensions), None where the bundle has none; the products
    are `items`, ascending, with their own `meanings` in the same space, shape (n, dimensions), and
    `priors` from 0 to 1, by how their neighbours sell. `half_life` is the profile's.
    """

    items: Indexes
    meanings: NDArray[np.float32]
    priors: Scores
    vectors: NDArray[np.float16] | None
    half_life: int
    name: str = NAME

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed ones that are nearest to the page or the user, by cosine and prior."""
        wanted = self._wanted(query)
        scores = np.float32(PRIOR_WEIGHT) * self.priors
        if wanted is not None:
            scores += np.maximum(self.meanings @ wanted, 0.0)
        return top_allowed(query, self.items, scores, limit)

    def _wanted(self, query: Query) -> NDArray[np.float32] | None:
        """What the page or the user is about, a vector of length 1; None where nobody knows."""
        if self.vectors is None:
            return None
        seeds, weights = _seeds(query, self.half_life)
        if not len(seeds):
            return None
        mean = weights @ self.vectors[seeds].astype(np.float32)
        length = float(np.linalg.norm(mean))
        return mean / length if length else None


def _seeds(query: Query, half_life: int) -> tuple[Indexes, Scores]:
    """The items that say what is wanted, MAX_SEEDS at most, and how much each of them does."""
    if len(query.context):
        return query.context[:MAX_SEEDS], np.ones(min(len(query.context), MAX_SEEDS), np.float32)
    items, strength = profile(query, half_life)
    if len(items) > MAX_SEEDS:
        strongest = np.argpartition(-strength, MAX_SEEDS)[:MAX_SEEDS]
        return items[strongest], strength[strongest]
    return items, strength


@dataclass(frozen=True, slots=True)
class FirstChance:
    """A selector whose last slot is drawn among new products when no other slot has one.

    Items from `first` on are new; the last row of the candidates' scores is that of `Fresh`.
    """

    inner: Selector
    first: int

    @property
    def name(self) -> str:
        """The name of the selector itself."""
        return self.inner.name

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> Selection:
        """What the selector chooses, and in the last slot one of the nearest new products.

        It is drawn evenly from POOL of them, and that is its propensity.
        """
        chosen = self.inner.select(query, candidates, scores)
        places = chosen.positions
        if not query.request.explores or len(places) < MIN_SLATE:
            return chosen
        if candidates.items[places].max() >= self.first:
            return chosen
        pool = self._pool(query, candidates, places)
        if not len(pool):
            return chosen
        drawn = pool[dice(query, 1, NAME)[0] % len(pool)]
        propensities = chosen.propensities.copy()
        propensities[-1] = 1.0 / len(pool)
        return Selection(np.append(places[:-1], drawn), propensities)

    def select_together(
        self, queries: Queries, candidates: CandidatesTogether, scores: Scores
    ) -> Lists | None:
        """As the selector itself does: nothing is drawn for requests that explore nothing."""
        ask = getattr(self.inner, "select_together", None)
        found: Lists | None = None
        if ask is not None and not queries.each[0].request.explores:
            found = ask(queries, candidates, scores)
        return found

    def _pool(
        self, query: Query, candidates: Candidates, places: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """The nearest new products that fit beside the others."""
        start = int(np.searchsorted(candidates.items, self.first))
        nearness = candidates.scores[-1, start:]
        order = start + np.argsort(-np.nan_to_num(nearness), kind="stable")
        pinned = [pin.item for pin in pins_of(query)]
        room = room_of(query.offer.caps, [*pinned, *candidates.items[places[:-1]].tolist()])
        items = candidates.items[order].tolist()
        fits = [
            place
            for place, item in zip(order.tolist(), items, strict=True)
            if item not in pinned and room.left(item) > 0
        ]
        return np.array(fits[:POOL], np.intp)
