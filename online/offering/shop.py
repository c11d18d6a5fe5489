"""What the shop offers at each placement and time: availability, rules and filters, compiled.

Compiled once for each state of the rules and each distinct filter, and kept for the requests
after. It knows a bundle's item columns and the rules, and nobody who asks.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from online.catalog import Catalog
from online.offering.allowed import allowed_where, mask_of
from online.offering.attributes import Attributes, cost_of, items_where
from online.offering.expression import parse
from online.offering.objective import objective_of
from online.offering.offer import AllowedSet, Cap, Objective, Offer, Pin, Weighting
from online.offering.rules import Action, Group, Rule
from online.placements import Placement
from online.recent import Recent
from online.types import Mask

MAX_FILTERS: Final = 64
"""How many filtered sets are kept: at a million items each takes 125 to 205 kB."""

CHEAP: Final = 4_000_000
"""So many comparisons, some milliseconds, are made even where nobody may be kept waiting."""


class Offering(Protocol):
    """What a shop offers, as answers and explanations ask for it."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The shop's rules."""
        ...

    @property
    def attributes(self) -> Attributes:
        """The attributes of what the bundle has."""
        ...

    def offer(self, placement: str, time: int, filter_text: str = "", region: str = "", /) -> Offer:
        """What a placement offers at an instant (microseconds UTC) of what passes the filter.

        Raises RequestError for a filter that is wrong.
        """
        ...

    def is_cheap(
        self, placement: str, time: int, filter_text: str = "", region: str = "", /
    ) -> bool:
        """Whether an offer is compiled already, or soon would be."""
        ...

    def is_available(self, item: int, /) -> bool:
        """Whether an item can be bought at all."""
        ...

    def passes(self, item: int, filter_text: str = "", region: str = "") -> bool:
        """Whether an item passes a filter, or is sold in a region."""
        ...

    def concerns(self, rule: Rule, item: int, /) -> bool:
        """Whether a rule concerns an item."""
        ...


