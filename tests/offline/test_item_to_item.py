"""Item to item on baskets whose answer is known, and blocks against the whole at once."""

import numpy as np
import pytest
from scipy import sparse

from feature_store.codes import category_tree, inverted
from offline.dataset import Purchases
from offline.models import item_to_item
from offline.models.item_to_item import (
    MAX_ROW_ITEMS,
    Neighbours,
    baskets_of,
    discounted_lift,
    fit_also_bought,
    fit_bought_with,
    fit_neighbours,
    incidence,
    tempered_lift,
)

MINUTE = 60_000_000


def bought(*rows: tuple[int, int, float]) -> Purchases:
    """Purchases as (user, item, minute), sorted by time."""
    rows = tuple(sorted(rows, key=lambda row: row[2]))
    user, item, minute = zip(*rows, strict=True)
    time = (np.array(minute) * MINUTE).astype(np.int64)
    ones = np.ones(len(rows), np.float32)
    return Purchases(np.array(user, np.int32), np.array(item, np.int32), time, ones)


def of(fitted: Neighbours, item: int) -> dict[int, float]:
    rows = slice(fitted.ends[item - 1] if item else 0, fitted.ends[item])
    return dict(zip(fitted.items[rows].tolist(), fitted.scores[rows].tolist(), strict=True))


def test_a_basket_is_what_follows_without_a_long_pause() -> None:
    purchases = bought((0, 1, 0), (1, 2, 5), (0, 3, 20), (0, 4, 49), (0, 5, 200))
    baskets = baskets_of(purchases)
    assert baskets[0] == baskets[2] == baskets[3]
    assert len(set(baskets.tolist())) == 3


def test_pairs_count_more_than_popularity() -> None:
    """Bread (0) is in every basket; tea (1) and biscuits (2) always come together."""
    rows = []
    for basket in range(40):
        rows.append((basket, 0, 0.0))
        rows += [(basket, 1, 1.0), (basket, 2, 1.0)] if basket % 4 == 0 else [(basket, 3, 1.0)]
    fitted = fit_bought_with(bought(*rows), 5)
    assert list(of(fitted, 1)) == [2]  # bread is with tea as often as with everything
    assert list(of(fitted, 2)) == [1]
    assert of(fitted, 0) == {}
    assert of(fitted, 4) == {}
    tempered = (10 - 1) / (10 + 10) * (40 / (10 + 10)) ** 0.6
    assert of(fitted, 1)[2] == pytest.approx(tempered, rel=1e-5)


def test_the_lift_is_the_log_of_more_pairs_than_expected() -> None:
    counts = (np.array([10.0]), np.array([10.0]), np.array([10.0]))
    lift = np.log(10 * 40 / (10 * 10)) * (10 / 11) * (10 / 11)
    assert discounted_lift(*counts, 40)[0] == pytest.approx(lift, rel=1e-9)


def test_what_popularity_explains_speaks_for_nothing() -> None:
    pairs, first, second = np.array([5.0, 6.0]), np.array([10.0, 10.0]), np.array([50.0, 50.0])
    none, some = tempered_lift(pairs, first, second, 100)
    assert none == 0.0 < some


def test_chance_meetings_do_not_count() -> None:
    rows = [(0, 0, 0.0), (0, 1, 0.0), *((user, 2, 0.0) for user in range(1, 30))]
    assert of(fit_bought_with(bought(*rows), 3), 0) == {}


def test_what_the_same_users_buy_need_not_be_in_one_basket() -> None:
    rows = [(user, item, 1_000.0 * item) for user in range(6) for item in (0, 1)]
    rows += [(user, 2, 0.0) for user in range(6, 12)]
    purchases = bought(*rows)
    assert of(fit_bought_with(purchases, 3), 0) == {}
    assert of(fit_also_bought(purchases, 3), 0) == {1: pytest.approx(6 / 11)}


def test_blocks_give_what_the_whole_would(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    rows = sparse.csr_matrix((rng.random((300, 80)) < 0.1).astype(np.float32))
    whole = fit_neighbours(rows, discounted_lift, 7, 2)
    monkeypatch.setattr(item_to_item, "MAX_BLOCK_PAIRS", 500)
    parts = fit_neighbours(rows, discounted_lift, 7, 2)
    for name in ("ends", "items", "scores"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    pairs = (rows.T @ rows).toarray()
    count = np.diag(pairs)
    for item in range(80):
        with np.errstate(divide="ignore", invalid="ignore"):
            value = discounted_lift(pairs[item], np.full(80, count[item]), count, 300)
        value[(pairs[item] < 2) | (np.arange(80) == item) | ~(value > 0)] = -1
        best = np.lexsort((np.arange(80), -value))[:7]
        assert list(of(whole, item)) == [one for one in best.tolist() if value[one] > 0]


def test_a_huge_basket_is_thinned() -> None:
    items = np.arange(1_000, dtype=np.int32)
    matrix = incidence(np.zeros(1_000, np.int64), items, 1_000)
    assert MAX_ROW_ITEMS <= matrix.nnz <= MAX_ROW_ITEMS + 1
    small = incidence(np.zeros(3, np.int64), np.array([5, 5, 7], np.int32), 9)
    assert small.toarray().tolist() == [[0, 0, 0, 0, 0, 1, 0, 1, 0]]


def test_nothing_bought_has_no_neighbours() -> None:
    none = np.zeros(0, np.int32)
    empty = Purchases(none, none, np.zeros(0, np.int64), np.zeros(0, np.float32))
    fitted = fit_bought_with(empty, 3)
    assert fitted.ends.tolist() == [0, 0, 0]


def test_a_category_tree_lies_in_preorder() -> None:
    names, codes, ends = category_tree(["A > B", "C", "A > B > D", "A", "A > E", ""])
    assert names == ["", "A", "A > B", "A > B > D", "A > E", "C"]
    assert codes.tolist() == [2, 5, 3, 1, 4, 0]
    assert ends.tolist() == [1, 5, 4, 4, 5, 6]


def test_words_lead_to_items() -> None:
    words, ends, items = inverted([["b", "a", "b"], [], ["b"]], empty="")
    assert words == ["", "a", "b"]
    assert [part.tolist() for part in np.split(items, ends[:-1])] == [[1], [0], [0, 2]]
    assert inverted([[], []], empty=None)[0] == []
