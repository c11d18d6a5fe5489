"""The source of what has the words of a search, or is what they are a name of.

An item's score is the share of the search that it has: of its parts, each by how rare it is. It
looks into the terms that filters use and the shelves of the category tree.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_store.language.words import terms_of_phrase
from online.columns import distinct, highest, sums
from online.offering.allowed import contains
from online.offering.attributes import Attributes, Words
from online.search.reading import Part, QueryReader
from online.search.relevance import shown
from online.stages.browsing import Shelves
from online.stages.vectors import top_allowed
from online.types import NO_ITEMS, NO_SCORES, NOTHING, Found, Indexes, Query, Reason, Scores

NAME: Final = "search_words"
TEXT_ONLY: Final = np.float32(0.7)
"""What the words of a name are worth on an item that lies on none of the name's shelves."""

SHELF_ONLY: Final = np.float32(0.8)
"""What lying on a shelf of a name is worth where the text has none of its words."""

LEAST_WEIGHT: Final = 0.4
"""What the commonest part of a search weighs; the rarest weighs 1."""

UNKNOWN_WEIGHT: Final = 0.5
"""What a part weighs that nothing in the shop has."""

HEAD: Final = 1.3
"""The last part says what a thing is, in both languages: chocolate milk is milk."""

COMMON: Final = 20_000
"""Of a part that more items have the best sellers are brought where another part is rarer.

What is brought otherwise, and what others bring, is rated by all of its parts all the same.
"""

PAIR: Final = 0.5
PRIOR: Final = np.float32(0.03)
"""What selling best is worth beside having all of a search, so that equals are told apart."""


