"""What a query may show: compiled once, searched inside by the sources, checked by a filter.

An allowed set is one bit an item, so that a million items cost 125 kB, and beside it the
indexes where they are few. It knows item indexes, and not why an item is allowed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from online.offering.offer import AllowedSet
from online.types import Candidates, Indexes, Mask, Query

FEW_ITEMS: Final = 20_000
"""Up to so many items are kept as indexes too, and searched one by one."""


def allowed_where(mask: Mask) -> AllowedSet:
    """The set of the items where `mask`, one entry an item, is true."""
    size = int(np.count_nonzero(mask))
    few = np.flatnonzero(mask).astype(np.int32) if size <= FEW_ITEMS else None
    return AllowedSet(np.packbits(mask, bitorder="little"), len(mask), size, few)


def mask_of(allowed: AllowedSet) -> Mask:
    """One entry an item, True where it is allowed."""
    return np.unpackbits(allowed.bits, count=allowed.num_items, bitorder="little").view(bool)


def mask_of_items(items: Iterable[int] | Indexes, num_items: int) -> Mask:
    """One entry an item, True for the indexes given; those below 0 are no items."""
    indexes = np.fromiter(items, np.int64)
    mask = np.zeros(num_items, bool)
    mask[indexes[indexes >= 0]] = True
    return mask


def contains(sorted_items: Indexes, items: Indexes) -> Mask:
    """Which of `items` are among `sorted_items`, shape of `items`."""
    if not len(sorted_items):
        return np.zeros(len(items), bool)
    mask: Mask = sorted_items.take(sorted_items.searchsorted(items), mode="clip") == items
    return mask


def holds(allowed: AllowedSet, items: Indexes) -> Mask:
    """Which of `items` are in the set, shape of `items`."""
    if allowed.mask is not None:
        return allowed.mask.take(items)
    mask: Mask = (allowed.bits[items >> 3] >> (items & 7).astype(np.uint8)) & 1 != 0
    return mask


def allows(query: Query, items: Indexes) -> Mask:
    """Which of `items` the query may show."""
    mask, blocked = holds(query.allowed, items), query.blocked
    if len(blocked):
        mask &= blocked.take(blocked.searchsorted(items), mode="clip") != items
    if query.only is not None:
        mask &= contains(query.only, items)
    return mask


def few_allowed(query: Query) -> Indexes | None:
    """All items that the query may show, sorted, where they are few; else None."""
    items = query.allowed.few if query.only is None else query.only
    return None if items is None else items[allows(query, items)]


@dataclass(frozen=True, slots=True)
class AllowedFilter:
    """Removes what the query may not show, whatever a source brought."""

    name: str = "filter.allowed"

    def keep(self, query: Query, candidates: Candidates) -> NDArray[np.bool_]:
        """True for the candidates that the query allows."""
        return allows(query, candidates.items)
