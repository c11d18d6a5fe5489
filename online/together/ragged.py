"""Short lists of many owners, laid end to end: where each begins, and its highest entries.

What NumPy does to one long column it does to all owners at once; only what has to be sorted out
by owner is done in a loop, over as little as possible. It knows arrays only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.state import Rows

MAX_BITS: Final = 63

Indexes = NDArray[np.int32]
Scores = NDArray[np.float32]
Places = NDArray[np.intp]
Keys = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """Item indexes of several owners; those of owner n lie from `starts[n]` to `starts[n + 1]`.

    `owner` is the owner's number of each entry, ascending, shape (entries,).
    """

    items: Indexes
    owner: Places
    starts: Places

    def of(self, number: int) -> Indexes:
        """The entries of one owner."""
        return self.items[self.starts[number] : self.starts[number + 1]]

    @property
    def lengths(self) -> Places:
        """How many entries each owner has, shape (owners,)."""
        return np.diff(self.starts)


def starts_of(owner: Places, num_owners: int) -> Places:
    """Where the entries of each owner begin, and last where all end; shape (owners + 1,)."""
    starts = np.zeros(num_owners + 1, np.intp)
    np.cumsum(np.bincount(owner, minlength=num_owners), out=starts[1:])
    return starts


def lists(items: Indexes, owner: Places, num_owners: int) -> Lists:
    """Entries in the order of their owners."""
    return Lists(items, owner, starts_of(owner, num_owners))


def distinct_lists(keys: Keys, num_items: int, num_owners: int) -> Lists:
    """Each owner's items once, sorted, from keys owner * num_items + item in any order."""
    keys = np.sort(keys)
    if len(keys) > 1:
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    owner = keys // num_items
    return lists((keys - owner * num_items).astype(np.int32), owner, num_owners)


def stretches(first: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each of `first` on, as many as `lengths` says, end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: NDArray[np.int64] = np.arange(total) + np.repeat(first - (ends - lengths), lengths)
    return numbers


def joined_rows(parts: Sequence[Rows], dtype: np.dtype[np.void]) -> tuple[Rows, Places, Places]:
    """One array of all parts end to end, where each begins, and whose each row is."""
    lengths = np.fromiter(map(len, parts), np.intp, len(parts))
    rows = np.frombuffer(b"".join([one.tobytes() for one in parts]), dtype)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return rows, starts, np.repeat(np.arange(len(parts)), lengths)


def places_in(sorted_keys: Keys, keys: Keys) -> tuple[Places, NDArray[np.bool_]]:
    """Where each of `keys` is in `sorted_keys`, and whether it is there; both sorted."""
    place, known = np.zeros(len(keys), np.intp), np.zeros(len(keys), bool)
    found = np.searchsorted(keys, sorted_keys)
    inside = found < len(keys)
    hit = np.flatnonzero(inside)[keys[found[inside]] == sorted_keys[inside]]
    place[found[hit]], known[found[hit]] = hit, True
    return place, known


def places_among(sorted_keys: Keys, keys: Keys) -> Places:
    """Where those of `keys` that are in `sorted_keys` stand there; in the order of `keys`."""
    if not len(sorted_keys):
        return np.zeros(0, np.intp)
    place = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    found: Places = place[sorted_keys[place] == keys]
    return found


def sortable(owner: Places, scores: Scores, tie: NDArray[np.integer], num_ties: int) -> Keys:
    """One number for each entry that sorts by owner, then by falling score, then by `tie`.

    `tie` is from 0 to below `num_ties`. A float's bits, read as a whole number, have the order of
    the float itself once those of a negative one are turned around. Where 63 bits are not enough
    the numbers are ranks, found by slower sorting.
    """
    num_bits = [int(owner.max(initial=0)).bit_length(), 32, (num_ties - 1).bit_length()]
    if sum(num_bits) > MAX_BITS:
        order = np.lexsort((tie, -scores, owner))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return ranks
    falling = (np.float32(0.0) - scores).view(np.int32).astype(np.int64)
    falling ^= (falling >> 31) & 0x7FFFFFFF
    falling += 1 << 31
    keys: Keys = (owner.astype(np.int64) << 32 | falling) << num_bits[2] | tie
    return keys


def highest_of_each(
    starts: Places, items: Indexes, scores: Scores, limits: Places, num_items: int
) -> Places:
    """Places of each owner's highest scores, at most `limits[owner]`, ascending.

    Ties go to the lower item, as in `online.columns.highest`.
    """
    lengths = np.diff(starts)
    long = lengths > limits
    if not long.any():
        return np.arange(len(items))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    some = np.flatnonzero(long[owner])
    keys = sortable(owner[some], scores[some], items[some], num_items)
    ordered = np.sort(keys)
    ends = np.cumsum(lengths[long]) - lengths[long] + limits[long] - 1
    last = np.zeros(len(lengths), np.int64)
    last[long] = ordered[ends]
    kept = np.ones(len(items), bool)
    kept[some] = keys <= last[owner[some]]
    return np.flatnonzero(kept)
