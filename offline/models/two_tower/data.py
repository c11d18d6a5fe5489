"""What the trainer reads: plain NumPy arrays of users' histories and items' features.

No Polars and no shop: whoever has arrays of this form, from a file or made by another process,
can train. `read_arrays` and `write_arrays` are that file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from offline.models.two_tower.model import Bags

Ids = NDArray[np.int64]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of ids of different length: row r is `ids[starts[r] : starts[r + 1]]`.

    `weights` has the shape of `ids`; None: all 1.
    """

    starts: Ids
    ids: Ids
    weights: Weights | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.starts) - 1

    def places(self, rows: Ids) -> tuple[Ids, Ids]:
        """Where in `ids` the given rows lie, one after another, and which of `rows` each is in."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), lengths)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.starts[rows][owner] + within, owner

    def bags(self, rows: Ids) -> Bags:
        """The given rows as tensors, in their order."""
        places, owner = self.places(rows)
        bags = as_bags(self.ids[places], owner, len(rows))
        if self.weights is None:
            return bags
        return replace(bags, weights=torch.from_numpy(self.weights[places]))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """`histories` holds items of each user, oldest first; `catalogue` feature ids of each item.

    No item twice in a history; weights of histories, positive, say how much it was bought.

    The first `num_own` features say which item it is, the others what it is like. `context`
    holds ids of what is known of each user; None: nothing.
    """

    histories: Ragged
    catalogue: Ragged
    num_own: int
    context: Ragged | None = None

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.catalogue)


def likings(kept: sparse.csr_matrix, likeness: sparse.csr_matrix) -> Bags:
    """log(1 + how much a user had) of each feature, from weights (users, items).

    `likeness` (items, features) is that of `likeness_of`.
    """
    had = (kept @ likeness).tocsr()
    had.sort_indices()
    rows = np.repeat(np.arange(had.shape[0]), np.diff(had.indptr))
    bags = as_bags(had.indices.astype(np.int64), rows, had.shape[0])
    return replace(bags, weights=torch.from_numpy(np.log1p(had.data).astype(np.float32)))


def likeness_of(catalogue: Ragged, num_own: int) -> sparse.csr_matrix:
    """1 where an item has a feature that is not its own id, shape (items, features)."""
    shared = catalogue.ids >= num_own
    rows = np.repeat(np.arange(len(catalogue)), np.diff(catalogue.starts))[shared]
    shape = (len(catalogue), max(num_own, int(catalogue.ids.max(initial=0)) + 1))
    ones = np.ones(len(rows), np.float32)
    return sparse.csr_matrix((ones, (rows, catalogue.ids[shared])), shape)


def as_bags(ids: Ids, rows: Ids, num_rows: int) -> Bags:
    """Tensors of ids whose row numbers ascend."""
    offsets = np.searchsorted(rows, np.arange(num_rows))
    return Bags(torch.from_numpy(ids), torch.from_numpy(offsets), torch.from_numpy(rows))


def ragged(rows: Ids, ids: Ids, num_rows: int, weights: Weights | None = None) -> Ragged:
    """Rows from pairs in any order; within a row the order of the pairs is kept."""
    order = np.argsort(rows, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=num_rows))))
    return Ragged(starts, ids[order], None if weights is None else weights[order])


def only_ids(num_items: int) -> Ragged:
    """Items whose only feature is their own id."""
    return Ragged(np.arange(num_items + 1), np.arange(num_items))


def write_arrays(path: Path, data: TrainingData) -> None:
    """Write an `.npz` archive that `read_arrays` reads, for a trainer elsewhere."""
    arrays = {"num_own": np.array(data.num_own)}
    for part in ("histories", "catalogue", "context"):
        arrays |= {f"{part}_{name}": values for name, values in _columns(getattr(data, part))}
    np.savez(path, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> TrainingData:
    """The archive of `write_arrays`; KeyError when it lacks histories or catalogue."""
    with np.load(path) as archive:
        arrays = dict(archive)
    has_context = "context_starts" in arrays
    return TrainingData(
        _ragged_of(arrays, "histories"),
        _ragged_of(arrays, "catalogue"),
        int(arrays["num_own"]),
        _ragged_of(arrays, "context") if has_context else None,
    )


def _columns(part: Ragged | None) -> Iterator[tuple[str, NDArray[np.generic]]]:
    if part is not None:
        yield "starts", part.starts
        yield "ids", part.ids
        if part.weights is not None:
            yield "weights", part.weights


def _ragged_of(arrays: dict[str, NDArray[np.generic]], part: str) -> Ragged:
    starts, ids = (arrays[f"{part}_{name}"].astype(np.int64) for name in ("starts", "ids"))
    weights = arrays.get(f"{part}_weights")
    return Ragged(starts, ids, None if weights is None else weights.astype(np.float32))
