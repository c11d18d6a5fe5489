"""The selectors: which candidates, in which order.

Relevance against variety, caps, and a declared share of slots that is drawn, so that what is
never shown can still be learned about. Dice are seeded by who asks, where and on which day; for
nobody by the seed of the request.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from online.offering.offer import Cap
from online.pipeline import best
from online.stages.places import Room, pins_of, room_of
from online.together.queries import CandidatesTogether, Queries
from online.together.ragged import Lists, highest_of_each, lists
from online.types import Candidates, Indexes, Query, Scores, Selection

POOL_PER_SLOT: Final = 4
"""Variety is sought among four times as many candidates as are wanted."""

EXPLORED_POOL: Final = 50
"""How many of the next best candidates a drawn slot is drawn from, at most."""

DIE_BITS: Final = 64
ROUNDING: Final = 1e-9
"""A share of slots that is nearer to a whole number is one."""

Positions = NDArray[np.intp]
Plan = list[list[int]]
"""For each slot of a slate the places that it is drawn from, evenly; one where nothing is drawn."""


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
        num_explored = share * query.num_wanted
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
        items = candidates.items[order]
        if not num_explored or len(order) < num_wanted:
            chosen = room_of(offer.caps, pinned).take(items, num_wanted)
            return Selection(order[chosen], np.ones(len(chosen), np.float32))

        def plan(num: int) -> Plan:
            return _plan(items, min(num, num_wanted), num_wanted, room_of(offer.caps, pinned))

        slate, propensities = _draw(query, plan, num_explored)
        return Selection(order[slate], np.array(propensities, np.float32))

    def select_together(
        self, queries: Queries, candidates: CandidatesTogether, scores: Scores
    ) -> Lists | None:
        """Places among all candidates, by query and best first; None where it is not so simple."""
        query = queries.each[0]
        if query.offer.pins or query.offer.caps or query.diversity or query.request.explores:
            return None
        return best_of_each(candidates.lists, scores, query.num_wanted, queries.num_items)

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


def best_of_each(found: Lists, scores: Scores, limit: int, num_items: int) -> Lists:
    """Places of each owner's highest scores, best first; ties as in `online.pipeline.best`."""
    limits = np.full(len(found.starts) - 1, limit, np.intp)
    kept = highest_of_each(found.starts, found.items, scores, limits, num_items)
    order = kept[np.lexsort((kept, -scores[kept], found.owner[kept]))]
    return lists(order.astype(np.int32), found.owner[order], len(limits))


def _draw(query: Query, plan: Callable[[int], Plan], num: float) -> tuple[list[int], list[float]]:
    """A place among the items for each slot, and the probability that it got that slot.

    `num` slots are explored on average: its fraction is the chance of one more.
    """
    fewer, fraction = divmod(num, 1.0)
    plans = [(1.0 - fraction, plan(int(fewer)))]
    if fraction > ROUNDING:
        plans.append((fraction, plan(int(fewer) + 1)))
    has_more = len(plans) > 1 and dice(query, 1, "share")[0] < fraction * 2**DIE_BITS
    thrown = plans[has_more][1]
    dies = iter(dice(query, sum(len(pool) > 1 for pool in thrown)))
    slate = [pool[next(dies) % len(pool)] if len(pool) > 1 else pool[0] for pool in thrown]
    propensities = [
        sum(chance * _chance(one, slot, place) for chance, one in plans)
        for slot, place in enumerate(slate)
    ]
    return slate, propensities


def _chance(plan: Plan, slot: int, place: int) -> float:
    """The probability that a plan puts a place into a slot."""
    return 1.0 / len(plan[slot]) if slot < len(plan) and place in plan[slot] else 0.0


def _plan(items: Indexes, num_explored: int, num_wanted: int, room: Room) -> Plan:
    """The best, and at the end of equal stretches of the slate a pool for each explored slot.

    Each slot draws evenly from a pool of its own, and only what fits whatever the others draw:
    so the probabilities are exact.
    """
    chosen = room.take(items, num_wanted - num_explored)
    plan = [[place] for place in chosen]
    taken, rest = set(chosen), list[int]()
    for place, item in enumerate(items.tolist()):
        if len(rest) == num_explored * EXPLORED_POOL:
            break
        if place not in taken and (not room.caps or room.left(item) >= num_explored):
            rest.append(place)
    pools = [pool for number in range(num_explored) if (pool := rest[number::num_explored])]
    for number, pool in enumerate(pools):
        plan.insert((number + 1) * num_wanted // len(pools) - 1, pool)
    return plan


def dice(query: Query, num: int, purpose: str = "") -> list[int]:
    """As many random numbers: the same for one user, placement, day and purpose."""
    request = query.request
    day = request.request_time // MICROSECONDS_PER_DAY
    seed = b"/".join((request.drawn_by, request.placement.encode(), b"%d" % day))
    seed += purpose.encode()
    return [
        int.from_bytes(
            hashlib.blake2b(seed + b"/%d" % number, digest_size=DIE_BITS // 8).digest(), "little"
        )
        for number in range(num)
    ]
