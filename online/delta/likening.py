"""Which products of the bundle a new one is most like: by what its text means, else by category.

Done once, by the process that takes a product in; the answer is kept with it in the catalogue's
log. It knows vectors and category paths, and nobody's purchases but through an item's appeal.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.catalog_log import Reading
from feature_store.errors import EncoderError
from feature_store.ids import hash64_many
from feature_store.language.encoder import TextEncoder
from feature_store.language.products import SPACE_FILE, VECTORS, product_text
from feature_store.schema import CATEGORY_SEPARATOR
from online.catalog import Catalog
from online.offering.attributes import Attributes
from online.types import Indexes, Scores

logger = logging.getLogger(__name__)

NUM_NEIGHBOURS: Final = 16
SHARPNESS: Final = 12.0
"""How much more a nearer neighbour counts: weights are exp(SHARPNESS * cosine), adding up to 1."""

SAME_CATEGORY: Final = 0.1
"""What the same category adds to a cosine."""

ROWS_AT_ONCE: Final = 8_192
TEXTS_AT_ONCE: Final = 32
"""Few texts at a time, so that other threads get their turn."""


@dataclass(frozen=True, slots=True)
class Likening:
    """Compares new products with those of one bundle."""

    bundle: Bundle
    catalog: Catalog
    attributes: Attributes
    encoder: TextEncoder

    def read(self, products: Sequence[tuple[str, str]]) -> list[Reading]:
        """What is read of each product, given by title and category."""
        paths = [self.node_of(category) for _, category in products]
        vectors = self._encode([product_text(*product) for product in products])
        if vectors is None:
            found = [self._by_category(path) for path in paths]
            return [self._reading("", vectors, *one) for one in found]
        nearest = self._nearest(vectors, np.array(paths, np.int32))
        return [
            self._reading(self.encoder.space, vector, *one)
            for vector, one in zip(vectors, nearest, strict=True)
        ]

    def node_of(self, category: str) -> int:
        """The deepest node of the bundle's tree that leads to a category, -1 for none."""
        levels = category.split(CATEGORY_SEPARATOR)
        for depth in range(len(levels), 0, -1):
            nodes = self.attributes.subtree(CATEGORY_SEPARATOR.join(levels[:depth]))
            if nodes is not None:
                return nodes[0]
        return -1

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """The vectors in the bundle's space; None when it has none, or the encoder is out."""
        if VECTORS not in self.bundle or self._space() != self.encoder.space:
            return None
        try:
            parts = [
                self.encoder.encode(texts[start : start + TEXTS_AT_ONCE])
                for start in range(0, len(texts), TEXTS_AT_ONCE)
            ]
        except EncoderError as error:
            logger.error("new products are compared by category only: %s", error)
            return None
        return np.concatenate(parts)

    def _space(self) -> str:
        return str(self.bundle.json(SPACE_FILE)["space"])

    def _nearest(
        self, vectors: NDArray[np.float32], paths: Indexes
    ) -> list[tuple[Indexes, Scores]]:
        """The nearest products of each vector and how near they are, some rows at a time."""
        kept, num_items = self.bundle.array(VECTORS), len(self.attributes)
        items = np.zeros((len(vectors), 0), np.int32)
        scores = np.zeros((len(vectors), 0), np.float32)
        for start in range(0, num_items, ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, num_items))
            near = vectors @ np.asarray(kept[rows], np.float32).T
            near += SAME_CATEGORY * (paths[:, None] == self.attributes.path[rows])
            few = min(NUM_NEIGHBOURS, near.shape[1])
            best = np.argpartition(-near, few - 1, axis=1)[:, :few]
            scores = np.concatenate((scores, np.take_along_axis(near, best, axis=1)), axis=1)
            items = np.concatenate((items, (start + best).astype(np.int32)), axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_NEIGHBOURS]
            scores = np.take_along_axis(scores, best, axis=1)
            items = np.take_along_axis(items, best, axis=1)
        return list(zip(items, scores, strict=True))

    def _by_category(self, path: int) -> tuple[Indexes, Scores]:
        """Those of the same category that draw most buyers, of all where it has none."""
        inside = np.flatnonzero(self.attributes.path == path)
        if not len(inside):
            inside = np.arange(len(self.attributes))
        appeal = self.bundle.array("affinity/appeal")[inside]
        best = inside[np.argsort(-appeal, kind="stable")[:NUM_NEIGHBOURS]]
        return best.astype(np.int32), np.zeros(len(best), np.float32)

    def _reading(
        self,
        space: str,
        vector: NDArray[np.float32] | None,
        items: Indexes,
        nearness: Scores,
    ) -> Reading:
        weights = np.exp(SHARPNESS * (nearness - nearness.max(initial=0.0)))
        keys = hash64_many([self.catalog.ids[item] for item in items.tolist()])
        nothing = np.zeros(0, np.float32)
        share = (weights / weights.sum()).astype(np.float32)
        return Reading(space, nothing if vector is None else vector, keys, share)
