"""What the shop offers at each placement and time: availability, rules and filters, compiled.

Compiled once for each state of the rules and each distinct filter, and kept for the requests
after. It knows a bundle's item columns and the rules, and nobody who asks.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from online.catalog import Catalog
from online.offering.allowed import allowed_where, mask_of
from online.offering.attributes import Attributes, items_where
from online.offering.expression import parse
from online.offering.offer import AllowedSet, Cap, Offer, Pin, Weighting
from online.offering.rules import Action, Group, Rule
from online.placements import Placement
from online.types import Mask

MAX_FILTERS: Final = 64
"""How many filtered offers are kept: at a million items each takes 125 to 205 kB."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The offers of one bundle; `rules` in the order in which they are written."""

    catalog: Catalog
    attributes: Attributes
    placements: Mapping[str, Placement]
    rules: tuple[Rule, ...] = ()
    _changes: list[int] = field(init=False)
    _offers: dict[tuple[str, int], Offer] = field(default_factory=dict)
    _filtered: OrderedDict[tuple[Offer, str, str], Offer] = field(default_factory=OrderedDict)
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
        key = (offer, filter_text, region)
        found = self._filtered.get(key)
        if found is None:
            found = self._filtered[key] = self._filter(offer, filter_text, region)
            while len(self._filtered) > MAX_FILTERS:
                self._filtered.popitem(last=False)
        return found

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
        same = self._shared(allowed_where(sold))
        return Offer(
            allowed=same,
            sold=same,
            pins=self._pins(rules),
            caps=(*self._own_caps(placement), *(self._cap(r) for r in _of(rules, Action.CAP))),
            weightings=tuple(
                Weighting(rule.name, allowed_where(self.items_of(rule)), rule.factor)
                for rule in rules
                if rule.action in (Action.BOOST, Action.BURY)
            ),
        )

    def _shared(self, allowed: AllowedSet) -> AllowedSet:
        """The same set that another offer has already: what is prepared for it serves all."""
        known = (one.sold for one in self._offers.values())
        return next((one for one in known if np.array_equal(one.bits, allowed.bits)), allowed)

    def _filter(self, offer: Offer, filter_text: str, region: str) -> Offer:
        mask = mask_of(offer.sold) & items_where(parse(filter_text), self.attributes)
        if region:
            mask &= self.attributes.in_region(region)
        return replace(offer, allowed=allowed_where(mask))

    def _pins(self, rules: list[Rule]) -> tuple[Pin, ...]:
        """The first rule for a slot, and the first for an item, is the one that counts."""
        by_slot: dict[int, int] = {}
        for rule in _of(rules, Action.PIN):
            item = int(self.catalog.indexes_of(rule.items)[0])
            if item >= 0 and rule.slot - 1 not in by_slot and item not in by_slot.values():
                by_slot[rule.slot - 1] = item
        return tuple(Pin(slot, by_slot[slot]) for slot in sorted(by_slot))

    def _cap(self, rule: Rule) -> Cap:
        group = self._group(rule.by)
        if rule.items or rule.filter:
            group = np.where(self.items_of(rule), group, np.int32(-1))
        return Cap(rule.name, group, rule.count)

    def _own_caps(self, placement: str) -> tuple[Cap, ...]:
        """The caps that the placement's row declares."""
        row = self.placements[placement]
        declared = ((Group.CATEGORY, row.max_per_category), (Group.BRAND, row.max_per_brand))
        return tuple(
            Cap(f"{placement}.max_per_{by.value}", self._group(by), count, is_firm=False)
            for by, count in declared
            if count
        )

    def _group(self, by: Group) -> NDArray[np.int32]:
        """The group of each item, -1 where its name is empty; made once."""
        group = self._groups.get(by)
        if group is None:
            group = self._groups[by] = _GROUPS[by](self.attributes)
        return group


def _of(rules: list[Rule], action: Action) -> list[Rule]:
    return [rule for rule in rules if rule.action is action]


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
