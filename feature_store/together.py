"""Many events at once: what `features.update` does for whole batches, as array operations.

The work is done for all users together, so that it costs the same few NumPy calls for two
users as for two thousand.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store import effects
from feature_store.batch import EventBatch, Owned, gather, group_starts, join, keep_last, split
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import (
    BASKET_DTYPE,
    HALF_LIVES_DAYS,
    ITEM_DTYPE,
    MAX_BASKETS,
    MAX_ITEMS,
    MAX_RECENT,
    MAX_SEEN,
    MAX_SHOWN,
    NO_TIME,
    RECENT_DTYPE,
    TOTALS_DTYPE,
    Rows,
    UserState,
)

_SEEN_DTYPE: Final = np.dtype(np.uint64)


def update_together(states: Sequence[UserState], events: EventBatch) -> list[UserState]:
    """The states after new events, all at once."""
    num_states = len(states)
    on_items = events.take(events.item != 0)
    shown = effects.IS_SHOWN[on_items.kind]
    changes, impressions = on_items.take(~shown), on_items.take(shown)
    merged = (
        _merge_items([state.items for state in states], changes),
        _merge_recent([state.recent for state in states], changes, MAX_RECENT),
        _merge_recent([state.shown for state in states], impressions, MAX_SHOWN),
        _merge_baskets([state.baskets for state in states], events),
        _append_seen(gather([state.seen for state in states], _SEEN_DTYPE), events),
    )
    parts = [split(owner, rows, num_states) for owner, rows in merged]
    totals = _add_totals(states, events)
    return [
        UserState(items, recent, shown, baskets, seen_keys, totals[i : i + 1])
        for i, (items, recent, shown, baskets, seen_keys) in enumerate(zip(*parts, strict=True))
    ]


def _append_seen(seen: Owned, events: EventBatch) -> Owned:
    owner = np.concatenate((seen[0], events.owner))
    event = np.concatenate((seen[1], events.event))
    order = np.argsort(owner, kind="stable")
    kept = order[keep_last(owner[order], MAX_SEEN)]
    return owner[kept], event[kept]


def _as_item_rows(events: EventBatch) -> Rows:
    """Each event as the state that it alone would leave on its item."""
    rows = np.zeros(len(events), ITEM_DTYPE)
    bought = events.kind == effects.PURCHASE
    engagement, feedback = (
        effects.ENGAGEMENT_BY_CODE[events.kind],
        effects.FEEDBACK_BY_CODE[events.kind],
    )
    rows["key"] = events.item
    rows["last_time"] = np.where(bought, events.time, NO_TIME)
    rows["first_time"] = np.where(bought, events.time, -NO_TIME)
    rows["engaged_time"] = np.where(engagement > 0, events.time, NO_TIME)
    rows["feedback_time"] = np.where(feedback != 0, events.time, NO_TIME)
    rows["count"] = bought
    rows["decayed"] = bought[:, None]
    rows["quantity"] = np.where(bought, events.quantity, 0)
    rows["spend"] = np.where(bought, events.quantity * events.price, 0)
    rows["engagement"] = engagement
    rows["feedback"] = feedback
    return rows


def _merge_items(parts: Sequence[Rows], events: EventBatch) -> Owned:
    """Old rows and new events, combined by owner and item."""
    old_owner, old = gather(parts, ITEM_DTYPE)
    if not len(events):
        return old_owner, old
    owner = np.concatenate((old_owner, events.owner))
    rows = join((old, _as_item_rows(events)), ITEM_DTYPE)
    order = np.lexsort((rows["key"], owner))
    owner, rows = owner[order], rows[order]
    starts = group_starts(owner, rows["key"])
    return keep_latest_items(owner[starts], combine(rows, starts))


def combine(rows: Rows, starts: NDArray[np.intp]) -> Rows:
    """One row for each group: sums, extremes, and decayed sums brought to the latest instant."""
    merged = rows[starts].copy()
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
    for name in ("count", "quantity", "spend"):
        merged[name] = np.add.reduceat(rows[name], starts)
    merged["first_time"] = np.minimum.reduceat(rows["first_time"], starts)
    for name in ("last_time", "engaged_time", "feedback_time"):
        merged[name] = np.maximum.reduceat(rows[name], starts)
    age_days = (merged["last_time"][group] - rows["last_time"]) / MICROSECONDS_PER_DAY
    fade = np.exp2(-age_days[:, None] / np.array(HALF_LIVES_DAYS))
    merged["decayed"] = np.add.reduceat(rows["decayed"] * fade, starts)
    age_days = (merged["engaged_time"][group] - rows["engaged_time"]) / MICROSECONDS_PER_DAY
    fade = np.exp2(-age_days / effects.ENGAGEMENT_HALF_LIFE_DAYS)
    merged["engagement"] = np.add.reduceat(rows["engagement"] * fade, starts)
    latest = rows["feedback_time"] == merged["feedback_time"][group]
    merged["feedback"] = np.sign(np.add.reduceat(np.where(latest, rows["feedback"], 0), starts))
    return merged


def keep_latest_items(owner: NDArray[np.int64], rows: Rows) -> Owned:
    """At most MAX_ITEMS rows an owner: the ones that something happened to most recently."""
    if np.bincount(owner).max(initial=0) <= MAX_ITEMS:
        return owner, rows
    touched = np.maximum(rows["last_time"], np.maximum(rows["engaged_time"], rows["feedback_time"]))
    order = np.lexsort((rows["key"], touched, owner))
    kept = np.sort(order[keep_last(owner[order], MAX_ITEMS)])
    return owner[kept], rows[kept]


def _merge_recent(parts: Sequence[Rows], events: EventBatch, limit: int) -> Owned:
    old_owner, old = gather(parts, RECENT_DTYPE)
    if not len(events):
        return old_owner, old
    new = np.zeros(len(events), RECENT_DTYPE)
    new["time"], new["key"] = events.time, events.item
    new["kind"], new["corpus"], new["price"] = events.kind, events.corpus, events.price
    owner, rows = np.concatenate((old_owner, events.owner)), join((old, new), RECENT_DTYPE)
    order = np.lexsort((rows["kind"], rows["key"], rows["time"], owner))
    kept = order[keep_last(owner[order], limit)]
    return owner[kept], rows[kept]


def _merge_baskets(parts: Sequence[Rows], events: EventBatch) -> Owned:
    """The latest orders; an order without an id is known by its instant."""
    old_owner, old = gather(parts, BASKET_DTYPE)
    bought = events.take(events.kind == effects.PURCHASE)
    if not len(bought):
        return old_owner, old
    new = np.zeros(len(bought), BASKET_DTYPE)
    new["time"] = bought.time
    new["basket"] = np.where(bought.basket != 0, bought.basket, bought.time.astype(np.uint64))
    owner, rows = np.concatenate((old_owner, bought.owner)), join((old, new), BASKET_DTYPE)
    order = np.lexsort((rows["time"], rows["basket"], owner))
    order = order[group_starts(owner[order], rows["basket"][order])]
    order = order[np.lexsort((rows["basket"][order], rows["time"][order], owner[order]))]
    kept = order[keep_last(owner[order], MAX_BASKETS)]
    return owner[kept], rows[kept]


def _new_baskets(states: Sequence[UserState], bought: EventBatch) -> NDArray[np.int64]:
    """How many orders of each owner the state did not hold yet, shape (states,)."""
    old_owner, old = gather([state.baskets for state in states], BASKET_DTYPE)
    basket = np.where(bought.basket != 0, bought.basket, bought.time.astype(np.uint64))
    owner = np.concatenate((old_owner, bought.owner))
    keys = np.concatenate((old["basket"], basket))
    order = np.lexsort((keys, owner))
    distinct = owner[order][group_starts(owner[order], keys[order])]
    num = len(states)
    return np.bincount(distinct, minlength=num) - np.bincount(old_owner, minlength=num)


def _add_totals(states: Sequence[UserState], events: EventBatch) -> Rows:
    totals = join([state.totals for state in states], TOTALS_DTYPE)
    num = len(states)
    bought = events.take(events.kind == effects.PURCHASE)
    first, last = totals["first_time"].copy(), totals["last_time"].copy()
    first[first == NO_TIME] = -NO_TIME
    np.minimum.at(first, events.owner, events.time)
    np.maximum.at(last, events.owner, events.time)
    first[first == -NO_TIME] = NO_TIME
    totals["first_time"], totals["last_time"] = first, last
    totals["num_events"] += np.bincount(events.owner, minlength=num)
    totals["num_purchases"] += np.bincount(bought.owner, minlength=num)
    spend = bought.quantity * bought.price
    totals["spend"] += np.bincount(bought.owner, spend, minlength=num).astype(np.float32)
    totals["num_baskets"] += _new_baskets(states, bought)
    return totals
