"""The coupons of a bundle as columns, so that rules are evaluated for all of them at once.

It reads the section that `feature_store.coupons` describes. It knows no user and no rule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.coupons import (
    BASE_RATE,
    COUPONS_FILE,
    GOODS,
    GOODS_END,
    MARGIN,
    Campaign,
    Coupon,
    DiscountKind,
    FloorOf,
    decode_coupons,
)
from online.catalog import Catalog
from online.coupons.audience import Audiences, compile_audiences
from online.types import Indexes, Mask

Micros = NDArray[np.int64]

UNLIMITED: Final = np.iinfo(np.int64).max // 4
"""Stands for no limit; sums with it do not overflow."""

ALWAYS: Final = np.iinfo(np.int64).max
EVERYWHERE: Final = ""
_IN_KIND: Final = frozenset({DiscountKind.GIFT, DiscountKind.FREE_DELIVERY})
NO_GROUP: Final = -1


@dataclass(frozen=True, slots=True)
class Limits:
    """What few coupons have.

    `held_out_of`: campaigns that some users are held out of, by number, with the share.
    `budgeted`: the places of coupons with money of their own. `floor`, shape (coupons,): the number
    of the audience that a least share of the coupon is for, 0 for none; `floor_share` that share,
    and `is_floor_of_money` what of.
    """

    held_out_of: tuple[tuple[int, float], ...]
    budgeted: NDArray[np.intp]
    floor: NDArray[np.int32]
    floor_share: NDArray[np.float64]
    is_floor_of_money: Mask


@dataclass(frozen=True, slots=True)
class Coupons:
    """All coupons, one entry each, in the order of their ids; money in micros.

    `campaign`, `audience` and `group` are numbers of `campaigns`, `audiences` and the stacking
    groups. `goods` are the sorted product indexes of all coupons end to end, `goods_of` the
    coupon of each; a coupon that `is_for_all` has none there. `gift` is a product's index, -1 for
    no gift and for one that the bundle lacks. `face_value` is -1 where it depends on the basket,
    which it does for the `open_places`. `first_goods`, shape (products + 2,), is where the
    `goods_of` product i begin, at i + 1; what the bundle lacks has 0. `is_for_some` says of each
    whether there is anything that it is good for or gives, `gift_places` which give something that
    there is, `gift_items` what, `places_for_all` which are good for everything, `is_in_kind` which
    give no money. `places` maps a region, `channels` a channel, to the coupons good there.
    """

    coupons: tuple[Coupon, ...]
    campaigns: tuple[Campaign, ...]
    index: Mapping[str, int]
    campaign: NDArray[np.int32]
    start_time: NDArray[np.int64]
    end_time: NDArray[np.int64]
    minimum_basket: Micros
    max_per_user: NDArray[np.int64]
    max_claims: NDArray[np.int64]
    budget: Micros
    campaign_budget: Micros
    face_value: Micros
    basis_points: NDArray[np.int64]
    open_places: NDArray[np.intp]
    audiences: Audiences
    audience: NDArray[np.int32]
    group: NDArray[np.int32]
    exclusive: Mask
    places: Mapping[str, Mask]
    channels: Mapping[str, Mask]
    is_for_all: Mask
    places_for_all: NDArray[np.intp]
    goods_starts: NDArray[np.int64]
    goods_items: Indexes
    first_goods: NDArray[np.int64]
    goods_of: NDArray[np.int32]
    is_for_some: Mask
    gift: Indexes
    gift_places: NDArray[np.intp]
    gift_items: Indexes
    is_in_kind: Mask
    base_rate: NDArray[np.float32]
    margin: NDArray[np.float64]
    limits: Limits

    def __len__(self) -> int:
        """The number of coupons."""
        return len(self.coupons)

    @property
    def budgets(self) -> tuple[Campaign | Coupon, ...]:
        """What has money, in the order of prices: campaigns, then coupons with their own."""
        return (*self.campaigns, *(self.coupons[place] for place in self.limits.budgeted))

    def good_for(self, items: Indexes) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Coupons that name one of the products, and the position of the product in `items`.

        Those that are good for everything are left out.
        """
        starts = self.first_goods.take(items + 1)
        nums = self.first_goods.take(items + 2) - starts
        lines = np.arange(len(items)).repeat(nums)
        ends = nums.cumsum()
        total = int(ends[-1]) if len(ends) else 0
        return self.goods_of.take(np.arange(total) + (starts - ends + nums).repeat(nums)), lines

    def apart_from(self, place: int) -> tuple[str, ...]:
        """The ids of the coupons that this one cannot be held together with.

        Those of its stacking group and those that are exclusive; for an exclusive one all others.
        """
        same_group = (self.group == self.group[place]) & (self.group != NO_GROUP)
        apart = self.exclusive | same_group | self.exclusive[place]
        apart[place] = False
        return tuple(self.coupons[one].item for one in np.flatnonzero(apart))


def open_coupons(bundle: Bundle, catalog: Catalog) -> Coupons | None:
    """The coupons of an opened bundle; None when it has none.

    Raises SnapshotError for an audience that cannot be read.
    """
    if COUPONS_FILE not in bundle.manifest.files:
        return None
    campaigns, coupons = decode_coupons(bundle.json(COUPONS_FILE))
    ends = bundle.array(GOODS_END)
    goods = np.split(bundle.array(GOODS), ends[:-1])
    return make_coupons(
        campaigns, coupons, goods, catalog, bundle.array(BASE_RATE), bundle.array(MARGIN)
    )


