"""Items described by what is bought with them: one step of light graph convolution as features.

An item's vector becomes a mix of its own embedding and its nearest neighbours', so that a rare
item learns from common ones. It knows matrices only.
"""

from typing import Final

import numpy as np
from scipy import sparse

from offline.models.two_tower.data import Ragged

BLOCK: Final = 2048


def with_neighbours(matrix: sparse.csr_matrix, num_neighbours: int, share: float) -> Ragged:
    """Each item's own id with weight 1 - share, and its neighbours' ids with weights of sum share.

    `matrix` is binary, shape (users, items). Neighbours are the largest entries of the
    degree-normalised co-occurrence A'A, A = Du^-1/2 R Di^-1/2 (He et al., LightGCN, 2020), pruned.
    """
    users, items = (np.maximum(np.asarray(matrix.sum(axis)).ravel(), 1) ** -0.5 for axis in (1, 0))
    adjacency = (sparse.diags(users) @ matrix @ sparse.diags(items)).tocsr().astype(np.float32)
    starts = range(0, matrix.shape[1], BLOCK)
    smooth = sparse.vstack([_pruned(adjacency, start, num_neighbours) for start in starts])
    own = sparse.identity(matrix.shape[1], np.float32, "csr")
    bags = ((1 - share) * own + share * smooth).tocsr()
    starts_of = bags.indptr.astype(np.int64)
    return Ragged(starts_of, bags.indices.astype(np.int64), bags.data.astype(np.float32))


def _pruned(adjacency: sparse.csr_matrix, start: int, keep: int) -> sparse.csr_matrix:
    """Rows from `start` on of A'A without the diagonal, the `keep` largest of each, sum 1."""
    block = (adjacency[:, start : start + BLOCK].T @ adjacency).tocsr()
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    block.data[block.indices == rows + start] = 0
    order = np.lexsort((block.indices, -block.data, rows))
    rank = np.arange(block.nnz) - block.indptr[rows[order]]
    best = order[(rank < keep) & (block.data[order] > 0)]
    total = np.bincount(rows[best], block.data[best], block.shape[0])
    values = (block.data[best] / total[rows[best]]).astype(np.float32)
    return sparse.csr_matrix((values, (rows[best], block.indices[best])), shape=block.shape)
