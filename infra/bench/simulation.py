"""What the synthetic shop's users buy: repeats, tastes and popularity, over a year of visits.

Vectorised over all purchases. A choice is one of three: something bought before (a draw from the
own past, so that favourites emerge by themselves), something of the user's taste, or what
sells. It knows no model: what a model finds in it, it has to learn.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from infra.bench.catalogue import NUM_STYLES, Catalogue

SHARE_REPEATS: Final = 0.35
SHARE_OF_CELL: Final = 0.70
SHARE_OF_CATEGORY: Final = 0.18
"""The other choices that are no repeats come from the whole shop."""

TASTES_PER_USER: Final = 6
MEAN_VISITS: Final = 13.0
MAX_VISITS: Final = 150
MEAN_BASKET: Final = 4.0
BUSY_HOUR: Final = 16.0


@dataclass(frozen=True, slots=True)
class History:
    """Purchases as columns of one length, by user and then by time (microseconds UTC)."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    visit: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of purchases."""
        return len(self.user)


def simulate(
    catalogue: Catalogue,
    num_users: int,
    start_time: int,
    num_days: int,
    rng: np.random.Generator,
) -> History:
    """Every user's purchases in the days after `start_time` (microseconds UTC)."""
    user, time = _visits(num_users, start_time, num_days, rng)
    visit = np.repeat(np.arange(len(user)), 1 + rng.poisson(MEAN_BASKET - 1, len(user)))
    buyer = user[visit]
    item = _fresh_choices(catalogue, _tastes(catalogue, num_users, rng), buyer, rng)
    return History(buyer, item[_origins(buyer, visit, rng)], time[visit], visit)


def _visits(
    num_users: int, start_time: int, num_days: int, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The user and instant of each visit, sorted by both. Everybody comes at least once."""
    drawn = rng.lognormal(np.log(MEAN_VISITS) - 0.5, 1.0, num_users)
    user = np.repeat(
        np.arange(num_users, dtype=np.int32), np.clip(drawn, 1, MAX_VISITS).astype(int)
    )
    day = rng.integers(0, num_days, len(user))
    hour = rng.normal(BUSY_HOUR, 4.0, len(user)) % 24
    time = start_time + ((day + hour / 24) * MICROSECONDS_PER_DAY).astype(np.int64)
    order = np.lexsort((time, user))
    return user[order], time[order]


def _tastes(catalogue: Catalogue, num_users: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cells that each user likes, most liked first, shape (users, TASTES_PER_USER)."""
    size = (num_users, TASTES_PER_USER)
    weight = np.diff(np.concatenate(([0], catalogue.cell_ends[NUM_STYLES - 1 :: NUM_STYLES])))
    heaped = np.cumsum(weight) / len(catalogue)
    category = np.minimum(np.searchsorted(heaped, rng.random(size)), len(weight) - 1)
    return category * NUM_STYLES + rng.integers(NUM_STYLES, size=size)


def _fresh_choices(
    catalogue: Catalogue,
    tastes: NDArray[np.int64],
    buyer: NDArray[np.int32],
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """What each purchase would be if it were no repeat, shape (purchases,)."""
    favour = (TASTES_PER_USER * rng.random(len(buyer)) ** 2).astype(np.intp)
    first = tastes[buyer, favour]
    last = first.copy()
    kind = rng.random(len(buyer))
    of_category = kind >= SHARE_OF_CELL
    first[of_category] -= first[of_category] % NUM_STYLES
    last[of_category] = first[of_category] + NUM_STYLES - 1
    of_shop = kind >= SHARE_OF_CELL + SHARE_OF_CATEGORY
    first[of_shop], last[of_shop] = 0, len(catalogue.cell_ends) - 1
    return catalogue.draw(first, last, rng)


def _origins(
    buyer: NDArray[np.int32], visit: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """The purchase that each one repeats, itself where it is no repeat, shape (purchases,).

    A repeat names an earlier visit's purchase, which may itself be one: chains are followed
    to their end by pointer doubling.
    """
    place = np.arange(len(buyer))
    start_of_user = np.searchsorted(buyer, buyer)
    num_earlier = np.searchsorted(visit, visit) - start_of_user
    repeats = (rng.random(len(buyer)) < SHARE_REPEATS) & (num_earlier > 0)
    drawn = start_of_user + (rng.random(len(buyer)) * num_earlier).astype(np.intp)
    origin = np.where(repeats, drawn, place)
    while True:
        further = origin[origin]
        if np.array_equal(further, origin):
            return origin
        origin = further
