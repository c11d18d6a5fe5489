"""The item tower for products that came after the training: what they are like, as vectors.

A product's own id says nothing yet; the sum over what it shares with products that were learned
from does. A product that shares nothing with any has no vector of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.two_tower import (
    BUCKET_SALIENCE,
    BUCKET_VECTORS,
    BUCKETS,
    SETTINGS,
    buckets_of,
    has_two_tower,
    item_words,
)
from online.delta.products import Product


@dataclass(frozen=True, slots=True)
class ItemTower:
    """The features that items share: `buckets`, ascending, with a vector and log weight each."""

    buckets: NDArray[np.int64]
    vectors: NDArray[np.float32]
    salience: NDArray[np.float32]
    num_buckets: int

    def embed(self, product: Product) -> tuple[NDArray[np.float32], float] | None:
        """Its raw vector (d,) and its log weight in a history; None where nothing is known."""
        about = product.category, product.brand, product.title, product.price
        wanted = buckets_of(sorted(item_words(*about)), self.num_buckets)
        place = np.minimum(np.searchsorted(self.buckets, wanted), len(self.buckets) - 1)
        place = place[self.buckets[place] == wanted]
        if not len(place):
            return None
        weight = np.float32(1 / np.sqrt(len(place)))
        salience = float(weight * self.salience[place].sum())
        return weight * self.vectors[place].sum(axis=0), salience


def open_item_tower(bundle: Bundle) -> ItemTower | None:
    """That of a bundle; None where it has none, or its items share nothing."""
    if not has_two_tower(bundle):
        return None
    buckets = bundle.array(BUCKETS)
    if not len(buckets):
        return None
    return ItemTower(
        buckets,
        bundle.array(BUCKET_VECTORS),
        bundle.array(BUCKET_SALIENCE),
        bundle.json(SETTINGS)["num_buckets"],
    )
