"""What stands at which place of a slate: caps counted, pins set, gaps filled.

The last steps of the pipeline, which hold whatever stage before them was left out. It knows
item indexes and the offer, and no source.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from online.offering.allowed import allowed_where, allows, mask_of
from online.offering.offer import Cap, Pin
from online.types import Candidates, Degraded, Found, Indexes, Mask, Query, Scores, Selection

FROM_FALLBACK: Final = -1
FROM_PIN: Final = -2
DEEPER: Final = 4
DEEPEST: Final = 4_096
"""At most so many items of the fallback are looked at in one look."""

MAX_LOOKS: Final = 12
UNLIMITED: Final = 2**31

Find = Callable[[Query, int], Found]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The chosen candidates, best first, with the score, propensity and main source of each.

    `sources` holds rows of `chosen.scores`, FROM_FALLBACK for a candidate that the fallback
    added and FROM_PIN for one that the shop has pinned.
    """

    chosen: Candidates
    scores: Scores
    propensities: Scores
    sources: NDArray[np.intp]
    degraded: tuple[Degraded, ...]


@dataclass(slots=True)
class Room:
    """How much room the caps leave, while a slate is being put together."""

    caps: tuple[Cap, ...]
    _taken: list[dict[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing taken."""
        self._taken = [{} for _ in self.caps]

    def left(self, item: int) -> int:
        """How many more items like this one there is room for, this one counted."""
        rooms = (
            cap.count - taken.get(group, 0)
            for cap, taken in zip(self.caps, self._taken, strict=True)
            if (group := int(cap.group[item])) >= 0
        )
        return min(rooms, default=UNLIMITED)

    def take(self, items: Indexes, limit: int) -> list[int]:
        """Count the first items that there is room for, at most `limit`; their places."""
        if not self.caps:
            return list(range(min(limit, len(items))))
        chosen: list[int] = []
        for place, groups in enumerate(self.groups_of(items)):
            if len(chosen) >= limit:
                break
            if self.take_group(groups):
                chosen.append(place)
        return chosen

    def groups_of(self, items: Indexes) -> list[tuple[int, ...]]:
        """The groups of each item, one a cap."""
        return list(zip(*(cap.group[items].tolist() for cap in self.caps), strict=True))

    def open_items(self, num_items: int) -> Mask:
        """Which of the first `num_items` items there is room for, shape (num_items,)."""
        mask = np.ones(num_items, bool)
        for cap, taken in zip(self.caps, self._taken, strict=True):
            full = [group for group, num in taken.items() if group >= 0 and num >= cap.count]
            mask &= ~np.isin(cap.group[:num_items], full)
        return mask

    def add(self, item: int) -> None:
        """Count the item, room or not."""
        for cap, taken in zip(self.caps, self._taken, strict=True):
            group = int(cap.group[item])
            taken[group] = taken.get(group, 0) + 1

    def take_group(self, groups: tuple[int, ...]) -> bool:
        """Count an item of these groups, if there is room for it; whether there was."""
        for cap, taken, group in zip(self.caps, self._taken, groups, strict=True):
            if group >= 0 and taken.get(group, 0) >= cap.count:
                return False
        for taken, group in zip(self._taken, groups, strict=True):
            taken[group] = taken.get(group, 0) + 1
        return True


def room_of(caps: tuple[Cap, ...], items: Iterable[int]) -> Room:
    """What the caps leave once these items are in the slate."""
    room = Room(caps)
    for item in items:
        room.add(item)
    return room


def pins_of(query: Query) -> tuple[Pin, ...]:
    """The pins that the query allows and that are on its page."""
    pins = query.offer.pins
    if not pins:
        return ()
    fits = allows(query, np.array([pin.item for pin in pins], np.int32)).tolist()
    return tuple(
        pin for pin, fit in zip(pins, fits, strict=True) if fit and pin.slot < query.num_wanted
    )


def best_fitting(query: Query, candidates: Candidates, scores: Scores) -> Selection:
    """The highest scores first, as far as the caps have room; without what is pinned."""
    pinned = [pin.item for pin in pins_of(query)]
    order = np.argsort(-scores, kind="stable")
    if pinned:
        order = order[~np.isin(candidates.items[order], pinned)]
    room = room_of(query.offer.caps, pinned)
    chosen = order[room.take(candidates.items[order], query.num_wanted - len(pinned))]
    return Selection(chosen, np.ones(len(chosen), np.float32))


def fill(query: Query, ranking: Ranking, find: Find) -> Ranking:
    """The ranking with pins on their slots, and below it what `find` finds if it is too short.

    `find` gives the best so many items of the fallback for a query; it is asked for more while the
    caps leave too few of them.
    """
    pins = pins_of(query)
    num_missing = query.num_wanted - len(pins) - len(ranking.chosen)
    if num_missing > 0:
        extra = _extra(query, [*ranking.chosen.items.tolist(), *(p.item for p in pins)], find)
        ranking = _extended(ranking, extra)
    return _pinned(ranking, pins) if pins else ranking


def nothing_chosen(num_sources: int) -> Ranking:
    """A ranking to fill from the fallback alone."""
    candidates = Candidates(np.zeros(0, np.int32), np.zeros((num_sources, 0), np.float32), ())
    nothing = np.zeros(0, np.float32)
    return Ranking(candidates, nothing, nothing, np.zeros(0, np.intp), ())


def _extra(query: Query, chosen: list[int], find: Find) -> Indexes:
    """Items of the fallback beside those chosen, as far as they fit.

    Caps that are not firm give way when all that is allowed does not fill the slate.
    """
    caps = query.offer.caps
    firm = tuple(cap for cap in caps if cap.is_firm)
    extra = _fitting(query, caps, chosen, find)
    if len(chosen) + len(extra) >= query.num_wanted or len(firm) == len(caps):
        return extra
    below = _fitting(query, firm, [*chosen, *extra.tolist()], find)
    return np.concatenate((extra, below))


def _fitting(query: Query, caps: tuple[Cap, ...], chosen: list[int], find: Find) -> Indexes:
    """The first items of the fallback that these caps leave room for beside those chosen.

    Each look leaves out what has no room any more; the last is when nothing has. What MAX_LOOKS do
    not find is left out too: the answer is in time rather than full.
    """
    room, taken, limit = room_of(caps, chosen), list(chosen), query.num_wanted
    for look in range(MAX_LOOKS):
        if look:
            query, limit = _open(query, room, taken), min(DEEPER * limit, DEEPEST)
            if not query.allowed.size:
                break
        found = find(query, limit).items
        rest = found[~np.isin(found, taken)]
        taken += rest[room.take(rest, query.num_wanted - len(taken))].tolist()
        if len(taken) >= query.num_wanted or len(found) < limit:
            break
    return np.array(taken[len(chosen) :], np.int32)


def _open(query: Query, room: Room, taken: list[int]) -> Query:
    """The query for those items alone that there is room for."""
    mask = mask_of(query.allowed) & room.open_items(query.allowed.num_items)
    mask[taken] = False
    return replace(query, offer=replace(query.offer, allowed=allowed_where(mask)))


def _extended(ranking: Ranking, extra: Indexes) -> Ranking:
    below = ranking.scores.min(initial=0.0) - 1e-6 * np.arange(1, len(extra) + 1)
    return _inserted(ranking, len(ranking.chosen), extra, below, FROM_FALLBACK)


def _pinned(ranking: Ranking, pins: tuple[Pin, ...]) -> Ranking:
    """Set each pin on its slot; what stood there moves down."""
    for pin in pins:
        place = min(pin.slot, len(ranking.chosen))
        neighbour = min(place, len(ranking.scores) - 1)
        score = ranking.scores[neighbour : neighbour + 1] if neighbour >= 0 else np.zeros(1)
        ranking = _inserted(ranking, place, np.array([pin.item], np.int32), score, FROM_PIN)
    return ranking


def _inserted(
    ranking: Ranking, place: int, items: Indexes, scores: NDArray[np.floating], source: int
) -> Ranking:
    chosen, num_items = ranking.chosen, len(items)
    unknown = np.full((len(chosen.scores), num_items), np.nan, np.float32)
    at = np.full(num_items, place)
    return replace(
        ranking,
        chosen=Candidates(
            np.insert(chosen.items, at, items),
            np.concatenate((chosen.scores[:, :place], unknown, chosen.scores[:, place:]), axis=1),
            chosen.rates,
        ),
        scores=np.insert(ranking.scores, at, scores.astype(np.float32)),
        propensities=np.insert(ranking.propensities, at, np.ones(num_items, np.float32)),
        sources=np.insert(ranking.sources, at, source),
    )
