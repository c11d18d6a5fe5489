"""Learn which tokens are slots: an averaged structured perceptron over `tagging.features_of`.

Collins 2002. Text in, weights out; it knows nothing of values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from feature_store.language.gazetteer import Gazetteer
from feature_store.language.grams import Hashes
from feature_store.language.labels import SlotKind
from feature_store.language.normal import Normal, Token
from feature_store.language.reading import Reader
from feature_store.language.tagging import (
    LABELS,
    Tagger,
    allowed_pairs,
    features_of,
    labels_of,
)
from offline.chat.texts import Utterance

NUM_EPOCHS: Final = 6
_BATCH: Final = 16
_NUM_SORTED: Final = 512
"""Of so many texts in drawn order those of like lengths are learned from together."""


@dataclass(frozen=True, slots=True)
class Example:
    """One text: the hashes of each token's features, and the right labels."""

    features: list[Hashes]
    labels: list[int]


def example_of(utterance: Utterance, reader: Reader, gazetteer: Gazetteer) -> Example | None:
    """The tokens of an utterance with its marks; None for one without tokens."""
    read = reader.read(utterance.text)
    if not read.tokens:
        return None
    spans = token_spans(utterance, read.normal, read.tokens)
    features = features_of(read.words, read.keys, gazetteer.matches(read.keys))
    return Example(features, labels_of(spans, len(read.tokens)))


def token_spans(
    utterance: Utterance, normal: Normal, tokens: Sequence[Token]
) -> list[tuple[int, int, SlotKind]]:
    """The marks of an utterance as spans of tokens: all tokens that a mark touches."""
    places = [normal.span(token.start, token.end) for token in tokens]
    spans = []
    for slot in utterance.slots:
        inside = [
            n for n, (start, end) in enumerate(places) if start < slot.end and end > slot.start
        ]
        if inside:
            spans.append((inside[0], inside[-1] + 1, slot.kind))
    return spans


def fit_tagger(examples: Sequence[Example], seed: int, num_epochs: int = NUM_EPOCHS) -> Tagger:
    """The averaged weights after some passes over the examples, some at a time in drawn order."""
    every = np.concatenate([hashes for one in examples for hashes in one.features])
    hashes = np.unique(every)
    texts = [_Text.of(hashes, one) for one in examples]
    learned = _Perceptron(len(hashes))
    rng = np.random.default_rng(seed)
    for _ in range(num_epochs):
        for batch in _batches(texts, rng):
            learned.learn(batch)
    weights, pairs = learned.averaged()
    used = np.abs(weights).max(1) > 0
    return Tagger(hashes[used], weights[used], pairs)


@dataclass(frozen=True, slots=True)
class _Text:
    """Rows of all tokens' features one after the other, how many each token has, right labels."""

    rows: NDArray[np.intp]
    counts: NDArray[np.intp]
    labels: NDArray[np.intp]

    @classmethod
    def of(cls, hashes: Hashes, example: Example) -> Self:
        """The text of an example."""
        counts = np.array([len(token) for token in example.features])
        rows = np.searchsorted(hashes, np.concatenate(example.features))
        return cls(rows, counts, np.array(example.labels, np.intp))


def _batches(texts: Sequence[_Text], rng: np.random.Generator) -> Iterator[list[_Text]]:
    """All texts in drawn order, in batches of like lengths."""
    order = rng.permutation(len(texts))
    for start in range(0, len(order), _NUM_SORTED):
        part = sorted(order[start : start + _NUM_SORTED], key=lambda one: len(texts[one].labels))
        for first in range(0, len(part), _BATCH):
            yield [texts[one] for one in part[first : first + _BATCH]]


class _Perceptron:
    """Weights, and their sum over all steps in the form of Daumé's lazy average."""

    def __init__(self, num_features: int) -> None:
        self._weights = np.zeros((num_features, len(LABELS)), np.float32)
        self._pairs = np.zeros((len(LABELS) + 1, len(LABELS)), np.float32)
        self._late = np.zeros_like(self._weights)
        self._late_pairs = np.zeros_like(self._pairs)
        self._allowed = allowed_pairs()
        self._step = 1

    def learn(self, batch: Sequence[_Text]) -> None:
        """Move towards the right labels where the best ones of now are wrong."""
        rows = np.concatenate([one.rows for one in batch])
        counts = np.concatenate([one.counts for one in batch])
        right = np.concatenate([one.labels for one in batch])
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        scores = np.add.reduceat(self._weights[rows], starts, axis=0)
        lengths = np.array([len(one.labels) for one in batch])
        guess = _best_labels(scores, lengths, self._pairs + self._allowed)
        wrong = guess != right
        if wrong.any():
            moved = np.repeat(wrong, counts)
            for labels, by in ((right, 1.0), (guess, -1.0)):
                places = rows[moved], np.repeat(labels, counts)[moved]
                self._move(self._weights, self._late, places, by)
                self._move(self._pairs, self._late_pairs, _neighbours(labels, lengths), by)
        self._step += 1

    def _move(
        self,
        weights: NDArray[np.float32],
        late: NDArray[np.float32],
        places: tuple[NDArray[np.intp], NDArray[np.intp]],
        by: float,
    ) -> None:
        np.add.at(weights, places, by)
        np.add.at(late, places, by * self._step)

    def averaged(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean weights of all steps, and those of pairs with what is not allowed."""
        weights = self._weights - self._late / self._step
        pairs = self._pairs - self._late_pairs / self._step + self._allowed
        return weights.astype(np.float32), pairs.astype(np.float32)


def _neighbours(
    labels: NDArray[np.intp], lengths: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each label with the one before it in its text, `len(LABELS)` before the first."""
    before = np.concatenate(([len(LABELS)], labels[:-1]))
    before[np.cumsum(lengths)[:-1]] = len(LABELS)
    return before, labels


def _best_labels(
    scores: NDArray[np.float32], lengths: NDArray[np.intp], pairs: NDArray[np.float32]
) -> NDArray[np.intp]:
    """`tagging.best_labels` of several texts at once, whose tokens follow one another."""
    num, longest = len(lengths), int(lengths.max())
    inside = np.arange(longest) < lengths[:, None]
    table = np.zeros((num, longest, len(LABELS)), np.float32)
    table[inside] = scores
    best, back = table[:, 0] + pairs[-1], []
    itself = np.arange(len(LABELS))
    for place in range(1, longest):
        sums = best[:, :, None] + pairs[:-1]
        before = sums.argmax(1)
        reached = np.take_along_axis(sums, before[:, None], 1)[:, 0] + table[:, place]
        here = inside[:, place, None]
        best = np.where(here, reached, best)
        back.append(np.where(here, before, itself))
    labels = np.empty((num, longest), np.intp)
    labels[:, -1] = best.argmax(1)
    for place in range(longest - 1, 0, -1):
        labels[:, place - 1] = back[place - 1][np.arange(num), labels[:, place]]
    return labels[inside]
