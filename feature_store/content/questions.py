"""A question against all pieces: what is compared, and how sure one may be of the best.

Features are of the same scale in every shop: shares and cosines. Two logistic models stand on them,
fitted on questions with known answers: one puts pieces in order, one says how likely the first of
them answers at all. Training and serving call the same functions. It knows no language of answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.content.columns import ContentColumns, open_columns, open_postings
from feature_store.language.cutting import search_grams, search_words
from feature_store.language.postings import Postings, Weights, unit_weights

FEATURES: Final = (
    "words",
    "head_words",
    "bm25",
    "grams",
    "head_grams",
    "heads",
    "passages",
    "nearest",
    "class",
)
"""Of a question and a piece: the share of the question's words that the piece, and its heads, hold;
BM25 as a share of its most; cosines of n-grams with the piece and with its nearest head; cosines of
vectors with the three nearest heads, the nearest passage and the five nearest units; the logarithm
of the probability that the question belongs to the piece and to no other."""

CONFIDENCE_FEATURES: Final = (
    *FEATURES,
    "score",
    "lead",
    "lead_of_two",
    "known_words",
    "evidence",
    "belonging",
)
"""Of the first piece: its features and score, its lead over the second and the third, the share of
the question's words that any piece holds, and the logarithm of 1 + how much its heads hold of the
question: a share of one word proves less than the same share of six. Of the question: how much
nearer it is to what pieces answer than to what none does."""

BM25_MOST: Final = 2.2
"""K1 + 1: what a word adds at most, in units of its idf."""

_NEAREST_HEADS: Final = 3
_NEAREST_UNITS: Final = 5
_NEAREST_TEXTS: Final = 3
_LEAST_LOG: Final = -12.0
_HEAD_WORDS: Final = FEATURES.index("head_words")
_VECTOR_FEATURES: Final = slice(FEATURES.index("heads"), len(FEATURES))


@dataclass(frozen=True, slots=True)
class Compared:
    """A question against pieces.

    `features` are FEATURES of each, shape (pieces, features), `known` is the share of the
    question's words that any piece holds, and `substance` how much it says: the sum of its words,
    each by its idf as a share of that of a word that no piece holds. `belonging` is the mean cosine
    with the three nearest heads less that with the three nearest texts that no piece answers.
    """

    features: Weights
    known: float
    substance: float
    belonging: float = 0.0

    def of(self, pieces: NDArray[np.int64]) -> "Compared":
        """Against some of the pieces only."""
        return replace(self, features=self.features[pieces])


@dataclass(frozen=True, slots=True)
class Questions:
    """Everything that a question is compared with."""

    columns: ContentColumns
    words: Postings
    head_words: Postings
    grams: Postings
    head_grams: Postings
    heads: NDArray[np.bool_]

    def compare(self, question: str, vector: Weights | None) -> Compared:
        """The question against every piece.

        `vector` is the question's in the encoder's space; None: what compares vectors is 0.
        """
        found = np.zeros((len(self.columns), len(FEATURES)), np.float32)
        known, substance = self._words(search_words(question), found)
        self._grams(search_grams(question), found)
        if vector is None:
            return Compared(found, known, substance)
        found[:, _VECTOR_FEATURES] = self._vectors(vector)
        return Compared(found, known, substance, self._belonging(vector))

    def unit_likeness(self, vector: Weights) -> Weights:
        """Cosines with all units in the space in which pieces lie apart, shape (units,)."""
        return np.asarray(self.columns.unit_vectors @ self._moved(vector), np.float32)

    def _moved(self, vector: Weights) -> Weights:
        """The vector in the space in which pieces lie apart, of length 1."""
        moved = (vector - self.columns.centre) @ self.columns.metric
        return np.asarray(moved / max(float(np.linalg.norm(moved)), 1e-9), np.float32)

    def _classes(self, vector: Weights) -> Weights:
        """The log-probability of each piece, not below _LEAST_LOG; 0 where none is learned."""
        columns = self.columns
        if not len(columns.class_bias):
            return np.zeros(len(columns), np.float32)
        odds = columns.class_weights @ self._moved(vector) + columns.class_bias
        odds -= odds.max()
        logs = odds - np.log(np.exp(odds).sum())
        return np.asarray(np.maximum(logs, _LEAST_LOG), np.float32)

    def _belonging(self, vector: Weights) -> float:
        inside, outside = (
            _mean_of_best(vectors @ vector, _NEAREST_TEXTS)
            for vectors in (self.columns.head_vectors, self.columns.outside_vectors)
        )
        return inside - outside

    def _words(self, words: list[str], found: Weights) -> tuple[float, float]:
        """Fill in the features of words; the question's known share and substance."""
        distinct = list(dict.fromkeys(words))
        if not distinct:
            return 0.0, 0.0
        places = self.words.find(distinct)
        weights = np.where(places >= 0, self.words.idf[places], self.words.unknown_idf())
        total = float(weights.sum())
        found[:, 0] = self.words.covered(places, weights) / total
        found[:, 2] = self.words.sums(places, weights) / (total * BM25_MOST)
        heads = self.head_words.find(distinct)
        found[:, 1] = self.head_words.covered(heads, weights) / total
        return float(weights[places >= 0].sum()) / total, total / self.words.unknown_idf()

    def _grams(self, grams: list[str], found: Weights) -> None:
        found[:, 3] = self.grams.sums(*unit_weights(self.grams, grams))
        likeness = self.head_grams.sums(*unit_weights(self.head_grams, grams))
        units = np.zeros(len(self.heads), np.float32)
        units[self.heads] = likeness
        found[:, 4] = np.maximum.reduceat(units, self.columns.unit_starts)

    def _vectors(self, vector: Weights) -> Weights:
        """The last features; pieces have few units, so that a loop over them is short."""
        likeness = self.unit_likeness(vector)
        starts = self.columns.unit_starts
        heads = np.where(self.heads, likeness, -1.0)
        passages = np.maximum.reduceat(np.where(self.heads, -1.0, likeness), starts)
        bounds = [*starts.tolist(), len(likeness)]
        near = np.empty((len(starts), 2), np.float32)
        for piece, (begin, end) in enumerate(pairwise(bounds)):
            near[piece, 0] = _mean_of_best(heads[begin:end], _NEAREST_HEADS)
            near[piece, 1] = _mean_of_best(likeness[begin:end], _NEAREST_UNITS)
        classes = self._classes(vector)
        return np.column_stack([near[:, 0], passages, near[:, 1], classes]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Answering:
    """The two models and the confidence below which nothing is answered.

    `order` weighs FEATURES; `weights`, over CONFIDENCE_FEATURES, and `bias` give the log-odds that
    the first piece answers.
    """

    order: Weights
    weights: Weights
    bias: float
    threshold: float

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Answering":
        """From JSON; the features are by name, so that their order may change."""
        return cls(
            order=np.array([values["order"][name] for name in FEATURES], np.float32),
            weights=np.array(
                [values["confidence"][name] for name in CONFIDENCE_FEATURES], np.float32
            ),
            bias=float(values["bias"]),
            threshold=float(values["threshold"]),
        )

    def scores(self, features: Weights) -> Weights:
        """The higher, the likelier a piece answers; shape (pieces,)."""
        scores: Weights = features @ self.order
        return scores

    def confidence(self, compared: Compared, scores: Weights) -> float:
        """The probability that the piece with the highest score answers."""
        odds = float(confidence_features(compared, scores) @ self.weights) + self.bias
        return float(1 / (1 + np.exp(-odds)))


def confidence_features(compared: Compared, scores: Weights) -> Weights:
    """CONFIDENCE_FEATURES of the piece with the highest score."""
    order = np.argsort(-scores, kind="stable")[:3]
    first, best = compared.features[order[0]], scores[order[0]]
    leads = [best - scores[place] for place in order[1:]]
    leads += [0.0] * (2 - len(leads))
    evidence = np.log1p(compared.substance * first[_HEAD_WORDS])
    numbers = (best, *leads, compared.known, evidence, compared.belonging)
    return np.array([*first, *numbers], np.float32)


def open_questions(bundle: Bundle) -> Questions:
    """What questions are compared with, of a bundle that has content."""
    columns = open_columns(bundle)
    return Questions(
        columns=columns,
        words=open_postings(bundle, "words"),
        head_words=open_postings(bundle, "head_words"),
        grams=open_postings(bundle, "grams"),
        head_grams=open_postings(bundle, "head_grams"),
        heads=columns.unit_begin < 0,
    )


def _mean_of_best(values: Weights, num: int) -> float:
    """The mean of the `num` highest that are real values; -1 stands for none."""
    best = np.sort(values)[::-1][:num]
    best = best[best > -1.0]
    return float(best.mean()) if len(best) else 0.0
