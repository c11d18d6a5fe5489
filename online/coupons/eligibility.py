"""Who may have which coupon: rules as data, each evaluated for all coupons of a request at once.

A rule has a name and a mask over coupons; what it compared is told by `online.coupons.findings`.
Standing rules decide whether a coupon may be shown and claimed; basket rules whether it can be used
on the basket of the request, and are not looked at where there is none. Rules of use ask what is
claimed already. It reads no clock and no ledger: what it needs is in the `Situation`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from feature_store.coupons import CENT, MAIL, is_held_out
from feature_store.people import EVERYTHING, Consent
from online.coupons.audience import Traits
from online.coupons.basket import Basket, covered
from online.coupons.columns import EVERYWHERE, NO_GROUP, Coupons, Micros
from online.coupons.usage import Holdings, Usage
from online.known import is_user
from online.types import Mask

NOBODY: Final = frozenset[str]()


class Group(StrEnum):
    """What a rule looks at."""

    STANDING = "standing"
    USE = "use"
    BASKET = "basket"


@dataclass(frozen=True, slots=True)
class Situation:
    """Who asks, when, where and with which basket; `basket` None: none is named.

    `sold` says of each product whether it can be bought now. `name` is what claims are under.
    """

    time: int
    usage: Usage
    holdings: Holdings
    sold: Mask
    region: str = ""
    channel: str = ""
    traits: Traits = NOBODY
    consent: Consent = EVERYTHING
    basket: Basket | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A situation with what several rules ask for: what each coupon covers, and what it costs.

    `face_value` is what a claim would reserve, -1 where nobody can say; `total` is what the basket
    costs, 0 where there is none.
    """

    coupons: Coupons
    situation: Situation
    covered: Micros
    face_value: Micros
    total: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it looks at, and its mask, True where it is met."""

    name: str
    group: Group
    check: Callable[[Judged], Mask]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What every rule says of every coupon; `table`, shape (rules looked at, coupons)."""

    judged: Judged
    table: Mask

    @property
    def masks(self) -> dict[str, Mask]:
        """The mask of each rule that was looked at, by its name."""
        return {rule.name: mask for rule, mask in zip(RULES, self.table, strict=False)}

    def all_of(self, *groups: Group) -> Mask:
        """Where all rules of these groups are met, shape (coupons,)."""
        rows = [row for row in range(len(self.table)) if RULES[row].group in groups]
        mask: Mask = np.logical_and.reduce(self.table[rows], axis=0)
        return mask

    def of(self, place: int, *groups: Group) -> Iterator[tuple[str, bool]]:
        """The name of each rule looked at in these groups, and whether a coupon meets it."""
        for rule, mask in zip(RULES, self.table, strict=False):
            if rule.group in groups:
                yield rule.name, bool(mask[place])

    @property
    def eligible(self) -> Mask:
        """Where all rules that are looked at are met."""
        mask: Mask = np.logical_and.reduce(self.table, axis=0)
        return mask


def judge(coupons: Coupons, situation: Situation) -> Verdicts:
    """All rules on all coupons; basket rules only where a basket is named."""
    basket = situation.basket
    total = 0 if basket is None else basket.total
    if basket is None or not len(basket):
        rules, amounts = RULES_WITHOUT_BASKET, np.zeros(len(coupons), np.int64)
    else:
        rules, amounts = RULES, covered(coupons, basket)
    judged = Judged(coupons, situation, amounts, _face_value(coupons, amounts), total)
    return Verdicts(judged, np.array([rule.check(judged) for rule in rules]))


def takes_part_in_lots(situation: Situation) -> bool:
    """Whether lots decide if somebody is held out: not of visits, nor of who is not looked at."""
    return is_user(situation.name) and situation.consent.personalization


