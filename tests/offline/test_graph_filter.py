"""The graph filter: a known answer, and the series against the matrix inverse."""

import numpy as np
import pytest
from scipy import sparse

from offline.models.graph_filter import GraphFilterConfig, fit_graph_filter

NUM_USERS, NUM_ITEMS = 60, 40


@pytest.fixture(scope="module")
def board() -> sparse.csr_matrix:
    """Even users like even items, odd users odd ones; each has about half of them."""
    rng = np.random.default_rng(0)
    same = (np.arange(NUM_USERS)[:, None] - np.arange(NUM_ITEMS)) % 2 == 0
    return sparse.csr_matrix((same & (rng.random(same.shape) < 0.5)).astype(np.float32))


def test_it_knows_the_checkerboard(board: sparse.csr_matrix) -> None:
    scores = fit_graph_filter(board, GraphFilterConfig()).score(board)
    scores[board.nonzero()] = -np.inf
    right = scores.argmax(axis=1) % 2 == np.arange(NUM_USERS) % 2
    assert right.all()


def test_the_series_equals_the_inverse(board: sparse.csr_matrix) -> None:
    config = GraphFilterConfig(shrinkage=0.5, degree=40)
    fitted = fit_graph_filter(board, config)
    gram = (fitted.transposed @ fitted.adjacency).toarray().astype(np.float64)
    assert np.linalg.eigvalsh(gram).max() == pytest.approx(1, abs=1e-3)
    step = gram @ np.linalg.inv(gram + 0.5 * np.eye(NUM_ITEMS))
    expected = board.toarray() * fitted.item_in @ (step @ step).T * fitted.item_out
    np.testing.assert_allclose(fitted.score(board), expected, atol=1e-4)


def test_an_item_without_users_scores_nothing(board: sparse.csr_matrix) -> None:
    nobody = sparse.csr_matrix((NUM_USERS, 1), dtype=np.float32)
    wider = sparse.hstack([board, nobody]).tocsr()
    assert not fit_graph_filter(wider, GraphFilterConfig()).score(wider)[:, -1].any()
