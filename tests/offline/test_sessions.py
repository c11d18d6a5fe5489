"""Session models where the next click is known, and their fast forms against slow ones."""

import numpy as np

from offline.models.session_knn import SessionKnnConfig, fit_session_knn, score_session_knn
from offline.models.session_network import (
    SessionNetworkConfig,
    fit_session_network,
    score_session_network,
)
from offline.models.sessions import Sessions, chosen, from_lists, padded_tail, prefixes
from offline.models.transitions import TransitionConfig, fit_transitions, score_transitions
from offline.progress import QUIET

NUM_ITEMS = 30


def circle(num_sessions: int = 300) -> Sessions:
    """After item i comes i + 1, and after the last the first."""
    rng = np.random.default_rng(2)
    starts, lengths = rng.integers(0, NUM_ITEMS, num_sessions), rng.integers(2, 6, num_sessions)
    pairs = zip(starts, lengths, strict=True)
    return from_lists([[(first + k) % NUM_ITEMS for k in range(size)] for first, size in pairs])


ASKED = from_lists([[item, (item + 1) % NUM_ITEMS] for item in range(NUM_ITEMS)])
NEXT = (np.arange(NUM_ITEMS) + 2) % NUM_ITEMS


def test_prefixes_are_followed_by_their_targets() -> None:
    asked, targets = prefixes(from_lists([[1, 2, 3], [4], [5, 6]]))
    assert asked.items.tolist() == [1, 1, 2, 5]
    assert asked.starts.tolist() == [0, 1, 3, 4]
    assert targets.tolist() == [2, 3, 6]


def test_chosen_sessions_and_tails() -> None:
    few = chosen(from_lists([[1, 2, 3], [4], [5, 6]]), np.array([2, 0]))
    assert (few.items.tolist(), few.starts.tolist()) == ([5, 6, 1, 2, 3], [0, 2, 5])
    assert padded_tail(few, 3, -1).tolist() == [[6, 5, -1], [3, 2, 1]]


def test_transitions_find_what_comes_next() -> None:
    config = TransitionConfig(history=1, backward_weight=0.1)
    weights = fit_transitions(circle(), NUM_ITEMS, config)
    assert (score_transitions(weights, ASKED, config).toarray().argmax(axis=1) == NEXT).all()


def test_transitions_equal_a_sum_over_pairs() -> None:
    sessions = from_lists([[0, 1, 2], [2, 0]])
    config = TransitionConfig(recency=1.0, shrink=0.0, out_power=0.0, popularity_power=0.0)
    expected = np.zeros((3, 3))
    for row in ([0, 1, 2], [2, 0]):
        for i, one in enumerate(row):
            for j, other in enumerate(row):
                if i != j:
                    side = 1.0 if j > i else config.backward_weight
                    expected[one, other] += side * abs(j - i) ** -config.decay
    found = fit_transitions(sessions, 3, config).toarray()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_neighbours_vote_for_what_comes_next() -> None:
    config = SessionKnnConfig()
    votes = score_session_knn(fit_session_knn(circle(), NUM_ITEMS, config), ASKED, config)
    scores = votes.toarray()
    scores[np.arange(NUM_ITEMS), np.arange(NUM_ITEMS)] = 0
    scores[np.arange(NUM_ITEMS), (np.arange(NUM_ITEMS) + 1) % NUM_ITEMS] = 0
    near = (scores.argmax(axis=1) - np.arange(NUM_ITEMS)) % NUM_ITEMS
    assert set(near.tolist()) <= {2, NUM_ITEMS - 1}


def test_a_prefix_that_nobody_shares_gets_no_votes() -> None:
    config = SessionKnnConfig()
    index = fit_session_knn(from_lists([[0, 1], [1, 2]]), 5, config)
    votes = score_session_knn(index, from_lists([[4], [0]]), config)
    assert votes[0].nnz == 0
    assert votes[1].nnz > 0


def test_the_network_learns_what_comes_next() -> None:
    config = SessionNetworkConfig(
        dim=16, num_negatives=64, batch_size=32, num_epochs=15, learning_rate=1e-2, dropout=0.0
    )
    network = fit_session_network(circle(), NUM_ITEMS, config, QUIET)
    scores = np.concatenate(list(score_session_network(network, ASKED, chunk=7)))
    assert scores.shape == (NUM_ITEMS, NUM_ITEMS)
    assert np.mean(scores.argmax(axis=1) == NEXT) > 0.95
