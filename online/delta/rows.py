"""The columns of new products, written into the room of a bundle: borrowed from their neighbours.

What a product is like is borrowed as a mean over its neighbours, what it is (a type, a row of
another table) from the nearest one; its price, age, brand and category are its own. Readers are
told of a row after it was written. It knows columns, and no request.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.language.products import VECTORS
from feature_store.ranking import GROUPS, ITEM_FEATURES, PRICE_FLOOR
from online.catalog import Catalog
from online.delta.products import Product
from online.errors import SnapshotError
from online.offering.attributes import Attributes
from online.placements import POPULAR_LISTS
from online.types import Indexes, Scores

MEANS: Final = ("als/vectors", "als_similar/vectors", "ranking/values", "affinity/appeal")
DIRECTIONS: Final = ("als_similar/vectors",)
"""Their rows have length 1."""

NEAREST: Final = ("linear/row", "ranking/groups", "attributes/path")
NEIGHBOUR_LISTS: Final = ("bought_with/ends", "also_bought/ends")
PRICE: Final = ITEM_FEATURES.index("price_log")
BRAND: Final = GROUPS.index("brand")


@dataclass(frozen=True, slots=True, eq=False)
class NewRow:
    """A new product, its row in the room, and its neighbours in the bundle with their weights.

    `vector` is what its text means, with no entries where there is no telling.
    """

    row: int
    product: Product
    neighbours: Indexes
    weights: Scores
    vector: NDArray[np.float32]


@dataclass(slots=True)
class RowWriter:
    """Writes rows into the room of one bundle. One thread at a time."""

    bundle: Bundle
    catalog: Catalog
    attributes: Attributes
    _brands: dict[str, int] = field(default_factory=dict)

    def write(self, new: Sequence[NewRow]) -> None:
        """Write all columns that were opened with room."""
        for one in new:
            for name in MEANS:
                self._write_mean(name, one)
            for name in NEAREST:
                self._set(name, one.row, self._kept(name)[one.neighbours[0]])
            self._write_own(one)
            for name in POPULAR_LISTS:
                self._set(f"{name}/rank", one.row, len(self.bundle.array(f"{name}/order")))
            for name in NEIGHBOUR_LISTS:
                self._set(name, one.row, self._kept(name)[-1])

    def _write_mean(self, name: str, one: NewRow) -> None:
        mean = one.weights @ self._kept(name)[one.neighbours]
        if name in DIRECTIONS:
            mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
        self._set(name, one.row, mean)

    def _write_own(self, one: NewRow) -> None:
        product, row = one.product, one.row
        nodes = self.attributes.subtree(product.category) if product.category else None
        if nodes is not None:
            self._set("attributes/path", row, nodes[0])
        brand = self._brand(product.brand)
        self._set("attributes/brand", row, brand)
        self._set("attributes/created_time", row, product.created_time)
        self._set("ranking/first_time", row, product.created_time)
        if not np.isnan(product.price):
            self._room("ranking/values")[row, PRICE] = np.log(product.price + PRICE_FLOOR)
        groups = self._room("ranking/groups")
        groups[row, BRAND] = self._brand_group(brand, int(groups[row, BRAND]))
        if len(one.vector) and VECTORS in self.bundle:
            self._set(VECTORS, row, one.vector)

    def _brand(self, name: str) -> int:
        """The number of a brand; one that the bundle lacks gets a number of its own."""
        brands = self.attributes.brands
        place = bisect_left(brands, name)
        if place < len(brands) and brands[place] == name:
            return place
        return self._brands.setdefault(name, len(brands) + len(self._brands))

    def _brand_group(self, brand: int, borrowed: int) -> int:
        """The ranker's code of a brand, from an item that has it; else the neighbour's."""
        same = np.flatnonzero(self.attributes.brand == brand)
        return int(self._kept("ranking/groups")[same[0], BRAND]) if len(same) else borrowed

    def _kept(self, name: str) -> NDArray[Any]:
        """A column, by the items of the bundle."""
        return self.bundle.column(name)[: len(self.attributes)]

    def _room(self, name: str) -> NDArray[Any]:
        """The rows behind a column, which is opened for that; there is room when this is asked."""
        self.bundle.column(name)
        if self.bundle.room is None:
            raise SnapshotError(f"bundle {self.bundle.directory} was opened without room")
        return self.bundle.room.tail(name)

    def _set(self, name: str, row: int, value: object) -> None:
        self._room(name)[row] = value
