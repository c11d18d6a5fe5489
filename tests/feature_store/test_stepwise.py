"""Few events one by one give what many at once give: the fast way against the general one."""

import numpy as np
import pytest

from feature_store import features
from feature_store.features import EventBatch, update, was_seen
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY
from feature_store.state import EMPTY, MAX_ITEMS, MAX_RECENT, UserState
from feature_store.together import update_together
from tests.feature_store.test_features import assert_same, events, purchases

DAY = MICROSECONDS_PER_DAY


def by_arrays(states: list[UserState], batch: EventBatch) -> list[UserState]:
    """The states after the events, made by the general way alone."""
    batch = features._without_repeats(states, batch)
    return update_together(states, batch)


@pytest.mark.parametrize("size", [1, 2, 7, 24])
@pytest.mark.parametrize("seed", range(4))
def test_small_batches_equal_the_general_way(size: int, seed: int) -> None:
    history = events(300, num_owners=3, seed=seed, num_items=40)
    before = by_arrays([EMPTY] * 3, history)
    late = events(400, num_owners=3, seed=seed + 100, num_items=60)
    late.event[:] += np.uint64(10_000)
    rows = np.random.default_rng(seed).permutation(400)[:size]
    fast, general = update(before, late.take(rows)), by_arrays(before, late.take(rows))
    for one, other in zip(fast, general, strict=True):
        assert_same(one, other)
        np.testing.assert_array_equal(one.seen, other.seen)


def test_a_history_in_small_batches_equals_all_at_once() -> None:
    history = events(900, num_owners=4, seed=3, num_items=50)
    states = [EMPTY] * 4
    for rows in np.array_split(np.random.default_rng(3).permutation(900), 130):
        states = update(states, history.take(rows))
    for one, other in zip(states, by_arrays([EMPTY] * 4, history), strict=True):
        assert len(one.recent) == MAX_RECENT
        assert len(one.shown) > 20
        assert_same(one, other)


def test_users_with_few_and_with_many_events_share_a_batch() -> None:
    batch = events(600, num_owners=40, seed=5)
    batch.owner[:200] = 7
    for one, other in zip(update([EMPTY] * 40, batch), by_arrays([EMPTY] * 40, batch), strict=True):
        assert_same(one, other)


def test_a_full_state_stays_within_its_cap() -> None:
    full = purchases(list(range(2, MAX_ITEMS + 2)), [DAY * n for n in range(MAX_ITEMS)])
    states = update([EMPTY], full)
    one_more = purchases([MAX_ITEMS + 99], [DAY * MAX_ITEMS])
    one_more.event[:] = 1 << 40
    (state,) = update(states, one_more)
    assert len(state.items) == MAX_ITEMS
    assert state.items["key"].min() == 3


def test_an_order_moves_to_its_earliest_instant() -> None:
    batch = purchases([5, 6, 7], [3 * DAY, 2 * DAY, DAY])
    batch.basket[:] = 9, 8, 9
    (state,) = update([EMPTY], batch)
    assert state.baskets["basket"].tolist() == [9, 8]
    assert state.baskets["time"].tolist() == [DAY, 2 * DAY]
    assert state.totals["num_baskets"][0] == 2


def test_what_was_seen_is_told_by_owner() -> None:
    batch = purchases([5, 6], [DAY, DAY])
    (knowing,) = update([EMPTY], batch)
    asked = batch.take(np.array([0, 1, 0]))
    asked.owner[:] = 1, 1, 0
    assert was_seen([EMPTY, knowing], asked).tolist() == [True, True, False]


def test_two_judgements_of_one_instant_and_against_each_other_are_none() -> None:
    batch = purchases([5, 5], [DAY, DAY])
    batch.kind[:] = EVENT_KIND_CODE["like"], EVENT_KIND_CODE["dislike"]
    assert update([EMPTY], batch)[0].items["feedback"].tolist() == [0]
