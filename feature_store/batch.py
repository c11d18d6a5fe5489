"""Events as columns, and rows of several owners in one array: cut, joined, grouped.

It knows layouts, and not what an event does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of several users as columns of one length.

    `owner` is the position of the event's user in the batch of states, `event` and `basket`
    and `item` are 64-bit keys (`feature_store.ids.hash64`), 0 for an item or basket that the
    event does not have.
    """

    owner: NDArray[np.int64]
    time: NDArray[np.int64]
    event: NDArray[np.uint64]
    item: NDArray[np.uint64]
    kind: NDArray[np.int16]
    corpus: NDArray[np.int16]
    quantity: NDArray[np.float32]
    price: NDArray[np.float32]
    basket: NDArray[np.uint64]

    def __len__(self) -> int:
        """The number of events."""
        return len(self.time)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "EventBatch":
        """The events at these positions, or where this mask is true."""
        return EventBatch(*(getattr(self, field.name)[rows] for field in fields(self)))


Owned = tuple[NDArray[np.int64], NDArray[Any]]
"""The owner of each row, and the rows."""


def gather(parts: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> Owned:
    """Arrays of several owners end to end, beside the owner of each row."""
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return owner, join(parts, dtype)


def join(parts: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Arrays end to end; `np.concatenate` would compare the fields of each with the next."""
    return np.frombuffer(bytearray().join([part.data for part in parts if len(part)]), dtype)


def split(owner: NDArray[np.int64], rows: NDArray[Any], num: int) -> list[NDArray[Any]]:
    """The inverse of `gather`, for rows sorted by owner."""
    ends = np.searchsorted(owner, np.arange(1, num + 1))
    starts = np.concatenate(([0], ends[:-1]))
    return [rows[start:end] for start, end in zip(starts, ends, strict=True)]


def group_starts(*sorted_columns: NDArray[np.generic]) -> NDArray[np.intp]:
    """Where a new combination of values begins, in columns sorted together."""
    changed = np.zeros(len(sorted_columns[0]), bool)
    changed[:1] = True
    for column in sorted_columns:
        changed[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changed)


def keep_last(owner: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
    """True for the last `limit` rows of each owner, `owner` being sorted."""
    end = np.searchsorted(owner, owner, side="right")
    return end - np.arange(len(owner)) <= limit
