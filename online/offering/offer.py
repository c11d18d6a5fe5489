"""What a request may be shown and what the shop wants shown: sets of items and orders of the shop.

Plain values, compiled before the pipeline runs. They know item indexes, and neither users nor
the texts that they were compiled from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class AllowedSet:
    """Some of the items of a bundle, made by `online.allowed`; one object for each distinct set.

    `bits` has one bit an item, the lowest first, `size` is how many are set, and `few` holds
    their indexes, sorted, where they are few. `mask`, one entry an item, is kept for sets that are
    asked for all the time; None: it is not.
    """

    bits: NDArray[np.uint8]
    num_items: int
    size: int
    few: NDArray[np.int32] | None
    mask: NDArray[np.bool_] | None = None

    @property
    def share(self) -> float:
        """The share of all items that are in it."""
        return self.size / self.num_items


@dataclass(frozen=True, slots=True)
class Pin:
    """An item that belongs on one slot, counted from 0."""

    slot: int
    item: int


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """At most `count` items of each group; `group` is the group of each item, -1 for none.

    A firm one holds whatever becomes of the slate; another gives way where it would be short.
    """

    name: str
    group: NDArray[np.int32]
    count: int
    is_firm: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Weighting:
    """Items whose scores are multiplied: above 1 they are boosted, below they are buried."""

    name: str
    items: AllowedSet
    factor: float


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What a sale is worth to the shop beside its probability, by exponents.

    `price` and `margin` have one entry an item, in units of what is usual in the shop, all
    above 0: 1 where it is not known. `created_time` is in microseconds UTC.
    """

    name: str
    price: NDArray[np.float32]
    margin: NDArray[np.float32]
    created_time: NDArray[np.int64]
    price_exponent: float
    margin_exponent: float
    freshness_exponent: float


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """What one placement offers at one time: what it sells there, and the rules that hold.

    `pins` has one entry a slot at most, by slot, and no item twice. `sold` is what may be shown
    before the request's own filter, which `allowed` has passed too.
    """

    allowed: AllowedSet
    sold: AllowedSet
    pins: tuple[Pin, ...] = ()
    caps: tuple[Cap, ...] = ()
    weightings: tuple[Weighting, ...] = ()
    objective: Objective | None = None
