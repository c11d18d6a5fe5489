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
from feature_store.two_tower import LENGTH, SALIENCE, has_two_tower
from feature_store.two_tower import VECTORS as TOWER_VECTORS
from online.catalog import Catalog
from online.delta.products import Product
from online.delta.towers import ItemTower, open_item_tower
from online.errors import SnapshotError
from online.offering.attributes import Attributes
from online.placements import POPULAR_LISTS
from online.types import Indexes, Scores

MEANS: Final = ("als/vectors", "als_similar/vectors", "ranking/values", "affinity/appeal")
DIRECTIONS: Final = ("als_similar/vectors",)
"""Their rows have length 1."""

NEAREST: Final = ("linear/row", "ranking/groups", "attributes/path")
NEIGHBOUR_LISTS: Final = ("bought_with/ends", "also_bought/ends", "transitions/ends")
PRICE: Final = ITEM_FEATURES.index("price_log")
BRAND: Final = GROUPS.index("brand")
UNKNOWN: Final = -1
ROWS_AT_ONCE: Final = 1_024


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
    _same: dict[str, int] = field(default_factory=dict)
    _groups: dict[int, int] = field(default_factory=dict)
    _tower: ItemTower | None = field(init=False)

    def __post_init__(self) -> None:
        """Open the item tower, where the bundle has one."""
        self._tower = open_item_tower(self.bundle)

    def write(self, new: Sequence[NewRow]) -> None:
        """Write all columns that are looked up by item, some rows at a time."""
        for start in range(0, len(new), ROWS_AT_ONCE):
            some = new[start : start + ROWS_AT_ONCE]
            rows = np.array([one.row for one in some], np.intp)
            nearest = np.array([one.neighbours[0] for one in some], np.intp)
            neighbours, weights = _matrix(some)
            for name in MEANS:
                mean = np.einsum("kn,kn...->k...", weights, self._kept(name)[neighbours])
                if name in DIRECTIONS:
                    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
                self._room(name)[rows] = mean
            for name in NEAREST:
                self._room(name)[rows] = self._kept(name)[nearest]
            for name, value in self._constants().items():
                self._room(name)[rows] = value
            for one in some:
                self._write_own(one)
                if has_two_tower(self.bundle):
                    self._write_tower(one)

    def _write_tower(self, one: NewRow) -> None:
        """What the item tower makes of it; where that knows nothing of it, its neighbours' mean."""
        found = None if self._tower is None else self._tower.embed(one.product)
        if found is None:
            vectors, lengths, salience = (
                self._kept(name)[one.neighbours] for name in (TOWER_VECTORS, LENGTH, SALIENCE)
            )
            found = (one.weights * lengths) @ vectors, float(one.weights @ salience)
        vector, weight = found
        length = max(float(np.linalg.norm(vector)), 1e-12)
        self._set(TOWER_VECTORS, one.row, vector / length)
        self._set(LENGTH, one.row, length)
        self._set(SALIENCE, one.row, weight)

    def _constants(self) -> dict[str, int]:
        """What is the same for all: on no list of what sells, no neighbours of purchases."""
        if not self._same:
            for name in POPULAR_LISTS:
                self._same[f"{name}/rank"] = len(self.bundle.array(f"{name}/order"))
            for name in (one for one in NEIGHBOUR_LISTS if one in self.bundle):
                self._same[name] = int(self._kept(name)[-1])
        return self._same

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
        if brand not in self._groups:
            same = np.flatnonzero(self.attributes.brand == brand)
            code = int(self._kept("ranking/groups")[same[0], BRAND]) if len(same) else UNKNOWN
            self._groups[brand] = code
        code = self._groups[brand]
        return borrowed if code == UNKNOWN else code

    def _kept(self, name: str) -> NDArray[Any]:
        """A column, by the items of the bundle."""
        return self.bundle.column(name)[: len(self.attributes)]

    def _room(self, name: str) -> NDArray[Any]:
        """The rows behind a column, which is opened for that; there is room when this is asked."""
        room = self.bundle.room
        if room is None:
            raise SnapshotError(f"bundle {self.bundle.directory} was opened without room")
        if name not in room:
            self.bundle.column(name)
        return room.tail(name)

    def _set(self, name: str, row: int, value: object) -> None:
        self._room(name)[row] = value


def _matrix(new: Sequence[NewRow]) -> tuple[NDArray[np.intp], Scores]:
    """The neighbours of each and their weights, shape (new, most of them); 0 for none."""
    most = max(len(one.neighbours) for one in new)
    neighbours = np.zeros((len(new), most), np.intp)
    weights = np.zeros((len(new), most), np.float32)
    for place, one in enumerate(new):
        neighbours[place, : len(one.neighbours)] = one.neighbours
        weights[place, : len(one.weights)] = one.weights
    return neighbours, weights