def _face_value(coupons: Coupons, amounts: Micros) -> Micros:
    """A share of the price without a maximum costs what it gives on this basket."""
    places = coupons.open_places
    if not len(places):
        return coupons.face_value
    value = coupons.face_value.copy()
    given = amounts.take(places) * coupons.basis_points.take(places)
    value[places] = np.where(given > 0, -(-given // (10_000 * CENT)) * CENT, -1)
    return value


def _in_time(judged: Judged) -> Mask:
    return judged.coupons.start_time <= judged.situation.time


def _not_over(judged: Judged) -> Mask:
    return judged.situation.time < judged.coupons.end_time


def _region(judged: Judged) -> Mask:
    places = judged.coupons.places
    return places.get(judged.situation.region, places[EVERYWHERE])


def _channel(judged: Judged) -> Mask:
    channels = judged.coupons.channels
    return channels.get(judged.situation.channel, channels[EVERYWHERE])


def _consent(judged: Judged) -> Mask:
    """Who was chosen for a campaign was looked at as a person; mails need their own consent."""
    consent, coupons = judged.situation.consent, judged.coupons
    if judged.situation.channel == MAIL and not consent.email:
        return np.zeros(len(coupons), bool)
    return np.ones(len(coupons), bool) if consent.personalization else coupons.audience == 0


def _audience(judged: Judged) -> Mask:
    coupons = judged.coupons
    mask: Mask = coupons.audiences.holding(judged.situation.traits).take(coupons.audience)
    return mask


def _hold_out(judged: Judged) -> Mask:
    """Users whom lots drew to be without a campaign, so that its effect is known."""
    coupons, situation = judged.coupons, judged.situation
    mask = np.ones(len(coupons), bool)
    if not takes_part_in_lots(situation):
        return mask
    for number, share in coupons.limits.held_out_of:
        if is_held_out(situation.name, coupons.campaigns[number].campaign, share):
            mask &= coupons.campaign != number
    return mask


def _on_sale(judged: Judged) -> Mask:
    """The gift must be there, and for something that is named there must be something to buy."""
    coupons = judged.coupons
    is_there = judged.situation.sold.take(coupons.gift_items)
    if is_there.all():
        return coupons.is_for_some
    mask = coupons.is_for_some.copy()
    mask[coupons.gift_places] &= is_there
    return mask


def _known_value(judged: Judged) -> Mask:
    return judged.face_value >= 0


def _claims_per_user(judged: Judged) -> Mask:
    return judged.situation.holdings.claims < judged.coupons.max_per_user


def _claims(judged: Judged) -> Mask:
    return judged.situation.usage.claims < judged.coupons.max_claims


def _budget(judged: Judged) -> Mask:
    return judged.situation.usage.spent + judged.face_value <= judged.coupons.budget


def _campaign_budget(judged: Judged) -> Mask:
    coupons = judged.coupons
    left = coupons.campaign_budget - judged.situation.usage.campaign_spent
    mask: Mask = judged.face_value <= left.take(coupons.campaign)
    return mask


def _stacking(judged: Judged) -> Mask:
    """No other coupon of the group is held; the only one that is held is the cap's business."""
    group = judged.coupons.group
    mask = np.ones(len(group), bool)
    held = {place: int(group[place]) for place in judged.situation.holdings.open_claims}
    counts = Counter(held.values())
    for place, one in held.items():
        if one != NO_GROUP:
            mask &= group != one
            mask[place] = counts[one] == 1
    return mask


def _exclusive(judged: Judged) -> Mask:
    """Who holds a coupon gets no exclusive one, and with an exclusive one no other."""
    held, exclusive = judged.situation.holdings.open_claims, judged.coupons.exclusive
    if not held:
        return np.ones(len(exclusive), bool)
    is_alone = any(exclusive[place] for place in held)
    mask = np.zeros(len(exclusive), bool) if is_alone else ~exclusive
    if len(held) == 1:
        mask[list(held)] = True
    return mask


def _basket_products(judged: Judged) -> Mask:
    """Something in the basket that the coupon is good for; for a gift or a delivery any basket."""
    return judged.covered > 0


def _minimum_basket(judged: Judged) -> Mask:
    return judged.coupons.minimum_basket <= judged.total


RULES: Final = (
    Rule("start_time", Group.STANDING, _in_time),
    Rule("end_time", Group.STANDING, _not_over),
    Rule("region", Group.STANDING, _region),
    Rule("channel", Group.STANDING, _channel),
    Rule("consent", Group.STANDING, _consent),
    Rule("audience", Group.STANDING, _audience),
    Rule("hold_out", Group.STANDING, _hold_out),
    Rule("on_sale", Group.STANDING, _on_sale),
    Rule("known_value", Group.STANDING, _known_value),
    Rule("claims_per_user", Group.USE, _claims_per_user),
    Rule("claims", Group.USE, _claims),
    Rule("budget", Group.USE, _budget),
    Rule("campaign_budget", Group.USE, _campaign_budget),
    Rule("stacking_group", Group.USE, _stacking),
    Rule("exclusive", Group.USE, _exclusive),
    Rule("basket_products", Group.BASKET, _basket_products),
    Rule("minimum_basket", Group.BASKET, _minimum_basket),
)
"""Every rule, in the order in which they are looked at; those of the basket are the last."""

RULES_WITHOUT_BASKET: Final = tuple(rule for rule in RULES if rule.group is not Group.BASKET)
