"""What slates are worth beside being right: coverage, novelty, diversity, popularity bias.

Slates are a matrix of item indexes, shape (users, k), padded with -1; it knows nobody's purchases
and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.ranking import GROUPS
from offline.dataset import Dataset
from online.snapshot import Snapshot

Slates = NDArray[np.int64]
Floats = NDArray[np.float64]

USERS_AT_ONCE: Final = 4_096


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of each item before the cut, arrays of shape (items,).

    `popularity`: the share of users who bought it; `category`: a code; `first_time`: of its first
    sale, microseconds UTC. `directions`: ALS vectors of length 1, shape (items, factors).
    """

    popularity: Floats
    category: NDArray[np.int32]
    first_time: NDArray[np.int64]
    directions: NDArray[np.float32]


def item_facts(snapshot: Snapshot, past: Dataset) -> ItemFacts:
    """The facts of a bundle's items; `past` is what the bundle was learned from."""
    pairs = past.purchases.user.astype(np.int64) * past.num_items + past.purchases.item
    num_users = np.bincount(np.unique(pairs) % past.num_items, minlength=past.num_items)
    bundle = snapshot.bundle
    return ItemFacts(
        popularity=num_users / max(len(past.users), 1),
        category=bundle.array("ranking/groups")[:, GROUPS.index("category")],
        first_time=bundle.array("ranking/first_time"),
        directions=bundle.array("als_similar/vectors"),
    )


def as_matrix(slates: Sequence[Sequence[int]], k: int) -> Slates:
    """The first `k` items of each slate, shape (slates, k), padded with -1."""
    matrix = np.full((len(slates), k), -1, np.int64)
    for row, slate in zip(matrix, slates, strict=True):
        row[: len(slate)] = slate[:k]
    return matrix


def coverage(slates: Slates, num_items: int) -> float:
    """The share of the catalogue that is in somebody's slate."""
    return len(np.unique(slates[slates >= 0])) / max(num_items, 1)


def novelty(slates: Slates, popularity: Floats) -> Floats:
    """Mean self-information of a slate's items in bits, shape (users,).

    -log2 of the share of users who bought the item (Zhou et al. 2010).
    """
    known = popularity[popularity > 0]
    floor = float(known.min()) if len(known) else 1.0
    return slate_means(slates, -np.log2(np.maximum(popularity, floor)))


def slate_means(slates: Slates, values: Floats) -> Floats:
    """The mean of the items' values over each slate, shape (users,), NaN for an empty slate."""
    shown = slates >= 0
    total = np.where(shown, values[np.maximum(slates, 0)], 0.0).sum(axis=1)
    number = shown.sum(axis=1)
    means = np.full(len(slates), np.nan)
    np.divide(total, number, out=means, where=number > 0)
    return means


def diversity(slates: Slates, directions: NDArray[np.float32]) -> Floats:
    """1 - mean cosine of the pairs of a slate's items, shape (users,) (Ziegler et al. 2005).

    NaN for slates of fewer than two items. An item without direction resembles nothing.
    """
    found = [
        _diversity(slates[first : first + USERS_AT_ONCE], directions)
        for first in range(0, len(slates), USERS_AT_ONCE)
    ]
    return np.concatenate(found) if found else np.zeros(0)


def _diversity(slates: Slates, directions: NDArray[np.float32]) -> Floats:
    shown = slates >= 0
    vectors = directions[np.maximum(slates, 0)].astype(np.float64) * shown[..., None]
    # The sum over all pairs is the squared length of the sum, less each item with itself.
    together = (vectors.sum(axis=1) ** 2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))
    return _without_likeness(together, shown.sum(axis=1))


def category_diversity(slates: Slates, category: NDArray[np.int32]) -> Floats:
    """The share of pairs of a slate's items that are of different categories, shape (users,)."""
    codes = np.where(slates >= 0, category[np.maximum(slates, 0)], -1)
    shown = codes >= 0
    same = (codes[:, :, None] == codes[:, None, :]) & shown[:, :, None]
    number = shown.sum(axis=1)
    return _without_likeness(same.sum(axis=(1, 2)) - number, number)


def _without_likeness(likeness: Floats, number: NDArray[np.int64]) -> Floats:
    """1 - likeness summed over ordered pairs / pairs; NaN where there are none."""
    pairs = number * (number - 1)
    out = np.full(len(number), np.nan)
    np.divide(likeness, pairs, out=out, where=pairs > 0)
    return 1.0 - out
