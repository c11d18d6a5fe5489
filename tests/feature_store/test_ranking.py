"""The ranker's features against naive formulas, one candidate at a time."""

import numpy as np
import pytest

from feature_store.features import EventBatch, update
from feature_store.ranking import (
    GROUPS,
    ITEM_FEATURES,
    NEVER_DAYS,
    ItemColumns,
    feature_names,
    history_at,
    ranking_features,
)
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY
from feature_store.state import EMPTY, UserState

DAY = MICROSECONDS_PER_DAY
NOW = 100 * DAY
NUM_ITEMS = 12
SOURCES = ("one", "other")
NAMES = feature_names(SOURCES)

# Item index and day of each purchase; item 11 is not in the bundle.
PURCHASES = ((2, 10), (5, 20), (2, 40), (2, 70), (7, 95), (11, 96))


def user() -> UserState:
    num = len(PURCHASES)
    batch = EventBatch(
        owner=np.zeros(num, np.int64),
        time=np.array([day for _, day in PURCHASES]) * DAY,
        event=np.arange(1, num + 1, dtype=np.uint64),
        item=np.array([item + 1000 for item, _ in PURCHASES], np.uint64),
        kind=np.full(num, EVENT_KIND_CODE["purchase"], np.int16),
        corpus=np.zeros(num, np.int16),
        quantity=np.full(num, 2, np.float32),
        price=np.ones(num, np.float32),
        basket=np.zeros(num, np.uint64),
    )
    return update([EMPTY], batch)[0]


def columns() -> ItemColumns:
    rng = np.random.default_rng(0)
    values = rng.random((NUM_ITEMS - 1, len(ITEM_FEATURES))).astype(np.float32)
    values[:, ITEM_FEATURES.index("item_gap")] = 20.0
    number = np.arange(NUM_ITEMS - 1)
    groups = np.column_stack((number % 4, 4 + number % 2, 6 + number % 3, 9 + number % 5))
    return ItemColumns(values, groups.astype(np.int32), number * 9 * DAY)


def features_of(state: UserState, items: list[int]) -> dict[int, dict[str, float]]:
    index = state.items["key"].astype(np.int64) - 1000
    index[index >= NUM_ITEMS - 1] = -1
    candidates = np.array(items, np.int32)
    scores = np.vstack((candidates * 1.0, -candidates * 1.0)).astype(np.float32)
    history = history_at(state, index.astype(np.int32), NOW)
    matrix = ranking_features(state, history, columns(), candidates, scores, NOW)
    assert matrix.shape == (len(items), len(NAMES))
    assert np.isfinite(matrix).all()
    return {
        item: dict(zip(NAMES, row.tolist(), strict=True))
        for item, row in zip(items, matrix, strict=True)
    }


def test_what_was_bought() -> None:
    two = features_of(user(), [0, 2, 3, 7])[2]
    assert two["count_log"] == pytest.approx(np.log1p(3))
    assert (two["days_since_last"], two["days_since_first"]) == (30, 90)
    assert two["gap_days"] == pytest.approx((60 + 2 * 20) / (2 + 2))  # own gaps, and the item's
    assert two["due_ratio"] == pytest.approx(30 / 25)
    assert two["due_days"] == pytest.approx(30 - 25)
    assert two["basket_share"] == pytest.approx(3 / 6)
    assert two["quantity_mean"] == 2
    naive = sum(2 ** (-(100 - day) / 30) for item, day in PURCHASES if item == 2)
    assert two["decayed_30"] == pytest.approx(np.log1p(naive), rel=1e-5)


def test_what_was_never_bought() -> None:
    three = features_of(user(), [0, 2, 3, 7])[3]
    assert three["count_log"] == three["decayed_30"] == three["basket_share"] == 0
    assert three["days_since_last"] == three["days_since_first"] == NEVER_DAYS
    assert three["item_days"] == pytest.approx(100 - 27)


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_affinity_to_a_group(group: int) -> None:
    codes = columns().groups[:, group]
    known = [(item, day) for item, day in PURCHASES if item < NUM_ITEMS - 1]
    total = sum(2 ** (-(100 - day) / 90) for _, day in known)
    for item, row in features_of(user(), list(range(NUM_ITEMS - 1))).items():
        own = [(other, day) for other, day in known if codes[other] == codes[item]]
        weight = sum(2 ** (-(100 - day) / 90) for _, day in own)
        name = GROUPS[group]
        assert row[f"{name}_decayed"] == pytest.approx(np.log1p(weight), rel=1e-5, abs=1e-6)
        assert row[f"{name}_share"] == pytest.approx(weight / total, rel=1e-5, abs=1e-6)
        assert row[f"{name}_items"] == pytest.approx(np.log1p(len({other for other, _ in own})))
        latest = min([100 - day for _, day in own], default=NEVER_DAYS)
        assert row[f"{name}_days"] == latest


def test_ranks_count_within_the_owned_and_within_the_others() -> None:
    rows = features_of(user(), [0, 2, 3, 5, 7])
    assert rows[7]["one_rank"] == 0  # the best of the owned 2, 5, 7
    assert rows[2]["one_rank"] == pytest.approx(np.log1p(2))
    assert rows[3]["one_rank"] == 0  # the best of the others 0, 3
    assert rows[0]["other_rank"] == 0


def test_names_are_distinct() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_nothing_known_is_no_error() -> None:
    rows = features_of(EMPTY, [0, 1])
    assert rows[0]["baskets_log"] == 0
    assert rows[0]["type_days"] == NEVER_DAYS
