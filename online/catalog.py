"""The items of a bundle as columns: ids, keys, and what a page shows of them.

Item indexes follow the order of the ids, so that a tie broken by index is broken by id.
Knows nothing of users or models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle, StringTable
from feature_store.ids import hash64_many
from online.types import NO_ITEMS, Indexes

NO_KEYS: Final = np.zeros(0, np.uint64)


class GrownTexts(StringTable):
    """Texts of a bundle, some of them changed, and those of items that came after it."""

    def __init__(self, table: StringTable, changed: Mapping[int, str], more: Sequence[str]) -> None:
        """`changed` by index, `more` those that follow; neither is changed afterwards."""
        self._table, self._changed, self._more = table, changed, more
        self._num_kept = len(table)

    def __len__(self) -> int:
        """The number of strings."""
        return self._num_kept + len(self._more)

    def __getitem__(self, position: int) -> str:
        """String number `position`, counted from 0."""
        if position >= self._num_kept:
            return self._more[position - self._num_kept]
        text = self._changed.get(position)
        return self._table[position] if text is None else text


@dataclass(frozen=True, slots=True)
class Catalog:
    """Item columns of one bundle, memory-mapped; all have one entry an item.

    `price` is NaN where unknown. `sorted_keys` are the items' 64-bit keys in ascending order
    and `sorted_index` the index of each; `more_keys` and `more_index` those of items that came
    after the bundle.
    """

    ids: StringTable
    title: StringTable
    category: StringTable
    brand: StringTable
    image_url: StringTable
    url: StringTable
    price: NDArray[np.float32]
    available: NDArray[np.bool_]
    sorted_keys: NDArray[np.uint64]
    sorted_index: Indexes
    more_keys: NDArray[np.uint64] = field(default_factory=lambda: NO_KEYS)
    more_index: Indexes = field(default_factory=lambda: NO_ITEMS)

    def __len__(self) -> int:
        """The number of items."""
        return len(self.ids)

    def indexes_of_keys(self, keys: NDArray[np.uint64]) -> Indexes:
        """The index of each key, -1 where the bundle has no such item; shape (n,)."""
        if not len(keys):
            return np.zeros(0, np.int32)
        place = self.sorted_keys.searchsorted(keys)
        np.minimum(place, len(self.sorted_keys) - 1, out=place)
        found = self.sorted_index.take(place)
        found[self.sorted_keys.take(place) != keys] = -1
        return self._with_more(keys, found) if len(self.more_keys) else found

    def indexes_of(self, ids: Sequence[str]) -> Indexes:
        """The index of each id, -1 where the bundle has no such item; shape (n,)."""
        if not ids:
            return np.zeros(0, np.int32)
        return self.indexes_of_keys(hash64_many(ids))

    def _with_more(self, keys: NDArray[np.uint64], found: Indexes) -> Indexes:
        place = np.minimum(self.more_keys.searchsorted(keys), len(self.more_keys) - 1)
        return np.where(self.more_keys[place] == keys, self.more_index[place], found)


def open_catalog(bundle: Bundle) -> Catalog:
    """The item columns of an opened bundle."""
    return Catalog(
        ids=bundle.strings("items/id"),
        title=bundle.strings("items/title"),
        category=bundle.strings("items/category"),
        brand=bundle.strings("items/brand"),
        image_url=bundle.strings("items/image_url"),
        url=bundle.strings("items/url"),
        price=bundle.array("items/price"),
        available=bundle.array("items/available"),
        sorted_keys=bundle.array("items/sorted_keys"),
        sorted_index=bundle.array("items/sorted_index"),
    )
