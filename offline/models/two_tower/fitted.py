"""What training leaves: item tables and the user tower's few parameters, nothing keyed by a user.

It does not know how they were trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline.models.two_tower.data import Ids, Ragged
from offline.models.two_tower.model import Histories, TwoTower

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FittedTowers:
    """`vectors` (items, d) and log weights `salience` (items,) for pooling, `units` for search.

    The model is on the CPU; `units` are the vectors with length 1.
    """

    model: TwoTower
    vectors: Tensor
    salience: Tensor
    units: Tensor

    @classmethod
    def freeze(cls, model: TwoTower, catalogue: Ragged) -> Self:
        """Run the item tower once over a catalogue, which need not be the one learned from."""
        model = model.to("cpu")
        with torch.no_grad():
            vectors, salience = model.items(catalogue.bags(np.arange(len(catalogue))))
            return cls(model, vectors, salience, torch.nn.functional.normalize(vectors, dim=1))

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
        """Cosines (B, items)."""
        scores: Matrix = self.embed(histories, context) @ self.units.numpy().T
        return scores

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
