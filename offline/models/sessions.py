"""Sessions as flat columns: what every session model reads.

Transitions, session-kNN and the network read the same arrays, so that a prefix means the same to
all. It knows no files and no data frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sessions:
    """Item indexes of all sessions end to end, oldest session first.

    `items` has shape (clicks,); session s is `items[starts[s] : starts[s + 1]]`.
    """

    items: Ids
    starts: Ids

    def __len__(self) -> int:
        """The number of sessions."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ids:
        """The number of clicks of each session, shape (sessions,)."""
        return np.diff(self.starts)

    @property
    def session_of(self) -> Ids:
        """The session of every click, shape (clicks,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def between(self, first: int, last: int) -> "Sessions":
        """The sessions `first` to `last` - 1."""
        low, high = self.starts[first], self.starts[last]
        return Sessions(self.items[low:high], self.starts[first : last + 1] - low)


NO_SESSIONS: Final = Sessions(np.zeros(0, np.int64), np.zeros(1, np.int64))


def from_lists(lists: Sequence[Sequence[int]]) -> Sessions:
    """Sessions from lists of item indexes."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    items = np.concatenate([np.asarray(row, np.int64) for row in lists])
    return Sessions(items, starts)


def prefixes(sessions: Sessions) -> tuple[Sessions, Ids]:
    """Every proper prefix of every session, and the clicks (n,) that follow them."""
    lengths = sessions.lengths
    offset = np.arange(len(sessions.items)) - np.repeat(sessions.starts[:-1], lengths)
    ends = np.flatnonzero(offset > 0)
    size = offset[ends]
    starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], size)
    return Sessions(sessions.items[np.repeat(ends - size, size) + within], starts), sessions.items[
        ends
    ]


def chosen(sessions: Sessions, rows: Ids) -> Sessions:
    """The given sessions, in their order."""
    size = sessions.lengths[rows]
    starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], size)
    return Sessions(sessions.items[np.repeat(sessions.starts[rows], size) + within], starts)


def padded_tail(sessions: Sessions, length: int, padding: int) -> Ids:
    """The last `length` clicks of each session, the latest in column 0, then `padding`."""
    position = sessions.starts[1:, None] - 1 - np.arange(length)[None, :]
    inside = position >= sessions.starts[:-1, None]
    return np.where(inside, sessions.items[np.maximum(position, 0)], padding)
