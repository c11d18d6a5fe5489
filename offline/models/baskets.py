"""Histories of baskets as columns: users, the order of baskets, items; no clock is needed.

Models of the next basket share one layout and one way to hide the last baskets. It knows no files.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baskets:
    """Lines, shape (n,): user, item, and `back`, how many later baskets the same user has."""

    user: Ids
    item: Ids
    back: Ids
    num_users: int
    num_items: int

    def without_newest(self, number: int) -> "Baskets":
        """The history with the newest `number` baskets of every user hidden."""
        kept = self.back >= number
        columns = (self.user[kept], self.item[kept], self.back[kept] - number)
        return Baskets(*columns, self.num_users, self.num_items)

    def only(self, back: int) -> sparse.csr_matrix:
        """Ones (users, items): the basket with `back` later ones."""
        return self.matrix(np.where(self.back == back, 1.0, 0.0))

    def matrix(self, weight: NDArray[np.floating]) -> sparse.csr_matrix:
        """The sums of the lines' weights (users, items), zeros dropped."""
        shape = (self.num_users, self.num_items)
        summed = sparse.csr_matrix((weight, (self.user, self.item)), shape=shape)
        summed.eliminate_zeros()
        return summed

    def num_baskets(self) -> Ids:
        """The number of baskets of every user, shape (users,)."""
        number = np.zeros(self.num_users, np.int64)
        np.maximum.at(number, self.user, self.back + 1)
        return number


def from_positions(user: Ids, position: Ids, item: Ids, num_users: int, num_items: int) -> Baskets:
    """Baskets from any integers `position` that order a user's baskets."""
    base = int(position.max()) + 1
    key, inverse = np.unique(user * base + position, return_inverse=True)
    newest = np.searchsorted(key // base, np.arange(num_users), side="right") - 1
    return Baskets(user, item, newest[user] - inverse, num_users, num_items)
