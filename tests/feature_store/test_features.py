"""A user's state: the same whatever the order of events, and equal to the naive formulas."""

from dataclasses import replace

import numpy as np
import pytest

from feature_store.errors import StateFormatError
from feature_store.features import EventBatch, decayed_count, merge, update
from feature_store.ids import hash64
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY
from feature_store.state import EMPTY, HALF_LIVES_DAYS, MAX_ITEMS, MAX_RECENT, MAX_SEEN, UserState

DAY = MICROSECONDS_PER_DAY
FIELDS = ("items", "recent", "shown", "baskets", "totals")


def events(num: int, num_owners: int = 1, seed: int = 0, num_items: int = 12) -> EventBatch:
    """Random events, sorted by time."""
    rng = np.random.default_rng(seed)
    return EventBatch(
        owner=rng.integers(0, num_owners, num),
        time=np.sort(rng.integers(0, 400 * DAY, num)),
        event=rng.permutation(num).astype(np.uint64) + np.uint64(1),
        item=rng.integers(0, num_items, num).astype(np.uint64),  # 0: no item
        kind=rng.integers(0, len(EVENT_KIND_CODE), num).astype(np.int16),
        corpus=np.zeros(num, np.int16),
        quantity=rng.integers(1, 4, num).astype(np.float32),
        price=rng.integers(1, 9, num).astype(np.float32),
        basket=rng.integers(0, num // 4 + 1, num).astype(np.uint64),
    )


def purchases(items: list[int], times: list[int]) -> EventBatch:
    """One user's purchases of one piece at the price 2, each an order of its own."""
    num = len(items)
    return EventBatch(
        owner=np.zeros(num, np.int64),
        time=np.array(times, np.int64),
        event=np.arange(1, num + 1, dtype=np.uint64),
        item=np.array(items, np.uint64),
        kind=np.full(num, EVENT_KIND_CODE["purchase"], np.int16),
        corpus=np.zeros(num, np.int16),
        quantity=np.ones(num, np.float32),
        price=np.full(num, 2, np.float32),
        basket=np.zeros(num, np.uint64),
    )


def assert_same(left: UserState, right: UserState) -> None:
    """Equal up to float rounding."""
    for field in FIELDS:
        one, other = getattr(left, field), getattr(right, field)
        assert len(one) == len(other), field
        for name in one.dtype.names:
            np.testing.assert_allclose(one[name], other[name], rtol=2e-5, err_msg=f"{field}.{name}")


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_does_not_matter(seed: int) -> None:
    batch = events(60, seed=seed)
    in_order = update([EMPTY], batch)[0]
    shuffled = EMPTY
    order = np.random.default_rng(seed).permutation(60)
    for chunk in np.array_split(order, 13):
        shuffled = update([shuffled], batch.take(chunk))[0]
    assert_same(in_order, shuffled)


def test_many_users_at_once_equal_one_at_a_time() -> None:
    batch = events(500, num_owners=7)
    together = update([EMPTY] * 7, batch)
    for owner, state in enumerate(together):
        own = batch.take(batch.owner == owner)
        own.owner[:] = 0
        assert_same(state, update([EMPTY], own)[0])


def test_decayed_count_is_the_sum_over_purchases() -> None:
    times = [0, 10 * DAY, 35 * DAY, 90 * DAY]
    state = update([EMPTY], purchases([5, 5, 5, 5], times))[0]
    now = 100 * DAY
    for number, half_life in enumerate(HALF_LIVES_DAYS):
        naive = sum(2 ** (-(now - time) / DAY / half_life) for time in times)
        assert decayed_count(state.items, number, now)[0] == pytest.approx(naive, rel=1e-5)


def test_counts_sums_and_orders() -> None:
    state = update([EMPTY], purchases([5, 7, 5], [DAY, DAY, 3 * DAY]))[0]
    five, seven = state.items
    assert (five["count"], seven["count"]) == (2, 1)
    assert (five["first_time"], five["last_time"]) == (DAY, 3 * DAY)
    assert five["spend"] == 4
    assert state.totals["num_purchases"][0] == 3
    assert state.totals["num_baskets"][0] == 2  # two rows at one instant are one order
    assert (state.totals["first_time"][0], state.totals["last_time"][0]) == (DAY, 3 * DAY)


def test_an_event_counts_once() -> None:
    batch = purchases([5, 7], [DAY, 2 * DAY])
    once = update([EMPTY], batch)[0]
    again = update([once], batch)[0]
    assert_same(once, again)
    doubled = batch.take(np.array([0, 0, 1, 1]))
    assert_same(once, update([EMPTY], doubled)[0])


def test_the_latest_feedback_wins() -> None:
    batch = purchases([5, 5], [DAY, 2 * DAY])
    batch.kind[:] = EVENT_KIND_CODE["like"], EVENT_KIND_CODE["dislike"]
    assert update([EMPTY], batch)[0].items["feedback"].tolist() == [-1]
    batch.time[:] = 2 * DAY, DAY
    assert update([EMPTY], batch)[0].items["feedback"].tolist() == [1]


def test_caps_keep_the_latest() -> None:
    num = MAX_ITEMS + 100
    state = update([EMPTY], purchases(list(range(1, num + 1)), [DAY * n for n in range(num)]))[0]
    assert len(state.items) == MAX_ITEMS
    assert state.items["key"].min() == 101
    assert len(state.recent) == MAX_RECENT
    assert state.recent["key"][-1] == num
    assert state.totals["num_purchases"][0] == num


def test_a_state_survives_encoding() -> None:
    state = update([EMPTY], events(80))[0]
    copy = UserState.decode(state.encode())
    for field in (*FIELDS, "seen"):
        np.testing.assert_array_equal(getattr(copy, field), getattr(state, field))


def test_a_damaged_state_is_refused() -> None:
    value = update([EMPTY], events(80))[0].encode()
    with pytest.raises(StateFormatError, match="damaged"):
        UserState.decode(value[:-7])
    with pytest.raises(StateFormatError, match="layout 9"):
        UserState.decode(b"\x09\x00" + value[2:])


def test_item_keys_are_stable() -> None:
    """A stored key means the same item for ever: this value must never change."""
    assert hash64("aisle") == 0xA99BB2CBE406463B


@pytest.mark.parametrize("seed", range(3))
def test_states_merge_as_if_all_had_happened_to_one_user(seed: int) -> None:
    batch = events(90, num_owners=2, seed=seed)
    apart = update([EMPTY, EMPTY], batch)
    together = update([EMPTY], replace(batch, owner=np.zeros(90, np.int64)))[0]
    merged = merge(apart)
    assert_same(merged, together)
    assert set(merged.seen.tolist()) == set(together.seen.tolist())
    assert_same(merge([EMPTY, together]), together)
    assert UserState.decode(merge([EMPTY, EMPTY]).encode()) is not None


def test_both_sides_of_a_merge_are_remembered_as_seen() -> None:
    many = [np.arange(start, start + MAX_SEEN, dtype=np.uint64) for start in (0, 1000)]
    seen = merge([replace(EMPTY, seen=keys) for keys in many]).seen
    assert len(seen) == MAX_SEEN
    assert {int(key) for key in seen} == {*range(128, 256), *range(1128, 1256)}