def make_coupons(
    campaigns: Sequence[Campaign],
    coupons: Sequence[Coupon],
    goods: Sequence[Indexes],
    catalog: Catalog,
    base_rate: NDArray[np.float32],
    margin: NDArray[np.float64],
) -> Coupons:
    """Columns of these coupons; `goods` are the products of each. Raises SnapshotError."""
    known, numbers = _numbered(campaigns, coupons)
    named = (text for one in coupons for text in (one.audience, one.floor_audience))
    audiences = list(dict.fromkeys(["", *named]))
    items, owner = _by_product(goods)
    gift, is_lost = _gifts(coupons, catalog)
    gift_places = np.flatnonzero(gift >= 0)
    is_for_all = np.array([one.is_for_all_goods for one in coupons], bool)

    def column(value: Callable[[Coupon], int | None], absent: int) -> NDArray[np.int64]:
        values = (value(one) for one in coupons)
        return np.array([absent if one is None else one for one in values], np.int64)

    face_value = column(lambda one: one.discount.face_value, -1)
    return Coupons(
        coupons=tuple(coupons),
        campaigns=tuple(known),
        index={one.item: number for number, one in enumerate(coupons)},
        campaign=np.array([numbers[one.campaign] for one in coupons], np.int32),
        start_time=column(lambda one: one.start_time, 0),
        end_time=column(lambda one: one.end_time, ALWAYS),
        minimum_basket=column(lambda one: one.minimum_basket, 0),
        max_per_user=column(lambda one: one.max_claims_per_user or None, UNLIMITED),
        max_claims=column(lambda one: one.max_claims or None, UNLIMITED),
        budget=column(lambda one: one.budget, UNLIMITED),
        campaign_budget=np.array(
            [UNLIMITED if one.budget is None else one.budget for one in known], np.int64
        ),
        face_value=face_value,
        open_places=np.flatnonzero(face_value < 0),
        basis_points=column(lambda one: one.discount.basis_points, 0),
        audiences=compile_audiences(audiences),
        audience=np.array([audiences.index(one.audience) for one in coupons], np.int32),
        group=_groups(coupons),
        exclusive=np.array([one.exclusive for one in coupons], bool),
        places=_where([one.regions for one in coupons]),
        channels=_where([one.channels for one in coupons]),
        is_for_all=is_for_all,
        places_for_all=np.flatnonzero(is_for_all),
        goods_starts=np.cumsum([0, *(len(part) for part in goods)], dtype=np.int64),
        goods_items=items,
        first_goods=items.searchsorted(np.arange(-1, len(catalog) + 1)),
        goods_of=owner,
        is_for_some=(is_for_all | np.array([len(part) > 0 for part in goods], bool)) & ~is_lost,
        gift=gift,
        gift_places=gift_places,
        gift_items=gift[gift_places],
        is_in_kind=np.array([one.discount.kind in _IN_KIND for one in coupons], bool),
        base_rate=np.asarray(base_rate),
        margin=np.asarray(margin),
        limits=_limits(known, coupons, audiences),
    )


def _limits(
    campaigns: Sequence[Campaign], coupons: Sequence[Coupon], audiences: list[str]
) -> Limits:
    own = [one.budget is not None for one in coupons]
    floor = [audiences.index(one.floor_audience) for one in coupons]
    return Limits(
        held_out_of=tuple((n, one.hold_out) for n, one in enumerate(campaigns) if one.hold_out > 0),
        budgeted=np.flatnonzero(own),
        floor=np.array(floor, np.int32),
        floor_share=np.array([one.floor_share for one in coupons], np.float64),
        is_floor_of_money=np.array([one.floor_of == FloorOf.MONEY for one in coupons], bool),
    )


def _gifts(coupons: Sequence[Coupon], catalog: Catalog) -> tuple[Indexes, Mask]:
    """The product that each coupon gives, -1 for none, and whether the bundle lacks it."""
    names = [one.discount.gift_item for one in coupons]
    gift = catalog.indexes_of(names) if names else np.zeros(0, np.int32)
    return gift, np.array([name != "" for name in names], bool) & (gift < 0)


def _groups(coupons: Sequence[Coupon]) -> NDArray[np.int32]:
    """The number of each coupon's stacking group, NO_GROUP for none."""
    numbers = {one.stacking_group: number for number, one in enumerate(coupons)}
    groups = [numbers[one.stacking_group] if one.stacking_group else NO_GROUP for one in coupons]
    return np.array(groups, np.int32)


def _numbered(
    campaigns: Sequence[Campaign], coupons: Sequence[Coupon]
) -> tuple[list[Campaign], dict[str, int]]:
    """The campaigns, with those that only coupons name, and the number of each."""
    named = {one.campaign: one for one in campaigns}
    for coupon in coupons:
        named.setdefault(coupon.campaign, Campaign(coupon.campaign))
    return list(named.values()), {name: number for number, name in enumerate(named)}


def _by_product(goods: Sequence[Indexes]) -> tuple[Indexes, NDArray[np.int32]]:
    """All goods sorted by product, and the coupon of each."""
    owner = np.repeat(np.arange(len(goods), dtype=np.int32), [len(part) for part in goods])
    items = np.concatenate([*goods, np.zeros(0, np.int32)]).astype(np.int32)
    order = np.argsort(items, kind="stable")
    return items[order], owner[order]


def _where(named: Sequence[Sequence[str]]) -> dict[str, Mask]:
    """For each name the entries that name it or nothing; under EVERYWHERE those with nothing."""
    anywhere = np.array([not names for names in named], bool)
    masks = {EVERYWHERE: anywhere}
    for number, names in enumerate(named):
        for name in names:
            masks.setdefault(name, anywhere.copy())[number] = True
    return masks
