"""Ranking measures over the full catalogue for many users at a time, as the public tables have it.

Recall@k here is hits / number of hidden items (LightGCN's definition, which the tables of Gowalla
and Ta-Feng use), while `offline.metrics` divides by min(k, hidden). NDCG's ideal has min(k, hidden)
hits in both. It does not know how scores are made.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

Ids = NDArray[np.int64]
Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Split:
    """Binary CSR matrices (users, items): what is known, and what is to be found."""

    known: sparse.csr_matrix
    hidden: sparse.csr_matrix


def binary_matrix(users: Ids, items: Ids, shape: tuple[int, int]) -> sparse.csr_matrix:
    """1 where the user has the item, float32; repeated pairs count once."""
    matrix = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def hold_out(matrix: sparse.csr_matrix, share: float, seed: int) -> Split:
    """Hide a random `share` of each user's pairs, at least one where there are two or more."""
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(matrix.shape[0]), counts)
    order = np.lexsort((np.random.default_rng(seed).random(matrix.nnz), rows))
    rank = np.empty(matrix.nnz, np.int64)
    rank[order] = np.arange(matrix.nnz)
    rank -= matrix.indptr[rows]
    quota = np.where(counts > 1, np.maximum(1, np.rint(share * counts)), 0)
    hidden = rank < quota[rows]
    parts = (
        binary_matrix(rows[mask], matrix.indices[mask].astype(np.int64), matrix.shape)
        for mask in (~hidden, hidden)
    )
    return Split(*parts)


def best_items(scores: Matrix, known: sparse.csr_matrix, k: int) -> Ids:
    """The k best items of each row (B, k), those in `known` left out. Overwrites `scores`."""
    rows = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
    scores[rows, known.indices] = -np.inf
    best: Ids = torch.from_numpy(scores).topk(k, dim=1).indices.numpy()
    return best


def recall_and_ndcg(best: Ids, hidden: sparse.csr_matrix) -> tuple[Floats, Floats]:
    """Recall and NDCG (B,) of ranked items (B, k); every row must hide one."""
    k = best.shape[1]
    rows = np.repeat(np.arange(len(best)), k)
    hits = np.asarray(hidden[rows, best.ravel()], np.float64).reshape(best.shape)
    counts = np.diff(hidden.indptr)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(counts, k) - 1]
    return hits.sum(1) / counts, hits @ discount / ideal


def standardised(scores: Matrix) -> Matrix:
    """Each row with mean 0 and deviation 1, so that models can be summed."""
    centred: Matrix = scores - scores.mean(1, keepdims=True)
    centred /= np.maximum(centred.std(1, keepdims=True), 1e-12)
    return centred
