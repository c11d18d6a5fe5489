"""What is known of one user: a few small record arrays, stored as one value.

One request reads one value, decodes it without copying and hands the arrays to
`feature_store.features`. The layout is data only; what the numbers mean and how events
change them is written there. `STATE_LAYOUT` is part of the store's key, so that two
bundles with different layouts can be served side by side, each with states of its own.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import StateFormatError

STATE_VERSION: Final = 1
"""To be raised when the same arrays come to mean something else."""

HALF_LIVES_DAYS: Final = (10.0, 30.0, 60.0, 90.0, 150.0, 270.0)

NO_TIME: Final = -(2**62)
"""Stands for 'never' where an instant is expected; older than any real one."""

Rows = NDArray[np.void]

ITEM_DTYPE: Final = np.dtype(
    [
        ("key", "<u8"),
        ("first_time", "<i8"),  # first and last purchase, NO_TIME when never bought
        ("last_time", "<i8"),
        ("engaged_time", "<i8"),  # last view, click, cart or read
        ("feedback_time", "<i8"),
        ("count", "<f4"),  # purchases
        ("decayed", "<f4", (len(HALF_LIVES_DAYS),)),  # purchases, decayed to last_time
        ("quantity", "<f4"),
        ("spend", "<f4"),
        ("engagement", "<f4"),  # weighted engagements, decayed to engaged_time
        ("feedback", "<i4"),  # 1 liked, -1 disliked or not interested, 0 none
    ]
)
"""One row for each item that the user ever dealt with, sorted by key."""

RECENT_DTYPE: Final = np.dtype(
    [("time", "<i8"), ("key", "<u8"), ("kind", "<i2"), ("corpus", "<i2"), ("price", "<f4")]
)
"""One row for each of the latest events on an item, oldest first."""

BASKET_DTYPE: Final = np.dtype([("time", "<i8"), ("basket", "<u8")])
"""One row for each of the latest orders, oldest first."""

TOTALS_DTYPE: Final = np.dtype(
    [
        ("first_time", "<i8"),
        ("last_time", "<i8"),
        ("num_events", "<f4"),
        ("num_purchases", "<f4"),
        ("num_baskets", "<f4"),
        ("spend", "<f4"),
    ]
)
"""Exactly one row: what is counted over the user's whole history."""

MAX_ITEMS: Final = 2048
MAX_RECENT: Final = 64
MAX_SHOWN: Final = 128
MAX_BASKETS: Final = 64
MAX_SEEN: Final = 256

_HEADER: Final = struct.Struct("<H2x5I")


def _layout() -> int:
    """31 bits that change with the version and with whatever the arrays are made of."""
    dtypes = [str(d.descr) for d in (ITEM_DTYPE, RECENT_DTYPE, BASKET_DTYPE, TOTALS_DTYPE)]
    caps = (MAX_ITEMS, MAX_RECENT, MAX_SHOWN, MAX_BASKETS, MAX_SEEN)
    text = repr((STATE_VERSION, HALF_LIVES_DAYS, dtypes, caps))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1


STATE_LAYOUT: Final = _layout()
"""Names the layout in keys of the store and in a bundle's manifest."""


@dataclass(frozen=True, slots=True)
class UserState:
    """The record arrays of one user.

    `items` (ITEM_DTYPE, sorted by key), `recent` and `shown` (RECENT_DTYPE, oldest first),
    `baskets` (BASKET_DTYPE, oldest first), `seen` (uint64 keys of the latest event ids, in
    order of arrival, so that an event sent twice counts once), `totals` (TOTALS_DTYPE, one row).
    """

    items: Rows
    recent: Rows
    shown: Rows
    baskets: Rows
    seen: NDArray[np.uint64]
    totals: Rows

    def encode(self) -> bytes:
        """The stored value: a header with the lengths, then the arrays as they lie in memory."""
        parts = (self.items, self.recent, self.shown, self.baskets, self.seen)
        header = _HEADER.pack(STATE_VERSION, *(len(part) for part in parts))
        return b"".join((header, *(part.tobytes() for part in parts), self.totals.tobytes()))

    @staticmethod
    def decode(value: bytes | memoryview) -> "UserState":
        """Views into `value`, which must stay alive; nothing is copied.

        Raises StateFormatError when the value was written in another layout or is cut short.
        """
        try:
            version, *lengths = _HEADER.unpack_from(value)
            if version != STATE_VERSION:
                raise StateFormatError(
                    f"user state has layout {version}, this code reads {STATE_VERSION}; "
                    "run `python -m offline materialize` again"
                )
            return UserState(*_views(value, lengths))
        except (struct.error, ValueError) as error:
            raise StateFormatError(f"user state is damaged: {error}") from error


def _views(value: bytes | memoryview, lengths: list[int]) -> list[Any]:
    dtypes = (ITEM_DTYPE, RECENT_DTYPE, RECENT_DTYPE, BASKET_DTYPE, np.dtype("<u8"), TOTALS_DTYPE)
    views, offset = [], _HEADER.size
    for dtype, length in zip(dtypes, (*lengths, 1), strict=True):
        views.append(np.frombuffer(value, dtype, length, offset))
        offset += length * dtype.itemsize
    return views


def _empty() -> UserState:
    totals = np.zeros(1, TOTALS_DTYPE)
    totals["first_time"] = totals["last_time"] = NO_TIME
    none = np.zeros(0, RECENT_DTYPE)
    return UserState(
        items=np.zeros(0, ITEM_DTYPE),
        recent=none,
        shown=none,
        baskets=np.zeros(0, BASKET_DTYPE),
        seen=np.zeros(0, np.uint64),
        totals=totals,
    )


EMPTY: Final = _empty()
"""The state of a user of whom nothing is known."""


def state_key(user: bytes) -> bytes:
    """The store's key for a user's state, `user` being the 32-byte pseudonym."""
    return b"u%08x/" % STATE_LAYOUT + user


def record_key(name: str) -> bytes:
    """The store's key for what is noted about all states of this layout."""
    return b"r%08x/" % STATE_LAYOUT + name.encode()


STATE_PREFIX: Final = state_key(b"")