@dataclass(frozen=True, slots=True)
class SearchWords:
    """Finds by words and names. `prior` is from 0 to 1 by how an item sells, shape (items,).

    Of what came after the training it cannot tell, which is NaN.
    """

    reader: QueryReader
    attributes: Attributes
    shelves: Shelves
    prior: Scores
    name: str = NAME

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items that have most of the search; nothing where none has a word of it."""
        parts = self._having_of(self.reader.read(query.request.query).parts)
        if not any(len(part.items) for part in parts):
            return NOTHING
        num_items = len(self.attributes)

        def rate(items: Indexes) -> Scores:
            is_known = items < num_items
            known = np.where(is_known, items, 0)
            return np.where(is_known, self._shares(parts, known), np.float32(np.nan))

        if not limit:
            return Found(NO_ITEMS, NO_SCORES, rate)
        items, shares = self._brought(parts)
        found = top_allowed(query, items, shares, limit)
        return Found(found.items, found.scores, rate)

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """What was searched for."""
        return [Reason("for_search", {"query": shown(query)})] * len(items)

    def _having_of(self, parts: tuple[Part, ...]) -> "list[_Having]":
        """All that have each part, and the share of the search that it is."""
        if not parts:
            return []
        head = next((part for part in reversed(parts) if not part.is_pair), parts[-1])
        found = [self._degrees(part) for part in parts]
        weights = [
            self._weight(part, len(items)) * (HEAD if part is head else 1.0)
            for part, (items, _) in zip(parts, found, strict=True)
        ]
        total = sum(weights)
        return [
            _Having(items, degrees, np.float32(weight / total))
            for (items, degrees), weight in zip(found, weights, strict=True)
        ]

    def _brought(self, parts: "list[_Having]") -> tuple[Indexes, Scores]:
        """The items to choose from, sorted, and how much of the search each has, up to 1."""
        sizes = [len(part.items) for part in parts]
        if max(sizes) > COMMON and any(0 < size <= COMMON for size in sizes):
            brought = distinct(*map(self._best_sellers, parts))
            parts = [part if len(part.items) <= COMMON else part.among(brought) for part in parts]
        items = np.concatenate([part.items for part in parts])
        having, shares = sums(items, np.concatenate([part.degrees * part.weight for part in parts]))
        return having, (1 - PRIOR) * shares + PRIOR * self.prior[having]

    def _best_sellers(self, part: "_Having") -> Indexes:
        """At most COMMON of the items that have a part."""
        items = part.items
        if len(items) <= COMMON:
            return items
        return items[highest(items, self.prior.take(items), COMMON)]

    def _shares(self, parts: "list[_Having]", items: Indexes) -> Scores:
        """How much of the search each item has, up to 1; 0 for nothing of it."""
        shares = np.zeros(len(items), np.float32)
        for part in parts:
            shares += part.degrees_of(items) * part.weight
        return np.where(shares > 0, (1 - PRIOR) * shares + PRIOR * self.prior[items], shares)

    def _degrees(self, part: Part) -> tuple[Indexes, Scores]:
        """The items that have a part, sorted, and how far each has it, up to 1."""
        postings = [some for phrase in part.phrases if len(some := self._having(phrase))]
        texts = postings[0] if len(postings) == 1 else distinct(*postings)
        if not part.is_named:
            return texts, np.ones(len(texts), np.float32)
        named = distinct(
            *map(self._below, part.paths),
            *map(self._of_brand, part.brands),
            *(items_having(self.attributes.tags, tag) for tag in part.tags),
        )
        items = distinct(texts, named)
        said = np.maximum(contains(texts, items), self._share_of_words(part, items))
        degrees = np.where(contains(named, items), SHELF_ONLY + (1 - SHELF_ONLY) * said, TEXT_ONLY)
        return items, degrees

    def _share_of_words(self, part: Part, items: Indexes) -> Scores:
        """Of how many of the words of a part each item has one in its texts, from 0 to 1."""
        words = part.phrases[0].split()
        held = [contains(self._having(word), items) for word in words]
        share: Scores = np.mean(held, axis=0, dtype=np.float32)
        return share

    def _below(self, path: str) -> Indexes:
        """The items on a shelf and below it that are sold."""
        nodes = self.attributes.subtree(path)
        if nodes is None:
            return NO_ITEMS
        first, end = self.shelves.starts[nodes[0]], self.shelves.starts[nodes[1]]
        return self.shelves.order[first:end]

    def _of_brand(self, brand: str) -> Indexes:
        place = bisect_left(self.attributes.brands, brand)
        if place == len(self.attributes.brands) or self.attributes.brands[place] != brand:
            return NO_ITEMS
        return np.flatnonzero(self.attributes.brand == place).astype(np.int32)

    def _having(self, phrase: str) -> Indexes:
        """The items in whose texts a phrase stands."""
        text, terms = self.attributes.text, terms_of_phrase(phrase)
        if text is None or not terms:
            return NO_ITEMS
        found = items_having(text, terms[0])
        for term in terms[1:]:
            found = np.intersect1d(found, items_having(text, term), assume_unique=True)
        return found

    def _weight(self, part: Part, num_having: int) -> float:
        """What a part weighs by how many items have it: its idf as a share of the most."""
        if part.is_pair:
            return PAIR if num_having else 0.0
        if not num_having:
            return UNKNOWN_WEIGHT
        num_items = len(self.attributes)
        idf = np.log1p((num_items - num_having + 0.5) / (num_having + 0.5))
        return LEAST_WEIGHT + (1 - LEAST_WEIGHT) * float(idf / np.log1p(2.0 * num_items))


@dataclass(frozen=True, slots=True)
class _Having:
    """Items that have a part, sorted, how far each has it, and the part's share of the search."""

    items: Indexes
    degrees: Scores
    weight: np.float32

    def degrees_of(self, items: Indexes) -> Scores:
        """How far each of these items has the part, 0 for not at all."""
        if not len(self.items):
            return np.zeros(len(items), np.float32)
        place = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        return np.where(self.items[place] == items, self.degrees[place], np.float32(0))

    def among(self, items: Indexes) -> "_Having":
        """The part on these sorted items alone."""
        degrees = self.degrees_of(items)
        has = degrees > 0
        return _Having(items[has], degrees[has], self.weight)


def items_having(words: Words, word: str) -> Indexes:
    """The sorted items that have a word; none for one that there is not."""
    place = bisect_left(words.words, word)
    if place == len(words.words) or words.words[place] != word:
        return NO_ITEMS
    return words.having(place)
