"""The scorers: one comparable value for each candidate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online.together.queries import CandidatesTogether, Queries
from online.together.ragged import Lists
from online.types import Candidates, Query, Scores


@dataclass(frozen=True, slots=True)
class Blend:
    """A weighted sum of the sources' scores, each divided by its highest in this query.

    `weights` has one entry a source. A candidate that a source did not find gets 0 from it.
    """

    name: str
    weights: Scores

    def score(self, _query: Query, candidates: Candidates) -> Scores:
        """The sum over the sources, shape (n,)."""
        terms = candidates.scores * self._factors(candidates)
        total: Scores = np.where(np.isnan(terms), np.float32(0), terms).sum(axis=0)
        return total

    def score_together(self, _queries: Queries, candidates: CandidatesTogether) -> Scores:
        """The same for the candidates of many queries, each by its own highest scores."""
        factors = self._factors_of_each(candidates)[:, candidates.lists.owner]
        terms = candidates.scores * factors
        np.copyto(terms, np.float32(0), where=np.isnan(terms))
        total: Scores = terms.sum(axis=0)
        return total

    def main_sources_together(
        self, _queries: Queries, candidates: CandidatesTogether, chosen: Lists
    ) -> NDArray[np.intp]:
        """As `main_sources`, `chosen` being places among all candidates."""
        factors = self._factors_of_each(candidates)[:, chosen.owner]
        terms = candidates.scores[:, chosen.items] * factors
        rows: NDArray[np.intp] = np.where(np.isnan(terms), -np.inf, terms).argmax(axis=0)
        return rows

    def _factors_of_each(self, candidates: CandidatesTogether) -> Scores:
        """As `_factors` of each query, shape (sources, queries)."""
        starts = candidates.lists.starts
        filled = np.flatnonzero(np.diff(starts))
        highest = np.full((len(self.weights), len(starts) - 1), 1e-12, np.float32)
        if len(filled):
            found = np.fmax.reduceat(np.abs(candidates.scores), starts[filled], axis=1)
            highest[:, filled] = np.fmax(found, highest[:, filled])
        factors: Scores = self.weights[:, None] / highest
        return factors

    def main_sources(
        self, _query: Query, candidates: Candidates, positions: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """The source with the largest term among those that found it, shape (positions,)."""
        terms = candidates.scores[:, positions] * self._factors(candidates)
        rows: NDArray[np.intp] = np.where(np.isnan(terms), -np.inf, terms).argmax(axis=0)
        return rows

    def terms(self, candidates: Candidates, position: int) -> Scores:
        """What each source adds to the score of one candidate, shape (sources,)."""
        terms: Scores = np.nan_to_num(
            candidates.scores[:, position] * self._factors(candidates)[:, 0]
        )
        return terms

    def _factors(self, candidates: Candidates) -> Scores:
        """Each source's weight over its highest score in this query, shape (sources, 1)."""
        highest = np.fmax.reduce(np.abs(candidates.scores), axis=1, initial=1e-12)
        factors: Scores = (self.weights / highest)[:, None]
        return factors
