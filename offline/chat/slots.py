"""Learn which tokens are slots: an averaged structured perceptron over `tagging.features_of`.

Collins 2002. Text in, weights out; it knows nothing of values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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
    best_labels,
    features_of,
    labels_of,
)
from offline.chat.texts import Utterance

NUM_EPOCHS: Final = 6


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
    """The averaged weights after some passes over the examples in drawn order."""
    every = np.concatenate([hashes for one in examples for hashes in one.features])
    hashes = np.unique(every)
    texts = [(_positions(hashes, one.features), np.array(one.labels, np.intp)) for one in examples]
    learned = _Perceptron(len(hashes))
    rng = np.random.default_rng(seed)
    for _ in range(num_epochs):
        for number in rng.permutation(len(texts)):
            learned.learn(*texts[number])
    weights, pairs = learned.averaged()
    used = np.abs(weights).max(1) > 0
    return Tagger(hashes[used], weights[used], pairs)


def _positions(hashes: Hashes, features: Sequence[Hashes]) -> list[NDArray[np.intp]]:
    return [np.searchsorted(hashes, token) for token in features]


class _Perceptron:
    """Weights, and their sum over all steps in the form of Daumé's lazy average."""

    def __init__(self, num_features: int) -> None:
        self._weights = np.zeros((num_features, len(LABELS)), np.float32)
        self._pairs = np.zeros((len(LABELS) + 1, len(LABELS)), np.float32)
        self._late = np.zeros_like(self._weights)
        self._late_pairs = np.zeros_like(self._pairs)
        self._allowed = allowed_pairs()
        self._step = 1

    def learn(self, tokens: list[NDArray[np.intp]], right: NDArray[np.intp]) -> None:
        """Move towards the right labels where the best ones of now are wrong."""
        scores = np.stack([self._weights[places].sum(0) for places in tokens])
        guess = np.array(best_labels(scores, self._pairs + self._allowed))
        for place in np.flatnonzero(guess != right):
            self._move(tokens[place], right[place], 1.0)
            self._move(tokens[place], guess[place], -1.0)
        if (guess != right).any():
            self._move_pairs(right, 1.0)
            self._move_pairs(guess, -1.0)
        self._step += 1

    def _move(self, places: NDArray[np.intp], label: int, by: float) -> None:
        self._weights[places, label] += by
        self._late[places, label] += by * self._step

    def _move_pairs(self, labels: NDArray[np.intp], by: float) -> None:
        before = np.concatenate(([len(LABELS)], labels[:-1]))
        np.add.at(self._pairs, (before, labels), by)
        np.add.at(self._late_pairs, (before, labels), by * self._step)

    def averaged(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean weights of all steps, and those of pairs with what is not allowed."""
        weights = self._weights - self._late / self._step
        pairs = self._pairs - self._late_pairs / self._step + self._allowed
        return weights.astype(np.float32), pairs.astype(np.float32)
