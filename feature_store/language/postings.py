"""Which texts hold which terms, as arrays that are mapped and never parsed.

One layout for two uses: words weighed by BM25, and n-grams of characters whose weights are those of
a cosine. Terms are kept as 64-bit hashes. A reader needs no lock and writes no file, so that a
bundle may lie on a read-only disk and all workers share its pages.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.ids import hash64_many

K1: Final = 1.2
B: Final = 0.75
"""BM25's usual saturation and length normalisation (Robertson and Zaragoza 2009)."""

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Postings:
    """Postings in arrays: term i, `keys[i]`, is in `texts[starts[i]:starts[i + 1]]`.

    `keys` are sorted, `idf` has the weight of each term, `weights` that of each term in each text,
    and there are `num_texts` texts.
    """

    keys: NDArray[np.uint64]
    idf: Weights
    starts: NDArray[np.int64]
    texts: NDArray[np.int32]
    weights: Weights
    num_texts: int

    def find(self, terms: Sequence[str]) -> NDArray[np.int64]:
        """The place of each term, -1 for one that no text holds."""
        keys = hash64_many(terms)
        if not len(self.keys) or not len(keys):
            return np.full(len(keys), -1, np.int64)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1).astype(np.int64)

    def unknown_idf(self) -> float:
        """The weight of a term that no text holds."""
        return float(bm25_idf(np.zeros(1), self.num_texts)[0])

    def sums(self, places: NDArray[np.int64], weights: Weights) -> Weights:
        """The sum over the terms at `places` of weight times weight in the text; shape (texts,)."""
        total = np.zeros(self.num_texts, np.float32)
        for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
            if place >= 0:
                rows = slice(self.starts[place], self.starts[place + 1])
                total[self.texts[rows]] += weight * self.weights[rows]
        return total

    def covered(self, places: NDArray[np.int64], weights: Weights) -> Weights:
        """The sum of the weights of those terms that each text holds; shape (texts,)."""
        total = np.zeros(self.num_texts, np.float32)
        for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
            if place >= 0:
                total[self.texts[self.starts[place] : self.starts[place + 1]]] += weight
        return total


def bm25_idf(num_holding: NDArray[np.floating], num_texts: int) -> Weights:
    """ln(1 + (N - n + 1/2) / (n + 1/2)) for terms that n of N texts hold."""
    idf: Weights = np.log1p((num_texts - num_holding + 0.5) / (num_holding + 0.5)).astype(
        np.float32
    )
    return idf


def bm25_postings(texts: Sequence[Sequence[str]]) -> Postings:
    """Postings whose sums, with idf as weights, are BM25 scores."""
    built = _count(texts)
    lengths = np.array([len(text) for text in texts], np.float32)
    norm = K1 * (1 - B + B * lengths / max(1.0, float(lengths.mean()) if len(lengths) else 1.0))
    weights = built.weights * (K1 + 1) / (built.weights + norm[built.texts])
    return _with(built, weights, bm25_idf(np.diff(built.starts), len(texts)))


def cosine_postings(texts: Sequence[Sequence[str]]) -> Postings:
    """Postings whose sums, with `unit_weights`, are cosines of tf-idf vectors.

    tf is 1 + ln(count), idf is ln((N + 1) / (n + 1/2)).
    """
    built = _count(texts)
    idf = np.log((len(texts) + 1) / (np.diff(built.starts) + 0.5)).astype(np.float32)
    weights = (1 + np.log(built.weights)) * np.repeat(idf, np.diff(built.starts))
    lengths = np.sqrt(np.bincount(built.texts, weights**2, minlength=len(texts)))
    return _with(built, weights / np.maximum(lengths, 1e-9)[built.texts], idf)


def unit_weights(postings: Postings, terms: Sequence[str]) -> tuple[NDArray[np.int64], Weights]:
    """The distinct terms' places, and their weights in a text of length 1."""
    counted = Counter(terms)
    places = postings.find(list(counted))
    unknown = np.log((postings.num_texts + 1) / 0.5)
    idf = np.where(places >= 0, postings.idf[places], unknown) if len(postings.idf) else unknown
    weights = (1 + np.log(np.fromiter(counted.values(), np.float32, len(counted)))) * idf
    length = float(np.sqrt((weights**2).sum()))
    unit: Weights = (weights / max(length, 1e-9)).astype(np.float32)
    return places, unit


def _count(texts: Sequence[Sequence[str]]) -> Postings:
    """Postings with the number of times as weights."""
    vocabulary: dict[str, list[tuple[int, int]]] = {}
    for number, text in enumerate(texts):
        for term, count in Counter(text).items():
            vocabulary.setdefault(term, []).append((number, count))
    terms = list(vocabulary)
    keys = hash64_many(terms)
    order = np.argsort(keys)
    lists = [vocabulary[terms[place]] for place in order.tolist()]
    pairs = [pair for each in lists for pair in each]
    rows = np.array(pairs, np.int32).reshape(-1, 2)
    sizes = np.array([0, *(len(each) for each in lists)], np.int64)
    return Postings(
        keys=keys[order],
        idf=np.zeros(len(terms), np.float32),
        starts=np.cumsum(sizes),
        texts=np.ascontiguousarray(rows[:, 0]),
        weights=rows[:, 1].astype(np.float32),
        num_texts=len(texts),
    )


def _with(built: Postings, weights: NDArray[np.floating], idf: Weights) -> Postings:
    return Postings(
        built.keys, idf, built.starts, built.texts, weights.astype(np.float32), built.num_texts
    )
