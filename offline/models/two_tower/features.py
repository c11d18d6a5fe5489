"""What an item is like, as hashed features: category path, brand, price band, name and its words.

Its id is a feature too, for items that somebody bought. The others share a fixed number of
buckets, so that a product that comes tomorrow has a vector without training again. The words are
those of `feature_store.two_tower`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.two_tower import buckets_of, item_words
from offline.models.two_tower.data import Ragged, ragged

MIN_ITEMS: Final = 3


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

    def words(self, item: int) -> list[str]:
        """The features of an item in words, each once, sorted."""
        about = self.category[item], self.brand[item], self.title[item]
        return sorted(item_words(*about, float(self.price[item])))


def describe(facts: ItemFacts, num_buckets: int, is_known: NDArray[np.bool_]) -> Ragged:
    """Features of each item: its number where `is_known` (items,), and buckets above those.

    Ids below the number of items are the items' own. Weights are 1 for the item's own id, and
    squared together 1 for the others. What fewer than MIN_ITEMS known items share is left out: it
    would stand for those items, and tell a new one nothing.
    """
    words = [facts.words(item) for item in range(len(facts))]
    buckets = buckets_of([word for row in words for word in row], num_buckets) + len(facts)
    owner = np.repeat(np.arange(len(facts)), [len(row) for row in words])
    support = np.bincount(buckets[is_known[owner]], minlength=len(facts) + num_buckets)
    shared_by_many = support[buckets] >= MIN_ITEMS
    buckets, owner = buckets[shared_by_many], owner[shared_by_many]
    own = np.flatnonzero(is_known)
    shared = (1 / np.sqrt(np.maximum(np.bincount(owner, minlength=len(facts)), 1)))[owner]
    weights = np.concatenate([np.ones(len(own)), shared]).astype(np.float32)
    rows, ids = np.concatenate([own, owner]), np.concatenate([own, buckets])
    return ragged(rows, ids, len(facts), weights)
