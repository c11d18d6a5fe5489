"""Next-basket features: positions, hidden baskets, frequencies and transitions by hand."""

import numpy as np
import pytest

from offline.models.basket_features import FEATURES, BasketSourceConfig, build_rows
from offline.models.basket_knn import BasketKnnConfig, frequency_vectors, neighbour_scores
from offline.models.baskets import Baskets, from_positions

USER = np.array([0, 0, 0, 1, 1, 1])
POSITION = np.array([3, 7, 7, 1, 2, 5])
ITEM = np.array([0, 0, 1, 2, 2, 3])


def small() -> Baskets:
    return from_positions(USER, POSITION, ITEM, 2, 4)


def shop() -> Baskets:
    """Even users buy even items, odd users odd ones; four baskets of three each."""
    rng = np.random.default_rng(4)
    user, position, item = [], [], []
    for one in range(40):
        for basket in range(4):
            chosen = rng.choice(np.arange(one % 2, 24, 2), 3, replace=False)
            user += [one] * 3
            position += [basket] * 3
            item += chosen.tolist()
    return from_positions(np.array(user), np.array(position), np.array(item), 40, 24)


def test_back_counts_later_baskets() -> None:
    assert small().back.tolist() == [1, 0, 0, 2, 1, 0]
    assert small().num_baskets().tolist() == [2, 3]


def test_hidden_baskets_are_hidden() -> None:
    past = small().without_newest(1)
    assert past.item.tolist() == [0, 2, 2]
    assert past.back.tolist() == [0, 1, 0]
    assert small().only(0).toarray().tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]


def test_frequencies_as_in_the_paper() -> None:
    config = BasketKnnConfig(within=0.5, between=0.5, group=2)
    vectors = frequency_vectors(small(), config).toarray()
    # User 1 has a group of the newest two baskets and one of the oldest: (1 and .5) / 2 / 2 groups.
    np.testing.assert_allclose(vectors[1], [0, 0, 0.5 / 4 + 0.5 / 2, 1 / 4])


def test_neighbours_are_others() -> None:
    vectors = frequency_vectors(shop(), BasketKnnConfig())
    scores = neighbour_scores(vectors, BasketKnnConfig(num_neighbours=10)).toarray()
    right = scores[np.arange(40)[:, None] % 2 == np.arange(24) % 2].sum()
    assert right > 0.99 * scores.sum()


def test_features_of_a_pair_by_hand() -> None:
    rows = build_rows(shop(), np.arange(40), BasketSourceConfig(min_users=1))
    assert rows.features.shape == (len(rows.user), len(FEATURES))
    assert np.isfinite(rows.features).all()
    baskets = shop()
    pairs = list(zip(rows.user.tolist(), rows.item.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    for number in range(0, len(pairs), 37):
        mine = (baskets.user == pairs[number][0]) & (baskets.item == pairs[number][1])
        assert rows.column("count")[number] == mine.sum()
        decayed = (0.8 ** baskets.back[mine]).sum()
        assert rows.column("decay_80")[number] == pytest.approx(decayed, rel=1e-5)
        last = baskets.back[mine].min() if mine.any() else 99
        assert rows.column("last_back")[number] == last
