"""What the shop offers once products have changed: the offers of the bundle, patched.

Compiled at the first request after a change, from the bundle's own offers, which stay as they
are. It knows parts and offers, and nobody who asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from online.catalog import Catalog
from online.delta.parts import Part, patched
from online.offering.allowed import holds
from online.offering.attributes import Attributes
from online.offering.offer import AllowedSet, Cap, Offer, Weighting
from online.offering.rules import Action, Rule
from online.offering.shop import MAX_FILTERS, Shop, of_action, pins_of
from online.recent import Recent
from online.types import Mask


@dataclass(frozen=True, slots=True, eq=False)
class GrownShop:
    """The offers of a bundle with what changed since; `parts` has the oldest change first.

    `catalog` has the new products too, `num_items` is how many items there are with them.
    """

    base: Shop
    catalog: Catalog
    parts: tuple[Part, ...]
    num_items: int
    _offers: dict[Offer, Offer] = field(default_factory=dict)
    _filtered: Recent[tuple[AllowedSet, AllowedSet], AllowedSet] = field(
        default_factory=lambda: Recent(MAX_FILTERS)
    )
    _sets: Recent[tuple[AllowedSet, bytes], AllowedSet] = field(
        default_factory=lambda: Recent(MAX_FILTERS)
    )

    @property
    def attributes(self) -> Attributes:
        """The attributes of what the bundle has."""
        return self.base.attributes

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The shop's rules."""
        return self.base.rules

    def offer(self, placement: str, time: int, filter_text: str = "", region: str = "") -> Offer:
        """What a placement offers at an instant (microseconds UTC) of what passes the filter.

        Raises RequestError for a filter that is wrong.
        """
        plain = self.base.offer(placement, time)
        offer = self._offers.get(plain)
        if offer is None:
            offer = self._offers[plain] = self._patch(plain, placement, time)
        if not filter_text and not region:
            return offer
        kept = self.base.offer(placement, time, filter_text, region).allowed

        sold = offer.sold
        passing = self._filtered.get(
            (sold, kept), lambda: self._filter(sold, kept, filter_text, region)
        )
        return replace(offer, allowed=passing)

    def is_cheap(self, placement: str, time: int, filter_text: str = "", region: str = "") -> bool:
        """Whether an offer is compiled already, or soon would be."""
        return self.base.is_cheap(placement, time, filter_text, region)

    def is_available(self, item: int) -> bool:
        """Whether an item can be bought at all."""
        place = self._place(item)
        if place is None:
            return self.base.is_available(item)
        part, row = place
        return bool(part.attributes.available[row])

    def passes(self, item: int, filter_text: str = "", region: str = "") -> bool:
        """Whether an item passes a filter, or is sold in a region."""
        place = self._place(item)
        if place is None:
            return self.base.passes(item, filter_text, region)
        part, row = place
        return bool(part.where(filter_text, region)[row])

    def concerns(self, rule: Rule, item: int) -> bool:
        """Whether a rule concerns an item."""
        place = self._place(item)
        if place is None:
            return self.base.concerns(rule, item)
        part, row = place
        return bool(part.concerned(rule)[row])

    def _place(self, item: int) -> tuple[Part, int] | None:
        """The newest part that has the item, and the row."""
        for part in reversed(self.parts):
            row = int(np.searchsorted(part.index, item))
            if row < len(part.index) and part.index[row] == item:
                return part, row
        return None

    def _patch(self, kept: Offer, placement: str, time: int) -> Offer:
        rules = [rule for rule in self.base.rules if rule.holds(placement, time)]
        blocks = of_action(rules, Action.BLOCK)
        sold = self._set(kept.sold, [_sold(part, blocks) for part in self.parts])
        weighing = of_action(rules, Action.BOOST, Action.BURY)
        return replace(
            kept,
            allowed=sold,
            sold=sold,
            pins=pins_of(rules, self.catalog),
            caps=self._caps(kept.caps, of_action(rules, Action.CAP)),
            weightings=tuple(
                Weighting(one.name, self._set(one.items, self._concerned(rule)), one.factor)
                for one, rule in zip(kept.weightings, weighing, strict=True)
            ),
        )

    def _filter(
        self, sold: AllowedSet, kept: AllowedSet, filter_text: str, region: str
    ) -> AllowedSet:
        passing = [holds(sold, part.index) & part.where(filter_text, region) for part in self.parts]
        return self._set(kept, passing)

    def _set(self, kept: AllowedSet, masks: Sequence[Mask]) -> AllowedSet:
        """One object for each distinct set: what is prepared for it serves all placements."""
        key = (kept, b"".join(np.packbits(mask).tobytes() for mask in masks))
        return self._sets.get(key, lambda: patched(kept, self.parts, masks, self.num_items))

    def _concerned(self, rule: Rule) -> list[Mask]:
        return [part.concerned(rule) for part in self.parts]

    def _caps(self, kept: tuple[Cap, ...], rules: list[Rule]) -> tuple[Cap, ...]:
        """The placement's own caps come first; those of rules that say which items are patched."""
        own = kept[: len(kept) - len(rules)]
        return (
            *own,
            *(
                self._cap(cap, rule) if rule.items or rule.filter else cap
                for cap, rule in zip(kept[len(own) :], rules, strict=True)
            ),
        )

    def _cap(self, kept: Cap, rule: Rule) -> Cap:
        everything, group = self.base.group(rule.by), kept.group.copy()
        for part, mask in zip(self.parts, self._concerned(rule), strict=True):
            group[part.index] = np.where(mask, everything[part.index], np.int32(-1))
        return Cap(kept.name, group, kept.count, kept.is_firm)


def _sold(part: Part, blocks: Sequence[Rule]) -> Mask:
    mask = part.attributes.available.copy()
    for rule in blocks:
        mask &= ~part.concerned(rule)
    return mask
