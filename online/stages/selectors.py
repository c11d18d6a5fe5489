"""The selectors: which candidates, in which order.

Relevance against variety, caps, and a declared share of slots that is drawn, so that what is
never shown can still be learned about. Dice are seeded by who asks, where and on which day.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from online.offering.offer import Cap
from online.pipeline import best
from online.stages.places import Room, pins_of, room_of
from online.types import Candidates, Indexes, Query, Scores, Selection

POOL_PER_SLOT: Final = 4
"""Variety is sought among four times as many candidates as are wanted."""

EXPLORED_POOL: Final = 50
"""How many of the next best candidates a drawn slot is drawn from, at most."""

Positions = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike items are, from 0 to 1: where they lie, their category and their brand.

    `directions` has shape (items, dimensions), each of length 1; the others one entry an item.
    """

    directions: NDArray[np.float32]
    category: NDArray[np.int32]
    brand: NDArray[np.int32]

    def between(self, items: Indexes) -> NDArray[np.float32]:
        """Every item with every other, shape (n, n)."""
        directions = self.directions[items]
        alike = directions @ directions.T
        np.maximum(alike, 0.0, out=alike)
        alike *= np.float32(0.5)
        for codes, share in ((self.category[items], 0.3), (self.brand[items], 0.2)):
            alike += (codes[:, None] == codes) * np.float32(share)
        return alike


@dataclass(frozen=True, slots=True)
class Varied:
    """The best candidates that the caps have room for, varied and explored as the query asks."""

    likeness: Likeness
    name: str = "selector.varied"

    def select(self, query: Query, candidates: Candidates, scores: Scores) -> Selection:
        """`query.num_wanted` candidates less the pinned ones, which come in later."""
        offer, diversity = query.offer, query.diversity
        share = query.placement.explore_share if query.request.explores else 0.0
        num_explored = int(share * query.num_wanted)
        if not (offer.pins or offer.caps or diversity or num_explored):
            return best(scores, query.num_wanted)
        pinned = [pin.item for pin in pins_of(query)]
        order = np.argsort(-scores, kind="stable")
        if pinned:
            order = order[~np.isin(candidates.items[order], pinned)]
        num_wanted = query.num_wanted - len(pinned)
        if diversity:
            pool = order[: POOL_PER_SLOT * num_wanted]
            items = candidates.items[pool]
            sequence = self._varied(items, scores[pool], diversity, num_wanted, offer.caps, pinned)
            order = np.concatenate((pool[sequence], order[len(pool) :]))
        num_explored = num_explored if len(order) >= num_wanted else 0
        room = room_of(offer.caps, pinned)
        items = candidates.items[order]
        chosen = room.take(items, num_wanted - num_explored)
        if not num_explored:
            return Selection(order[chosen], np.ones(len(chosen), np.float32))
        drawn = _draw(query, items.tolist(), set(chosen), num_explored, room)
        slate = _interleave(chosen, drawn, num_wanted)
        propensities = [drawn.get(place, 1.0) for place in slate]
        return Selection(order[slate], np.array(propensities, np.float32))

    def _varied(
        self,
        items: Indexes,
        scores: Scores,
        diversity: float,
        num_wanted: int,
        caps: tuple[Cap, ...],
        pinned: list[int],
    ) -> Positions:
        """Maximal marginal relevance (Carbonell and Goldstein 1998): positions, best first.

        (1 - d) relevance - d * the highest likeness to what was taken, relevance scaled to 0..1.
        """
        room = room_of(caps, pinned)
        groups = room.groups_of(items) if caps else []
        spread = float(scores[0] - scores[-1]) if len(scores) else 0.0
        value = (scores - scores[-1:]) * np.float32((1.0 - diversity) / (spread or 1.0))
        after = self.likeness.between(items)
        after *= np.float32(-diversity)
        after += value
        np.fill_diagonal(after, -np.inf)
        taken: list[int] = []
        for _ in range(len(value)):
            place = int(value.argmax())
            if groups and not room.take_group(groups[place]):
                value[place] = -np.inf
                continue
            taken.append(place)
            if len(taken) == num_wanted or value[place] == -np.inf:
                break
            np.minimum(value, after[place], out=value)
        return np.array(taken, np.intp)


def _draw(
    query: Query, items: list[int], chosen: set[int], num: int, room: Room
) -> dict[int, float]:
    """A place among the items for each explored slot, and the probability that it was drawn.

    Each slot draws evenly from a pool of its own, and only what fits whatever the others draw:
    so the probabilities are exact.
    """
    rest: list[int] = []
    for place, item in enumerate(items):
        if len(rest) == num * EXPLORED_POOL:
            break
        if place not in chosen and (not room.caps or room.left(item) >= num):
            rest.append(place)
    pools = [rest[number::num] for number in range(num)]
    return {
        pool[die % len(pool)]: 1.0 / len(pool)
        for pool, die in zip(pools, dice(query, num), strict=True)
        if pool
    }


def dice(query: Query, num: int, purpose: str = "") -> list[int]:
    """As many random numbers: the same for one user, placement, day and purpose."""
    request = query.request
    day = request.request_time // MICROSECONDS_PER_DAY
    seed = b"/".join((request.user or request.session, request.placement.encode(), b"%d" % day))
    seed += purpose.encode()
    return [
        int.from_bytes(hashlib.blake2b(seed + b"/%d" % number, digest_size=8).digest(), "little")
        for number in range(num)
    ]


def _interleave(chosen: list[int], drawn: dict[int, float], num_wanted: int) -> list[int]:
    """The drawn positions at the end of equal stretches of the slate, the others between."""
    slate, num = list(chosen), len(drawn)
    for number, position in enumerate(drawn):
        slate.insert((number + 1) * num_wanted // max(num, 1) - 1, position)
    return slate