@dataclass(frozen=True, slots=True)
class Shop:
    """The offers of one bundle; `rules` in the order in which they are written.

    `shown` are the attributes with the bundle's room, which caps look items up in; None: the same.
    """

    catalog: Catalog
    attributes: Attributes
    placements: Mapping[str, Placement]
    rules: tuple[Rule, ...] = ()
    shown: Attributes | None = None
    _changes: list[int] = field(init=False)
    _offers: dict[tuple[str, int], Offer] = field(default_factory=dict)
    _filtered: Recent[tuple[AllowedSet, str, str], AllowedSet] = field(
        default_factory=lambda: Recent(MAX_FILTERS)
    )
    _groups: dict[Group, NDArray[np.int32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note when rules begin and end: between two such instants an offer stays the same."""
        times = {time for rule in self.rules for time in (rule.start_time, rule.end_time)}
        object.__setattr__(self, "_changes", sorted(times))

    def offer(self, placement: str, time: int, filter_text: str = "", region: str = "") -> Offer:
        """What a placement offers at an instant (microseconds UTC) of what passes the filter.

        Raises RequestError for a filter that is wrong.
        """
        offer = self._plain_offer(placement, time)
        if not filter_text and not region:
            return offer
        sold = offer.sold
        allowed = self._filtered.get(
            (sold, filter_text, region), lambda: self._filter(sold, filter_text, region)
        )
        return replace(offer, allowed=allowed)

    def is_cheap(self, placement: str, time: int, filter_text: str = "", region: str = "") -> bool:
        """Whether an offer is compiled already, or soon would be.

        Raises RequestError for a filter that cannot be read.
        """
        cost = cost_of(parse(filter_text), self.attributes)
        if cost <= CHEAP:
            return True
        return (self._plain_offer(placement, time).sold, filter_text, region) in self._filtered

    def is_available(self, item: int) -> bool:
        """Whether an item can be bought at all."""
        return bool(self.attributes.available[item])

    def concerns(self, rule: Rule, item: int) -> bool:
        """Whether a rule concerns an item; RequestError when its filter is wrong."""
        return bool(self.items_of(rule)[item])

    def passes(self, item: int, filter_text: str = "", region: str = "") -> bool:
        """Whether an item passes a filter, or is sold in a region."""
        mask = items_where(parse(filter_text), self.attributes)
        if region:
            mask &= self.attributes.in_region(region)
        return bool(mask[item])

    def items_of(self, rule: Rule) -> Mask:
        """Which items a rule concerns, shape (items,); RequestError when its filter is wrong."""
        if rule.action is Action.CAP and not rule.items and not rule.filter:
            return np.ones(len(self.attributes), bool)
        mask = np.zeros(len(self.attributes), bool)
        if rule.filter:
            mask |= items_where(parse(rule.filter), self.attributes)
        indexes = self.catalog.indexes_of(rule.items)
        mask[indexes[indexes >= 0]] = True
        return mask

    def group(self, by: Group) -> NDArray[np.int32]:
        """The group of each item and each row of the room, -1 where its name is empty; made once.

        Not to be written to, but by `regroup`.
        """
        group = self._groups.get(by)
        if group is None:
            group = self._groups[by] = _GROUPS[by](self.shown or self.attributes)
        return group

    def regroup(self, first: int, end: int) -> None:
        """Items from `first` to before `end` have come into the room: group them too."""
        shown = self.shown or self.attributes
        rows = slice(first, end)
        come = replace(shown, brand=shown.brand[rows], path=shown.path[rows])
        for by, group in self._groups.items():
            if group.flags.writeable:  # else it is the column itself, which has them already
                group[rows] = _GROUPS[by](come)

    def _plain_offer(self, placement: str, time: int) -> Offer:
        key = (placement, bisect_right(self._changes, time))
        offer = self._offers.get(key)
        if offer is None:
            offer = self._offers[key] = self._compile(placement, time)
        return offer

    def _compile(self, placement: str, time: int) -> Offer:
        rules = [rule for rule in self.rules if rule.holds(placement, time)]
        sold = self.attributes.available.copy()
        for rule in rules:
            if rule.action is Action.BLOCK:
                sold &= ~self.items_of(rule)
        same = self._shared(replace(allowed_where(sold), mask=sold))
        return Offer(
            allowed=same,
            sold=same,
            pins=pins_of(rules, self.catalog),
            caps=(
                *self._own_caps(placement),
                *(self._cap(r) for r in of_action(rules, Action.CAP)),
            ),
            weightings=tuple(
                Weighting(rule.name, allowed_where(self.items_of(rule)), rule.factor)
                for rule in of_action(rules, Action.BOOST, Action.BURY)
            ),
            objective=self._objective(of_action(rules, Action.OBJECTIVE)),
        )

    def _objective(self, rules: Sequence[Rule]) -> Objective | None:
        """The first rule that names one is the one that counts."""
        if not rules:
            return None
        rule = rules[0]
        created_time = (self.shown or self.attributes).created_time
        powers = (rule.margin, rule.price, rule.freshness)
        return objective_of(self.attributes, created_time, rule.name, *powers)

    def _shared(self, allowed: AllowedSet) -> AllowedSet:
        """The same set that another offer has already: what is prepared for it serves all."""
        known = (one.sold for one in self._offers.values())
        return next((one for one in known if np.array_equal(one.bits, allowed.bits)), allowed)

    def _filter(self, sold: AllowedSet, filter_text: str, region: str) -> AllowedSet:
        mask = mask_of(sold) & items_where(parse(filter_text), self.attributes)
        if region:
            mask &= self.attributes.in_region(region)
        return allowed_where(mask)

    def _cap(self, rule: Rule) -> Cap:
        group = self.group(rule.by)
        if rule.items or rule.filter:
            concerned = self.items_of(rule)
            group = np.concatenate((group[: len(concerned)], group[len(concerned) :] * 0 - 1))
            group[: len(concerned)][~concerned] = -1
        return Cap(rule.name, group, rule.count)

    def _own_caps(self, placement: str) -> tuple[Cap, ...]:
        """The caps that the placement's row declares."""
        row = self.placements[placement]
        declared = ((Group.CATEGORY, row.max_per_category), (Group.BRAND, row.max_per_brand))
        return tuple(
            Cap(f"{placement}.max_per_{by.value}", self.group(by), count, is_firm=False)
            for by, count in declared
            if count
        )


def pins_of(rules: Sequence[Rule], catalog: Catalog) -> tuple[Pin, ...]:
    """The first rule for a slot, and the first for an item, is the one that counts."""
    by_slot: dict[int, int] = {}
    for rule in of_action(rules, Action.PIN):
        item = int(catalog.indexes_of(rule.items)[0])
        if item >= 0 and rule.slot - 1 not in by_slot and item not in by_slot.values():
            by_slot[rule.slot - 1] = item
    return tuple(Pin(slot, by_slot[slot]) for slot in sorted(by_slot))


def of_action(rules: Sequence[Rule], *actions: Action) -> list[Rule]:
    """The rules that do one of these."""
    return [rule for rule in rules if rule.action in actions]


def _brands(attributes: Attributes) -> NDArray[np.int32]:
    return _nameless(attributes.brand, len(attributes.brands) and attributes.brands[0] == "")


def _categories(attributes: Attributes) -> NDArray[np.int32]:
    return _nameless(attributes.path, len(attributes.paths) and attributes.paths[0] == "")


def _departments(attributes: Attributes) -> NDArray[np.int32]:
    starts = attributes.department_starts()
    department = np.searchsorted(starts, attributes.path, side="right") - 1
    return _nameless(department.astype(np.int32), len(starts) and attributes.paths[0] == "")


def _nameless(group: NDArray[np.int32], has_empty: bool | int) -> NDArray[np.int32]:
    """The groups; that of the empty name, which is the first, is none."""
    return np.where(group == 0, np.int32(-1), group) if has_empty else group


_GROUPS: Final[dict[Group, Callable[[Attributes], NDArray[np.int32]]]] = {
    Group.BRAND: _brands,
    Group.CATEGORY: _categories,
    Group.DEPARTMENT: _departments,
}
