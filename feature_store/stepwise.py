"""Few events of one user, one after the other: what `features.update` does, without its cost.

A NumPy call takes a microsecond whatever it does, and the way for many events makes 150 of
them. Here a row is taken out of its array, changed as plain numbers and put back. The outcome
is the same up to float rounding, and a test holds the two ways together.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_store import effects
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import (
    BASKET_DTYPE,
    HALF_LIVES_DAYS,
    ITEM_DTYPE,
    MAX_BASKETS,
    MAX_RECENT,
    MAX_SEEN,
    MAX_SHOWN,
    NO_TIME,
    RECENT_DTYPE,
    TOTALS_DTYPE,
    Rows,
    UserState,
)

_ITEM: Final = struct.Struct(f"<Qqqqqf{len(HALF_LIVES_DAYS)}ffffi")
_RECENT: Final = struct.Struct("<qQhhf")
_BASKET: Final = struct.Struct("<qQ")
_TOTALS: Final = struct.Struct("<qqffff")

_ENGAGEMENT: Final[list[float]] = effects.ENGAGEMENT_BY_CODE.tolist()
_FEEDBACK: Final[list[int]] = effects.FEEDBACK_BY_CODE.tolist()
_IS_SHOWN: Final[list[bool]] = effects.IS_SHOWN.tolist()

_RATES: Final = tuple(-1.0 / (days * MICROSECONDS_PER_DAY) for days in HALF_LIVES_DAYS)
_ENGAGEMENT_RATE: Final = -1.0 / (effects.ENGAGEMENT_HALF_LIFE_DAYS * MICROSECONDS_PER_DAY)

_Totals = tuple[int, int, float, float, float, float]
"""A row of TOTALS_DTYPE as plain numbers."""


class Step(NamedTuple):
    """One event as plain numbers: a row of `features.EventBatch` without its owner."""

    time: int
    event: int
    item: int
    kind: int
    corpus: int
    quantity: float
    price: float
    basket: int


class _Item(NamedTuple):
    """A row of ITEM_DTYPE as plain numbers, but for `decayed`, which has one number each."""

    key: int
    first_time: int
    last_time: int
    engaged_time: int
    feedback_time: int
    num_purchases: float
    decayed: tuple[float, ...]
    quantity: float
    spend: float
    engagement: float
    feedback: int


_NEW_ITEM: Final = _Item(
    key=0,
    first_time=-NO_TIME,
    last_time=NO_TIME,
    engaged_time=NO_TIME,
    feedback_time=NO_TIME,
    num_purchases=0.0,
    decayed=(0.0,) * len(HALF_LIVES_DAYS),
    quantity=0.0,
    spend=0.0,
    engagement=0.0,
    feedback=0,
)


def step(state: UserState, events: Iterable[Step]) -> UserState:
    """The state after these events, none of which it may have seen.

    The cap on items is the caller's to keep: no row is dropped here.
    """
    items = _Items(state.items)
    recent, shown, baskets = (part.tobytes() for part in (state.recent, state.shown, state.baskets))
    totals = _TOTALS.unpack(state.totals.tobytes())
    arrived = []
    for event in events:
        arrived.append(event.event)
        if event.item and _IS_SHOWN[event.kind]:
            shown = _with_recent(shown, event, MAX_SHOWN)
        elif event.item:
            recent = _with_recent(recent, event, MAX_RECENT)
            items.change(event)
        is_new_basket = False
        if event.kind == effects.PURCHASE:
            baskets, is_new_basket = _with_basket(baskets, event)
        totals = _counted(totals, event, is_new_basket)
    return UserState(
        items=items.rows(),
        recent=np.frombuffer(recent, RECENT_DTYPE),
        shown=np.frombuffer(shown, RECENT_DTYPE),
        baskets=np.frombuffer(baskets, BASKET_DTYPE),
        seen=np.concatenate((state.seen, np.array(arrived, np.uint64)))[-MAX_SEEN:],
        totals=np.frombuffer(_TOTALS.pack(*totals), TOTALS_DTYPE),
    )


class _Items:
    """The item rows of one state, and those of them that change."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._keys: NDArray[np.uint64] = np.ascontiguousarray(rows["key"])
        self._changed: dict[int, tuple[int, bool, _Item]] = {}

    def change(self, event: Step) -> None:
        """Bring the row of the event's item up to the event."""
        place, is_old, row = self._changed.get(event.item) or self._find(event.item)
        if event.kind == effects.PURCHASE:
            row = _bought(row, event)
        elif weight := _ENGAGEMENT[event.kind]:
            row = _engaged(row, event.time, weight)
        elif feedback := _FEEDBACK[event.kind]:
            row = _judged(row, event.time, feedback)
        self._changed[event.item] = (place, is_old, row)

    def rows(self) -> Rows:
        """All rows, sorted by key."""
        if not self._changed:
            return self._rows
        before, parts, start = self._rows.tobytes(), [], 0
        for key in sorted(self._changed):
            place, is_old, row = self._changed[key]
            parts.append(before[start * _ITEM.size : place * _ITEM.size])
            parts.append(_ITEM.pack(*row[:6], *row.decayed, *row[7:]))
            start = place + is_old
        parts.append(before[start * _ITEM.size :])
        return np.frombuffer(b"".join(parts), ITEM_DTYPE)

    def _find(self, key: int) -> tuple[int, bool, _Item]:
        """Where the item's row is or would be, whether it is there, and the row."""
        place = int(self._keys.searchsorted(np.uint64(key)))
        if place == len(self._keys) or int(self._keys[place]) != key:
            return place, False, _NEW_ITEM._replace(key=key)
        known = _ITEM.unpack(self._rows[place].tobytes())
        end = 6 + len(HALF_LIVES_DAYS)
        return place, True, _Item._make((*known[:6], known[6:end], *known[end:]))


