"""A scorer for two kinds of people: those who have bought something, and those who only look.

The ranker learned from people with purchases, and is not told what follows what in a visit: of
somebody known by the visit alone it can say little. Their candidates are blended instead, where a
bundle knows what visitors look at next.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from online.stages.ranker import Ranker
from online.stages.scorers import Blend
from online.together.queries import CandidatesTogether, Queries
from online.together.ragged import Lists
from online.types import Candidates, Query, Scorer, Scores


def is_visitor(query: Query) -> bool:
    """Whether the visit is all that is known of who asks."""
    return len(query.visit) > 0 and not query.history.bought.any()


@dataclass(frozen=True, slots=True)
class ForVisitors:
    """The `ranker`, and the `blend` for visitors."""

    ranker: Ranker
    blend: Blend

    @property
    def name(self) -> str:
        """That of the ranker."""
        return self.ranker.name

    def scorer_of(self, query: Query, num_sources: int) -> Scorer:
        """Which of the two scores what `num_sources` sources found for a query."""
        return self._blend(num_sources) if is_visitor(query) else self.ranker

    def score(self, query: Query, candidates: Candidates) -> Scores:
        """As the one or the other, shape (n,)."""
        return self.scorer_of(query, len(candidates.scores)).score(query, candidates)

    def main_sources(
        self, query: Query, candidates: Candidates, positions: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """As the one or the other, shape (positions,)."""
        scorer = self.scorer_of(query, len(candidates.scores))
        return scorer.main_sources(query, candidates, positions)

    def score_together(self, queries: Queries, candidates: CandidatesTogether) -> Scores:
        """Each query's candidates as the one or the other."""
        visitors = np.array([is_visitor(query) for query in queries.each])
        scores = self.ranker.score_together(queries, candidates)
        if not visitors.any():
            return scores
        blended = self._blend(len(candidates.scores)).score_together(queries, candidates)
        chosen: Scores = np.where(visitors[candidates.lists.owner], blended, scores)
        return chosen

    def main_sources_together(
        self, queries: Queries, candidates: CandidatesTogether, chosen: Lists
    ) -> NDArray[np.intp]:
        """As `main_sources`, `chosen` being places among all candidates."""
        visitors = np.array([is_visitor(query) for query in queries.each])
        rows = self.ranker.main_sources_together(queries, candidates, chosen)
        if not visitors.any():
            return rows
        blend = self._blend(len(candidates.scores))
        blended = blend.main_sources_together(queries, candidates, chosen)
        mixed: NDArray[np.intp] = np.where(visitors[chosen.owner], blended, rows)
        return mixed

    def _blend(self, num_sources: int) -> Blend:
        """The blend over so many sources: those that came to the pipeline weigh nothing in it."""
        missing = num_sources - len(self.blend.weights)
        if not missing:
            return self.blend
        return replace(self.blend, weights=np.pad(self.blend.weights, (0, missing)))
