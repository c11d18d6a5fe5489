"""The source of what has the words of a search, or is what they are a name of.

An item's score is the share of the search that it has: of its parts, each by how rare it is. It
looks into the terms that filters use and the shelves of the category tree.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_store.language.words import terms_of_phrase
from online.offering.attributes import Attributes, Words
from online.search.reading import Part, QueryReader
from online.search.relevance import shown
from online.stages.browsing import Shelves
from online.stages.vectors import top_allowed
from online.types import NO_ITEMS, NO_SCORES, NOTHING, Found, Indexes, Query, Reason, Scores

NAME: Final = "search_words"
TEXT_ONLY: Final = np.float32(0.7)
"""What the words of a name are worth on an item that lies on none of the name's shelves."""

LEAST_WEIGHT: Final = 0.4
"""What the commonest part of a search weighs; the rarest weighs 1."""

UNKNOWN_WEIGHT: Final = 0.5
"""What a part weighs that nothing in the shop has."""

HEAD: Final = 1.3
"""The last part says what a thing is, in both languages: chocolate milk is milk."""

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
        parts = self.reader.read(query.request.query).parts
        shares = self._shares(parts) if parts else NO_SCORES
        num_items = len(shares)
        if not shares.any():
            return NOTHING

        def rate(items: Indexes) -> Scores:
            rated: Scores = shares[np.minimum(items, num_items - 1)]
            return np.where(items < num_items, rated, np.float32(np.nan))

        if not limit:
            return Found(NO_ITEMS, NO_SCORES, rate)
        items = np.flatnonzero(shares).astype(np.int32)
        found = top_allowed(query, items, shares[items], limit)
        return Found(found.items, found.scores, rate)

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """What was searched for."""
        return [Reason("for_search", {"query": shown(query)})] * len(items)

    def _shares(self, parts: tuple[Part, ...]) -> Scores:
        """How much of the search each item has, from 0 to 1; shape (items,)."""
        total = np.zeros(len(self.attributes), np.float32)
        head = next((part for part in reversed(parts) if not part.is_pair), parts[-1])
        sum_weights = 0.0
        for part in parts:
            degree = self._degrees(part)
            num_having = int(np.count_nonzero(degree))
            if part.is_pair:
                total += np.float32(PAIR) * degree
                sum_weights += PAIR if num_having else 0.0
                continue
            weight = self._weight(num_having) * (HEAD if part is head else 1.0)
            total += np.float32(weight) * degree
            sum_weights += weight
        total /= np.float32(sum_weights)
        having = total > 0
        total[having] = (1 - PRIOR) * total[having] + PRIOR * self.prior[having]
        return total

    def _degrees(self, part: Part) -> Scores:
        """How far each item has a part, from 0 to 1; shape (items,)."""
        degree = np.zeros(len(self.attributes), np.float32)
        for phrase in part.phrases:
            degree[self._having(phrase)] = TEXT_ONLY if part.is_named else np.float32(1)
        for path in part.paths:
            nodes = self.attributes.subtree(path)
            if nodes is not None:
                first, end = self.shelves.starts[nodes[0]], self.shelves.starts[nodes[1]]
                degree[self.shelves.order[first:end]] = 1
        for brand in part.brands:
            place = bisect_left(self.attributes.brands, brand)
            if place < len(self.attributes.brands) and self.attributes.brands[place] == brand:
                degree[self.attributes.brand == place] = 1
        for tag in part.tags:
            degree[items_having(self.attributes.tags, tag)] = 1
        return degree

    def _having(self, phrase: str) -> Indexes:
        """The items in whose texts a phrase stands."""
        text, terms = self.attributes.text, terms_of_phrase(phrase)
        if text is None or not terms:
            return NO_ITEMS
        found = items_having(text, terms[0])
        for term in terms[1:]:
            found = np.intersect1d(found, items_having(text, term), assume_unique=True)
        return found

    def _weight(self, num_having: int) -> float:
        """What a part weighs by how many items have it: its idf as a share of the most."""
        if not num_having:
            return UNKNOWN_WEIGHT
        num_items = len(self.attributes)
        idf = np.log1p((num_items - num_having + 0.5) / (num_having + 0.5))
        return LEAST_WEIGHT + (1 - LEAST_WEIGHT) * float(idf / np.log1p(2.0 * num_items))


def items_having(words: Words, word: str) -> Indexes:
    """The sorted items that have a word; none for one that there is not."""
    place = bisect_left(words.words, word)
    if place == len(words.words) or words.words[place] != word:
        return NO_ITEMS
    return words.having(place)
