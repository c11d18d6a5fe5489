"""Feature values: how events change a user's state, and how it is read at an instant.

Training and serving call these same functions; Polars may sort and partition around them
but computes no feature. `update` is commutative: events that arrive late or out of order
give the state that they would have given in order (up to float rounding, and up to what
the caps of `feature_store.state` have already dropped). Nothing here reads a clock.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.batch import EventBatch, group_starts
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import (
    HALF_LIVES_DAYS,
    MAX_BASKETS,
    MAX_ITEMS,
    MAX_RECENT,
    MAX_SEEN,
    MAX_SHOWN,
    NO_TIME,
    TOTALS_DTYPE,
    Rows,
    UserState,
)
from feature_store.stepwise import Step, step
from feature_store.together import combine, keep_latest_items, update_together

__all__ = ["EventBatch", "decayed_count", "merge", "update", "was_seen"]

MAX_STEPS: Final = 24
"""A user with more events than this in one batch is changed by arrays, not event by event."""

FEW_EVENTS: Final = 256
"""In a larger batch, states of whom nothing is known are made together by arrays."""

DUE_SHARE: Final = 0.8
ONCE_DAYS: Final = 30.0
"""After which share of its usual interval an item is due again, and after how many days one that
was bought once."""


def update(states: Sequence[UserState], events: EventBatch) -> list[UserState]:
    """The states after these events; `events.owner` says to which state each belongs.

    An event whose key is among the owner's latest (`seen`) is ignored.
    """
    events = _without_repeats(states, events)
    counts = np.bincount(events.owner, minlength=len(states))
    after = list(states)
    together = [
        i for i, num in enumerate(counts.tolist()) if num and _needs_arrays(states[i], num, events)
    ]
    if together:
        changed, events = _split_batch(events, together, len(states))
        merged = update_together([states[i] for i in together], changed)
        for i, state in zip(together, merged, strict=True):
            after[i] = state
    for owner, steps in _steps(events).items():
        after[owner] = step(states[owner], steps)
    return after


def _needs_arrays(state: UserState, num_events: int, batch: EventBatch) -> bool:
    """Whether the general way is the cheaper one for a user, or the only one: items are capped."""
    is_new = not len(state.seen)
    return bool(
        num_events > MAX_STEPS
        or (is_new and len(batch) > FEW_EVENTS)
        or len(state.items) + num_events > MAX_ITEMS
    )


def _split_batch(
    events: EventBatch, chosen: Sequence[int], num_states: int
) -> tuple[EventBatch, EventBatch]:
    """The events of the chosen owners, who are numbered in their order, and the others."""
    number = np.full(num_states, -1)
    number[chosen] = np.arange(len(chosen))
    owner = number[events.owner]
    is_chosen = owner >= 0
    return replace(events, owner=owner).take(is_chosen), events.take(~is_chosen)


def _steps(events: EventBatch) -> dict[int, list[Step]]:
    """The events of each owner as plain numbers."""
    columns = [getattr(events, field.name).tolist() for field in fields(events)]
    steps: dict[int, list[Step]] = {}
    for owner, *values in zip(*columns, strict=True):
        steps.setdefault(owner, []).append(Step(*values))
    return steps


def was_seen(states: Sequence[UserState], events: EventBatch) -> NDArray[np.bool_]:
    """Which events the states of their owners know already, shape (events,)."""
    known = np.zeros(len(events), bool)
    order = np.argsort(events.owner, kind="stable")
    owner, event = events.owner[order], events.event[order]
    starts = group_starts(owner)
    for first, last in zip(starts.tolist(), [*starts[1:].tolist(), len(owner)], strict=True):
        seen = states[owner[first]].seen
        if len(seen):
            known[order[first:last]] = _is_in(event[first:last], seen)
    return known


def _is_in(keys: NDArray[np.uint64], seen: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """np.isin, which for few keys takes ten times longer."""
    if len(keys) > MAX_STEPS:
        return np.isin(keys, seen)
    found: NDArray[np.bool_] = (seen == keys[:, None]).any(axis=1)
    return found


def _without_repeats(states: Sequence[UserState], events: EventBatch) -> EventBatch:
    """The events neither seen before by their owner nor twice in the batch, first one kept."""
    is_new = ~was_seen(states, events)
    if len(events) > 1:
        order = np.lexsort((events.event, events.owner))
        is_first = np.zeros(len(events), bool)
        is_first[order[group_starts(events.owner[order], events.event[order])]] = True
        is_new &= is_first
    return events if is_new.all() else events.take(is_new)


def merge(states: Sequence[UserState]) -> UserState:
    """The state of one user to whom happened all that these states tell of.

    The same algebra as in `update`, so it gives what the events together would have given, up
    to what the caps have dropped. An event that two of the states know counts twice.
    """
    items = np.concatenate([state.items for state in states])
    items = items[np.argsort(items["key"], kind="stable")]
    starts = group_starts(items["key"])
    _, items = keep_latest_items(np.zeros(len(starts), np.int64), combine(items, starts))
    baskets = np.sort(np.concatenate([state.baskets for state in states]), order=["basket", "time"])
    num_baskets = len(baskets)
    baskets = baskets[group_starts(baskets["basket"])]
    totals = _sum_totals(np.concatenate([state.totals for state in states]))
    totals["num_baskets"] -= num_baskets - len(baskets)
    return UserState(
        items=items,
        recent=_latest([state.recent for state in states], MAX_RECENT),
        shown=_latest([state.shown for state in states], MAX_SHOWN),
        baskets=np.sort(baskets, order=["time", "basket"])[-MAX_BASKETS:],
        seen=_latest_seen([state.seen for state in states]),
        totals=totals,
    )


def _latest(parts: Sequence[Rows], limit: int) -> Rows:
    return np.sort(np.concatenate(parts), order=["time", "key", "kind"])[-limit:]


def _latest_seen(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """The latest ids of each in turn: which of two states saw one last is not known."""
    ages = np.concatenate([np.arange(len(part), 0, -1) for part in parts])
    order = np.argsort(-ages, kind="stable")
    return np.concatenate(parts)[order][-MAX_SEEN:]


def _sum_totals(parts: Rows) -> Rows:
    totals = np.zeros(1, TOTALS_DTYPE)
    for name in ("num_events", "num_purchases", "num_baskets", "spend"):
        totals[name] = parts[name].sum()
    known = parts["first_time"][parts["first_time"] != NO_TIME]
    totals["first_time"] = known.min(initial=-NO_TIME) if len(known) else NO_TIME
    totals["last_time"] = parts["last_time"].max()
    return totals


def decayed_count(items: Rows, half_life: int, time: int) -> NDArray[np.float32]:
    """Purchases of each row, each halved every `HALF_LIVES_DAYS[half_life]` days, at `time`.

    Shape (n,). N(t) = sum over purchases of 2^(-(t - t_i) / half-life).
    """
    age_days = (time - items["last_time"]) / MICROSECONDS_PER_DAY
    fade = np.exp2(-np.maximum(age_days, 0.0) / HALF_LIVES_DAYS[half_life])
    return (items["decayed"][:, half_life] * fade).astype(np.float32)


def bought_lately(items: Rows, time: int) -> NDArray[np.bool_]:
    """Which rows were bought and are not due again at `time` (microseconds UTC); shape (n,).

    Due is what DUE_SHARE of the usual interval between purchases has passed for; of what was
    bought once no interval is known, and ONCE_DAYS stand for it.
    """
    count = items["count"]
    span_days = (items["last_time"] - items["first_time"]) / MICROSECONDS_PER_DAY
    interval_days = np.where(count > 1, span_days / np.maximum(count - 1, 1), ONCE_DAYS)
    age_days = (time - items["last_time"]) / MICROSECONDS_PER_DAY
    mask: NDArray[np.bool_] = (count > 0) & (age_days < DUE_SHARE * interval_days)
    return mask
