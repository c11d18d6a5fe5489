"""TIFU-KNN's two halves: temporal item frequency of a user, and that of the nearest users.

Strong and simple, and features of a ranker. It knows no dates.

Hu, He, Gao and Zhang, "Modeling Personalized Item Frequency Information for Next-basket
Recommendation" (SIGIR 2020): a basket b places back weighs within^(b mod group) *
between^(b div group); vectors are averaged over the baskets of a group and over groups.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import sparse

from offline.models.baskets import Baskets

CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class BasketKnnConfig:
    """In the paper's names: within r_b, between r_g, group m, num_neighbours k."""

    within: float = 0.9
    between: float = 0.9
    group: int = 7
    num_neighbours: int = 300


def frequency_vectors(history: Baskets, config: BasketKnnConfig) -> sparse.csr_matrix:
    """Temporal item frequencies (users, items)."""
    number = np.maximum(history.num_baskets(), 1)
    groups = -(-number // config.group)
    oldest = number - (groups - 1) * config.group
    place = history.back // config.group
    is_oldest = place == groups[history.user] - 1
    size = np.where(is_oldest, oldest[history.user], config.group)
    weight = config.within ** (history.back % config.group) * config.between**place
    return history.matrix(weight / size / groups[history.user])


def neighbour_scores(vectors: sparse.csr_matrix, config: BasketKnnConfig) -> sparse.csr_matrix:
    """The mean vector of the nearest other users by cosine, shape (users, items)."""
    norm = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    unit = (sparse.diags(1.0 / np.maximum(norm, 1e-9)) @ vectors).astype(np.float32).tocsr()
    keep = min(config.num_neighbours, vectors.shape[0] - 1)
    rows = []
    for start in range(0, vectors.shape[0], CHUNK):
        similarity = (unit[start : start + CHUNK] @ unit.T).toarray()
        own = np.arange(len(similarity))
        similarity[own, start + own] = -1.0
        best = np.argpartition(-similarity, keep, axis=1)[:, :keep]
        share = np.full(best.size, 1.0 / keep)
        starts = np.arange(0, best.size + 1, keep)
        rows.append(sparse.csr_matrix((share, best.ravel(), starts), similarity.shape) @ vectors)
    return sparse.vstack(rows, format="csr")