def _bought(row: _Item, event: Step) -> _Item:
    """The row after a purchase: sums, and counts decayed to the latest purchase."""
    last_time = max(row.last_time, event.time)
    faded = (
        count * 2.0 ** ((last_time - row.last_time) * rate)
        + 2.0 ** ((last_time - event.time) * rate)
        for count, rate in zip(row.decayed, _RATES, strict=True)
    )
    return row._replace(
        first_time=min(row.first_time, event.time),
        last_time=last_time,
        num_purchases=row.num_purchases + 1.0,
        decayed=tuple(faded),
        quantity=row.quantity + event.quantity,
        spend=row.spend + event.quantity * event.price,
    )


def _engaged(row: _Item, time: int, weight: float) -> _Item:
    latest = max(row.engaged_time, time)
    before = row.engagement * 2.0 ** ((latest - row.engaged_time) * _ENGAGEMENT_RATE)
    new = weight * 2.0 ** ((latest - time) * _ENGAGEMENT_RATE)
    return row._replace(engaged_time=latest, engagement=before + new)


def _judged(row: _Item, time: int, feedback: int) -> _Item:
    """The latest judgement wins; two of one instant and against each other are none."""
    if time < row.feedback_time:
        return row
    total = feedback + (row.feedback if time == row.feedback_time else 0)
    return row._replace(feedback_time=time, feedback=(total > 0) - (total < 0))


def _with_recent(rows: bytes, event: Step, limit: int) -> bytes:
    """The rows with the event in its place by (time, item, kind), at most the last `limit`."""
    new = (event.time, event.item, event.kind)
    num, size = len(rows) // _RECENT.size, _RECENT.size
    if not num or _RECENT.unpack_from(rows, (num - 1) * size)[:3] <= new:
        place = num
    else:
        place = bisect_right(range(num), new, key=lambda i: _RECENT.unpack_from(rows, i * size)[:3])
    row = _RECENT.pack(*new, event.corpus, event.price)
    return b"".join((rows[: place * size], row, rows[place * size :]))[-limit * size :]


def _with_basket(rows: bytes, event: Step) -> tuple[bytes, bool]:
    """The orders with the event's, at its earliest instant, and whether it was not there."""
    basket = event.basket or event.time
    known = list(_BASKET.iter_unpack(rows))
    times = [time for time, key in known if key == basket]
    if times and times[0] <= event.time:
        return rows, False
    orders = sorted([*(one for one in known if one[1] != basket), (event.time, basket)])
    return b"".join(_BASKET.pack(*order) for order in orders[-MAX_BASKETS:]), not times


def _counted(totals: _Totals, event: Step, is_new_basket: bool) -> _Totals:
    first, last, num_events, num_purchases, num_baskets, spend = totals
    is_purchase = event.kind == effects.PURCHASE
    return (
        event.time if first == NO_TIME else min(first, event.time),
        max(last, event.time),
        num_events + 1.0,
        num_purchases + is_purchase,
        num_baskets + is_new_basket,
        spend + event.quantity * event.price * is_purchase,
    )
