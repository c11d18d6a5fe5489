"""What an item is like, as hashed features: category path, brand, price band, name and its words.

Its id is a feature too, for items that somebody bought. The others share a fixed number of
buckets, so that a product that comes tomorrow has a vector without training again. The first word
of a brand is taken for its label, such as that of all house brands.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.ids import hash64_many
from feature_store.schema import CATEGORY_SEPARATOR
from offline.models.two_tower.data import Ragged, ragged

BANDS_PER_DOUBLING: Final = 2
MIN_ITEMS: Final = 3
WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What the catalogue says of each item, one entry an item; a price of NaN is not known."""

    category: Sequence[str]
    brand: Sequence[str]
    title: Sequence[str]
    price: NDArray[np.float32]

    def __len__(self) -> int:
        """The number of items."""
        return len(self.category)

    def words(self, item: int) -> Iterator[str]:
        """The features of an item in words, each once."""
        levels = [level for level in self.category[item].split(CATEGORY_SEPARATOR) if level]
        for depth in range(len(levels)):
            yield f"category={CATEGORY_SEPARATOR.join(levels[: depth + 1])}"
        if self.brand[item]:
            yield f"brand={self.brand[item]}"
            label = self.brand[item].split()[0]
            yield f"label={label}"
            if levels:
                yield f"brand in category={self.brand[item]} {levels[-1]}"
                yield f"label in category={label} {self.category[item]}"
        price = float(self.price[item])
        if price > 0:
            yield f"price={math.floor(BANDS_PER_DOUBLING * math.log2(price))}"
        if self.title[item]:
            yield f"title={self.title[item]}"
        for word in sorted(set(WORD.findall(self.title[item].lower()))):
            yield f"word={word}"


def describe(facts: ItemFacts, num_buckets: int, is_known: NDArray[np.bool_]) -> Ragged:
    """Features of each item: its number where `is_known` (items,), and buckets above those.

    Ids below the number of items are the items' own. Weights are 1 for the item's own id, and
    squared together 1 for the others. What fewer than MIN_ITEMS known items share is left out: it
    would stand for those items, and tell a new one nothing.
    """
    words = [sorted(facts.words(item)) for item in range(len(facts))]
    flat = hash64_many([word for row in words for word in row])
    buckets = (flat % np.uint64(num_buckets)).astype(np.int64) + len(facts)
    owner = np.repeat(np.arange(len(facts)), [len(row) for row in words])
    support = np.bincount(buckets[is_known[owner]], minlength=len(facts) + num_buckets)
    shared_by_many = support[buckets] >= MIN_ITEMS
    buckets, owner = buckets[shared_by_many], owner[shared_by_many]
    own = np.flatnonzero(is_known)
    shared = (1 / np.sqrt(np.maximum(np.bincount(owner, minlength=len(facts)), 1)))[owner]
    weights = np.concatenate([np.ones(len(own)), shared]).astype(np.float32)
    rows, ids = np.concatenate([own, owner]), np.concatenate([own, buckets])
    return ragged(rows, ids, len(facts), weights)
