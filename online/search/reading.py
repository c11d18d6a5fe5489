"""What a shopper typed, cut into parts: names of the shop and words, slips of the finger set right.

It reads the terms that filters look up and the names that the chat knows, and has no index of its
own. It knows no vectors and nobody who asks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Final

import numpy as np
import rjieba
from rapidfuzz import process
from rapidfuzz.distance import OSA

from feature_store.language.cutting import EMPTY_WORDS
from feature_store.language.gazetteer import Gazetteer, Match, keys_of
from feature_store.language.labels import SlotKind
from feature_store.language.names import Name
from feature_store.language.normal import is_han, normal_text, tokens_of
from feature_store.language.spelling import Speller
from feature_store.language.words import singular
from online.offering.attributes import Words
from online.recent import Recent

MAX_CHARACTERS: Final = 200
"""What is read of a query: a search is short, and the time for one is bounded so."""

MAX_PARTS: Final = 12
MAX_VOCABULARY: Final = 100_000
"""Among so many of the most frequent terms of the shop a misspelt word is looked for."""

MIN_CHINESE: Final = 3
"""A shorter Chinese name is one character away from too many others."""

LONG_CHINESE: Final = 6
"""From this length on, two slips are set right instead of one."""

NUM_KEPT: Final = 256
_NAMED: Final = frozenset({SlotKind.CATEGORY, SlotKind.BRAND, SlotKind.TAG})


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a query: an item has it if one of the phrases stands in its text.

    A name of the shop may also stand for category paths, brands and tags.
    """

    phrases: tuple[str, ...]
    paths: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    is_pair: bool = False
    """Two words that stand next to each other; it only adds to the parts that they are."""

    @property
    def is_named(self) -> bool:
        """Whether it stands for more than its words."""
        return bool(self.paths or self.brands or self.tags)


@dataclass(frozen=True, slots=True)
class Reading:
    """A query as it is looked for; `text` is what an encoder is given."""

    parts: tuple[Part, ...]
    text: str


@dataclass(frozen=True, slots=True)
class QueryReader:
    """Reads queries with the words and names of one bundle; both may be empty."""

    terms: Words | None
    names: Sequence[Name] = ()
    gazetteer: Gazetteer = field(default_factory=lambda: Gazetteer(()))
    _speller: list[Speller] = field(default_factory=list)
    _chinese: list[tuple[str, ...]] = field(default_factory=list)
    _kept: Recent[str, Reading] = field(default_factory=lambda: Recent(NUM_KEPT))

    def read(self, query: str) -> Reading:
        """The parts of a query, in its order."""
        return self._kept.get(query, lambda: self._read(query))

    def _read(self, query: str) -> Reading:
        tokens = [token.text for token in tokens_of(normal_text(query, MAX_CHARACTERS))]
        words = [word if is_han(word) else self._corrected(word) for word in tokens]
        keys = keys_of(words)
        free = [True] * len(keys)
        found: list[tuple[int, Part]] = []
        for first, end, names in self._names_in(keys):
            found.append((first, _named(keys[first:end], names)))
            free[first:end] = [False] * (end - first)
        if not found and (near := self._nearly(keys)) is not None:
            return Reading((near,), _joined(words))
        found += _words_in(keys, free)
        found.sort(key=lambda one: one[0])
        return Reading(tuple(part for _, part in found[:MAX_PARTS]), _joined(words))

    def _names_in(self, keys: Sequence[str]) -> Iterator[tuple[int, int, list[Name]]]:
        """The names that do not overlap, longer ones first, each with all that it stands for.

        Of two as long the later one says what a thing is: chocolate cake mix is cake mix.
        """
        matches = [one for one in self.gazetteer.matches(keys) if one.kind in _NAMED]
        matches.sort(key=lambda one: (one.start - one.end, -one.end))
        taken: set[int] = set()
        for match in matches:
            span = range(match.start, match.end)
            if taken.isdisjoint(span) and _is_word(match, keys):
                taken.update(span)
                same = [one for one in matches if (one.start, one.end) == (match.start, match.end)]
                yield match.start, match.end, [self.names[one.payload] for one in same]

    def _nearly(self, keys: Sequence[str]) -> Part | None:
        """The name that a query in Chinese is but for a slip; None where there is none."""
        query = "".join(keys)
        if len(query) < MIN_CHINESE or not all(map(is_han, keys)):
            return None
        if not self._chinese:
            texts = (one.text for one in self.names if one.kind in _NAMED and is_han(one.text))
            self._chinese.append(tuple(dict.fromkeys(texts)))
        most = 2 if len(query) >= LONG_CHINESE else 1
        near = process.extractOne(query, self._chinese[0], scorer=OSA.distance, score_cutoff=most)
        if near is None:
            return None
        return _named(keys, [one for one in self.names if one.text == near[0]])

    def _corrected(self, word: str) -> str:
        if not word.isalpha() or word in EMPTY_WORDS:
            return word
        if not self._speller:
            self._speller.append(Speller(self._vocabulary()))
        return self._speller[0].correct(singular(word))

    def _vocabulary(self) -> Iterator[str]:
        """The words of names and of the shop's texts, the frequent ones of both first."""
        for name in self.names:
            yield from (singular(one.text) for one in tokens_of(name.text) if one.text.isascii())
        if self.terms is None:
            return
        counts = np.diff(self.terms.ends, prepend=0)
        for place in np.argsort(-counts, kind="stable")[:MAX_VOCABULARY].tolist():
            term = self.terms.words[place]
            if term.isascii() and term.isalpha():
                yield term


def _is_word(match: Match, keys: Sequence[str]) -> bool:
    """Whether a match is more than a character in a longer Chinese word."""
    if match.end - match.start > 1 or not is_han(keys[match.start]):
        return True
    return keys[match.start] in rjieba.cut("".join(filter(is_han, keys)))


def _named(keys: Sequence[str], names: Sequence[Name]) -> Part:
    """The part that some keys are, being names of the shop."""
    own = _joined(keys)
    return Part(
        phrases=tuple(dict.fromkeys((own, *(word for name in names for word in name.words)))),
        paths=tuple(dict.fromkeys(path for name in names for path in name.paths)),
        brands=tuple(dict.fromkeys(brand for name in names for brand in name.brands)),
        tags=tuple(dict.fromkeys(tag for name in names for tag in name.tags)),
    )


def _words_in(keys: Sequence[str], free: Sequence[bool]) -> Iterator[tuple[int, Part]]:
    """The words among the free keys, and where each stands; Chinese is cut into words."""
    kinds = [(is_free, is_han(key)) for key, is_free in zip(keys, free, strict=True)]
    for (is_free, is_chinese), run in groupby(range(len(keys)), key=kinds.__getitem__):
        if not is_free:
            continue
        places = list(run)
        some = [keys[place] for place in places]
        words = rjieba.cut("".join(some)) if is_chinese else some
        said = [word for word in words if word[0].isalnum()]
        telling = [word for word in said if word not in EMPTY_WORDS] or said
        yield from ((places[0], Part((word,))) for word in telling)
        if not is_chinese:
            pairs = pairwise(telling)
            yield from ((places[0], Part((" ".join(pair),), is_pair=True)) for pair in pairs)


def _joined(words: Sequence[str]) -> str:
    """The words as they would be written: Chinese without spaces."""
    text = ""
    for word in words:
        text += word if not text or (is_han(text[-1]) and is_han(word)) else f" {word}"
    return text
