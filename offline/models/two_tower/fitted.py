"""What training leaves: item tables and the user tower's few parameters, nothing keyed by a user.

It does not know how they were trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from offline.models.two_tower.data import Ids, Ragged, likeness_of, likings
from offline.models.two_tower.model import Bags, Histories, TwoTower

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FittedTowers:
    """`vectors` (items, d) and log weights `salience` (items,) for pooling, `units` for search.

    The model is on the CPU; `units` are the vectors with length 1. `bags` are the items'
    features, and `likeness` says which those are beside the ids; None: towers without `affinity`.
    """

    model: TwoTower
    vectors: Tensor
    salience: Tensor
    units: Tensor
    bags: Bags
    likeness: sparse.csr_matrix | None

    @classmethod
    def freeze(cls, model: TwoTower, catalogue: Ragged, num_own: int) -> Self:
        """Run the item tower once over a catalogue, which need not be the one learned from.

        Its features below `num_own` say which item it is, the others what it is like.
        """
        model, bags = model.to("cpu"), catalogue.bags(np.arange(len(catalogue)))
        likeness = likeness_of(catalogue, num_own) if model.config.affinity else None
        with torch.no_grad():
            vectors, salience = model.items(bags)
            units = torch.nn.functional.normalize(vectors, dim=1)
        return cls(model, vectors, salience, units, bags, likeness)

    def embed(self, histories: Ragged, context: Ragged | None = None) -> Matrix:
        """Unit vectors (B, d) of users with these items, oldest first."""
        users = np.arange(len(histories))
        bags = histories.bags(users)
        ages = ages_of(histories)
        known = Histories(bags, ages, None if context is None else context.bags(users))
        with torch.no_grad():
            embedded: Matrix = self.model.users(self.vectors, self.salience, known).numpy()
        return embedded

    def score(self, histories: Ragged, context: Ragged | None = None) -> Matrix:
        """Cosines, plus temperature times affinities where the towers have any, (B, items)."""
        scores: Matrix = self.embed(histories, context) @ self.units.numpy().T
        if self.likeness is not None:
            scores += self.model.config.temperature * self._affinities(histories, self.likeness)
        return scores

    def _affinities(self, histories: Ragged, likeness: sparse.csr_matrix) -> Matrix:
        ones = np.ones(len(histories.ids), np.float32)
        weights = ones if histories.weights is None else histories.weights
        shape = (len(histories), len(self.vectors))
        had = sparse.csr_matrix((weights, histories.ids, histories.starts), shape)
        with torch.no_grad():
            liked: Matrix = self.model.affinities(self.bags, likings(had, likeness)).numpy()
        return liked

    def save(self, folder: Path) -> None:
        """Item tables as `.npy`, for an index and for pooling online."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("vectors", "salience", "units"):
            np.save(folder / f"{name}.npy", getattr(self, name).numpy())


def ages_of(histories: Ragged) -> Tensor:
    """How many later entries of the same row each entry has, shape (n,)."""
    lengths = np.diff(histories.starts)
    ends = np.repeat(histories.starts[1:], lengths)
    return torch.from_numpy(ends - 1 - np.arange(len(ends)))


def latest(histories: Ragged, limit: int) -> Ragged:
    """The last `limit` entries of each row."""
    lengths = np.diff(histories.starts)
    rows: Ids = np.repeat(np.arange(len(histories)), lengths)
    kept = ages_of(histories).numpy() < limit
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows[kept], minlength=len(histories)))))
    weights = histories.weights
    return Ragged(starts, histories.ids[kept], None if weights is None else weights[kept])
