"""The learned scorer: features of each candidate, a small network, a purchase probability.

The features are those of `feature_store.ranking`, which training calls too; the network is
the bundle's `ranker.onnx`, run by ONNX Runtime on one thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.ranking import (
    FEATURES_FILE,
    MODEL_FILE,
    RATED_SOURCES,
    ItemColumns,
    feature_names,
    open_columns,
    ranking_features,
)
from feature_store.two_tower import rated_sources
from online.errors import SnapshotError
from online.together.features import features_together
from online.together.queries import CandidatesTogether, Queries
from online.together.ragged import Lists, sortable, starts_of
from online.types import Candidates, Indexes, Query, Scores


@dataclass(frozen=True, slots=True)
class Ranker:
    """Values a candidate by the probability that the user buys it soon.

    `rated` are the numbers of the pipeline's sources whose scores the network was trained with,
    which are `rated_sources`. `observe` is told of what was scored: the query, the items and their
    features.
    """

    name: str
    columns: ItemColumns
    session: onnxruntime.InferenceSession
    rated: tuple[int, ...]
    observe: Callable[[Query, Indexes, Scores], None] | None = None
    rated_sources: tuple[str, ...] = RATED_SOURCES

    def over(self, sources: Sequence[str]) -> "Ranker":
        """The ranker for a pipeline with these sources."""
        rated = tuple(sources.index(name) for name in self.rated_sources)
        return replace(self, rated=rated)

    def score(self, query: Query, candidates: Candidates) -> Scores:
        """Calibrated probabilities, shape (n,)."""
        if not len(candidates):
            return np.zeros(0, np.float32)
        scores = candidates.rated(self.rated)
        features = ranking_features(
            query.state, query.history, self.columns, candidates.items, scores, query.time
        )
        probability: Scores = self.session.run(None, {"features": features})[0]
        if self.observe is not None:
            self.observe(query, candidates.items, features)
        return probability

    def score_together(self, queries: Queries, candidates: CandidatesTogether) -> Scores:
        """The same for the candidates of many queries: one run of the network."""
        if not len(candidates.lists.items):
            return np.zeros(0, np.float32)
        scores = candidates.rated(self.rated)
        features = features_together(queries, candidates.lists, self.columns, scores)
        probability: Scores = self.session.run(None, {"features": features})[0]
        if self.observe is not None:
            for number, query in enumerate(queries.each):
                own = slice(*candidates.lists.starts[number : number + 2].tolist())
                self.observe(query, candidates.lists.items[own], features[own])
        return probability

    def main_sources_together(
        self, _queries: Queries, candidates: CandidatesTogether, chosen: Lists
    ) -> NDArray[np.intp]:
        """As `main_sources`, `chosen` being places among all candidates."""
        owners, num_owners = candidates.lists.owner, len(chosen.starts) - 1
        ranks = np.full((len(candidates.scores), len(chosen.items)), len(owners) + 2, np.intp)
        for row, scores in zip(ranks, candidates.scores, strict=True):
            found = np.flatnonzero(~np.isnan(scores))
            own = scores[chosen.items]
            has = ~np.isnan(own)
            keys = np.sort(sortable(owners[found], scores[found], np.zeros(1, np.int64), 1))
            wanted = sortable(chosen.owner[has], own[has], np.zeros(1, np.int64), 1)
            starts = starts_of(owners[found], num_owners)
            ranked = np.searchsorted(keys, wanted, "right") - starts[chosen.owner[has]]
            row[has] = np.where(own[has] > 0, ranked, len(owners) + 1)
        rows: NDArray[np.intp] = ranks.argmin(axis=0)
        return rows

    def main_sources(
        self, _query: Query, candidates: Candidates, positions: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """The source that ranked each candidate highest, shape (positions,).

        A rank counts all that the source values at least as much, so that one that tells nothing
        apart ranks nothing high. A score of 0 or less ranks below every other.
        """
        scores = candidates.scores
        chosen = scores[:, positions]
        ranks = np.full(chosen.shape, len(candidates) + 2)
        ranks[chosen <= 0] = len(candidates) + 1
        valued = (chosen > 0).nonzero()  # where a source has found it: few pairs
        ranks[valued] = (scores[valued[0]] >= chosen[valued][:, None]).sum(axis=1)
        rows: NDArray[np.intp] = ranks.argmin(axis=0)
        return rows


def open_ranker(bundle: Bundle) -> Ranker:
    """The ranker of an opened bundle; SnapshotError when it takes other features."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        bundle.path(MODEL_FILE).read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    trained, rated = bundle.json(FEATURES_FILE), rated_sources(bundle)
    if trained != list(feature_names(rated)):
        raise SnapshotError(
            f"the ranker of {bundle.directory} was trained on other features than this code "
            "makes; train again"
        )
    return Ranker("scorer.ranker", open_columns(bundle), session, (), rated_sources=rated)
