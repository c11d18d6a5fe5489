"""Item-to-item session transitions that fade with distance.

For an anonymous visitor the last clicks say most, and one sparse row per click is the cheapest
strong source. It knows no clock (sessions come oldest first) and no filters.

C[i, j] = sum over pairs of a session of w(p_j - p_i) recency^(age of the session, 0 to 1), where
w(d) = d^-decay forward and backward_weight d^-decay backward; rows are divided by (count of i +
shrink)^out_power and columns by (count of j)^popularity_power: the sequential rules of Ludewig
and Jannach (UMUAI 2018), made two-sided.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offline.models.sessions import Sessions, padded_tail


@dataclass(frozen=True, slots=True)
class TransitionConfig:
    """`window`: the farthest step counted; `history`: how many last clicks ask."""

    window: int = 10
    decay: float = 0.7
    backward_weight: float = 0.5
    recency: float = 0.3
    shrink: float = 3.0
    out_power: float = 0.7
    popularity_power: float = 0.1
    history: int = 8
    history_decay: float = 0.7
    num_neighbours: int = 200


def fit_transitions(
    sessions: Sessions, num_items: int, config: TransitionConfig
) -> sparse.csr_matrix:
    """Weights (items, items), the `num_neighbours` largest of each row."""
    items, owner = sessions.items, sessions.session_of
    age = (len(sessions) - 1 - owner) / max(len(sessions), 1)
    fresh = config.recency**age
    total = sparse.csr_matrix((num_items, num_items), dtype=np.float64)
    for step in range(1, config.window + 1):
        same = owner[step:] == owner[:-step]
        weight = fresh[step:][same] * float(step) ** -config.decay
        place = (items[:-step][same], items[step:][same])
        forward = sparse.csr_matrix((weight, place), shape=total.shape)
        total = total + forward + config.backward_weight * forward.T.tocsr()
    popularity = np.bincount(items, fresh, minlength=num_items).astype(np.float64)
    return _normalised(total.tocsr(), popularity, config)


def _normalised(
    total: sparse.csr_matrix, popularity: NDArray[np.float64], config: TransitionConfig
) -> sparse.csr_matrix:
    rows = sparse.diags((popularity + config.shrink) ** -config.out_power)
    columns = sparse.diags(np.maximum(popularity, 1.0) ** -config.popularity_power)
    return _largest((rows @ total @ columns).tocsr(), config.num_neighbours)


def _largest(matrix: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """The `keep` largest entries of every row."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, row))
    rank = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    kept = order[rank < keep]
    place = (row[kept], matrix.indices[kept])
    return sparse.csr_matrix((matrix.data[kept], place), shape=matrix.shape)


def score_transitions(
    weights: sparse.csr_matrix, prefixes: Sessions, config: TransitionConfig
) -> sparse.csr_matrix:
    """Scores (prefixes, items): the rows of the last clicks, fading backwards, summed."""
    num_items = weights.shape[0]
    tail = padded_tail(prefixes, config.history, num_items)
    row, back = np.nonzero(tail < num_items)
    place = (row, tail[row, back])
    query = sparse.csr_matrix((config.history_decay**back, place), shape=(len(prefixes), num_items))
    return (query @ weights).tocsr()
