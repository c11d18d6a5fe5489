"""The coupons of a bundle as a shelf: who may have which, best for the shop and the user first.

Eligible coupons are ranked by what showing them is worth, shadow prices included; an offer that
loses money is not made. Of a campaign, and of a stacking group, a user is offered one. What the
user has claimed already is shown wherever it is not excluded and is good in the region. Without a
ledger, in an evaluation, nothing is used yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from feature_store.schema import Corpus
from online.catalog import Catalog
from online.coupons.basket import as_text, read_basket, saving
from online.coupons.columns import NO_GROUP, Coupons, Micros
from online.coupons.eligibility import (
    Group,
    Situation,
    Verdicts,
    judge,
    takes_part_in_lots,
)
from online.coupons.usage import Use, holds_nothing, nothing_used
from online.coupons.valuing import Floats, Models, estimate, kept_for, worth
from online.explain.findings import FilterFinding, SourceFinding, Standing
from online.known import Known
from online.types import Card, CouponDetail, Mask, Query, Reason, Request, SlateItem

SOURCE: Final = "coupons"
REGION_TRAIT: Final = "region="
OWN_GOODS_WEIGHT: Final = 1e-6
"""Micros for each unit of own goods: decides only between coupons of the same worth."""


@dataclass(frozen=True, slots=True)
class CouponShelf:
    """The coupons of one bundle; `live` None: nothing is claimed, prices are those of training."""

    coupons: Coupons
    catalog: Catalog
    models: Models
    live: Use | None = None

    @property
    def corpus(self) -> Corpus:
        """What its items are."""
        return Corpus.COUPON

    def with_live(self, live: Use) -> "CouponShelf":
        """The same coupons, with what is used of them."""
        return replace(self, live=live)

    def recommend(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], num: int, /
    ) -> tuple[SlateItem, ...]:
        """See `online.corpora.Shelf`. Raises LedgerError and StoreError."""
        verdicts = judge(self.coupons, self.situation(query.request, known))
        wanted = self._wanted(query.request) & verdicts.masks["region"]
        held = [one for one in verdicts.judged.situation.holdings.open_claims if wanted[one]]
        shown = self._may_be_shown(verdicts) & wanted
        if not shown.any() and not held:
            return ()
        totals = query.state.totals[0]
        num_baskets = float(totals["num_baskets"])
        found = estimate(self.coupons, self.models, query.history, num_baskets, shown)
        cost = np.maximum(self._cost(verdicts), 0)
        kept = kept_for(self.coupons, self.models.held, found, cost, known.traits)
        if self.live is not None:
            free = worth(self.coupons, found, cost, np.zeros(len(self.coupons.budgets))) + kept
            self.live.note(free, found.redemption * cost, shown)
        values = worth(self.coupons, found, cost, self._prices(query.time)) + kept
        values += OWN_GOODS_WEIGHT * found.own_goods
        shown &= values > 0
        shown[held] = True
        order = _best(values, shown, held)
        return tuple(
            self._item(verdicts, place, float(found.redemption[place]), found.own_goods)
            for place in _distinct(self.coupons, order, num)
        )

    def stand(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], item_id: str, /
    ) -> Standing | None:
        """See `online.corpora.Shelf`. Raises LedgerError and StoreError."""
        place = self.coupons.index.get(item_id)
        if place is None:
            return None
        ranked = self.recommend(query, known, slate, len(self.coupons))
        ranks = {item.item: rank for rank, item in enumerate(ranked, 1)}
        rank = ranks.get(item_id, 0)
        score = ranked[rank - 1].score if rank else 0.0
        return Standing(
            rank=rank,
            score=score,
            sources=(SourceFinding(SOURCE, rank, score),),
            filters=tuple(self._findings(query, known, place, is_offered=rank > 0)),
            terms=((f"{SOURCE}.redemption", score),) if rank else (),
        )

    def _findings(
        self, query: Query, known: Known, place: int, *, is_offered: bool
    ) -> Iterator[FilterFinding]:
        """What each rule makes of a coupon; what the user holds is offered where it is wanted."""
        request, coupon = query.request, self.coupons.coupons[place]
        verdicts = judge(self.coupons, self.situation(request, known))
        kinds = request.kinds(Corpus.COUPON)
        kept = {
            **{f"rule.{name}": met for name, met in verdicts.of(place, Group.STANDING, Group.USE)},
            "kinds": not kinds or coupon.discount.kind in kinds,
            "unwanted": coupon.item not in request.exclude_items,
        }
        kept["worth"] = is_offered or not all(kept.values())
        for name, is_kept in kept.items():
            text = Reason("coupon", {"name": name})
            yield FilterFinding(f"{SOURCE}.{name}", is_kept or is_offered, text)

    def situation(self, request: Request, known: Known) -> Situation:
        """Who asks, as the rules see it. Raises LedgerError."""
        region = request.region or next(
            (one[len(REGION_TRAIT) :] for one in known.traits if one.startswith(REGION_TRAIT)), ""
        )
        if self.live is None:
            usage, holdings = nothing_used(self.coupons), holds_nothing(self.coupons)
        else:
            usage = self.live.usage()
            holdings = self.live.holdings(known.name, request.request_time)
        return Situation(
            time=request.request_time,
            usage=usage,
            holdings=holdings,
            sold=self.catalog.available,
            region=region,
            channel=request.channel,
            traits=known.traits,
            consent=known.consent,
            basket=read_basket(request.basket_lines, self.catalog),
            name=known.name,
        )

    def detail(self, verdicts: Verdicts, place: int) -> CouponDetail:
        """What a page shows of a coupon for the user and the basket of the request."""
        coupon = self.coupons.coupons[place]
        basket = verdicts.judged.situation.basket
        total = 0 if basket is None else basket.total
        missing = max(0, coupon.minimum_basket - total)
        is_usable = bool(verdicts.all_of(Group.BASKET)[place]) and total > 0
        saved = self._saving(verdicts, place) if is_usable else 0
        return CouponDetail(
            discount=coupon.discount,
            terms=coupon.terms,
            saving=max(0, saved),
            minimum_basket=coupon.minimum_basket,
            missing=missing,
            end_time=coupon.end_time or 0,
            claim_id=verdicts.judged.situation.holdings.open_claims.get(place, ""),
        )

    def _may_be_shown(self, verdicts: Verdicts) -> Mask:
        """Standing rules; rules of use but for what the user holds."""
        free = verdicts.all_of(Group.USE)
        free[list(verdicts.judged.situation.holdings.open_claims)] = True
        return verdicts.all_of(Group.STANDING) & free

    def _wanted(self, request: Request) -> Mask:
        """What is not excluded, and of the kinds that are asked for."""
        wanted = np.ones(len(self.coupons), bool)
        for item in request.exclude_items:
            if (place := self.coupons.index.get(item)) is not None:
                wanted[place] = False
        if kinds := request.kinds(Corpus.COUPON):
            wanted &= [one.discount.kind in kinds for one in self.coupons.coupons]
        return wanted

    def _prices(self, now_time: int) -> Floats:
        return self.models.prices if self.live is None else self.live.prices(now_time)

    def _cost(self, verdicts: Verdicts) -> Micros:
        """What a redemption gives away: on the basket where it has some of the goods, else all.

        For a gift and a delivery, and where nothing of it is in the basket, the face value.
        """
        coupons, judged = self.coupons, verdicts.judged
        given = np.where(
            coupons.basis_points > 0,
            judged.covered * coupons.basis_points // 10_000,
            judged.face_value,
        )
        on_basket = np.minimum(np.minimum(given, judged.covered), judged.face_value)
        is_known = (judged.covered > 0) & ~coupons.is_in_kind
        return np.where(is_known, on_basket, judged.face_value)

    def _saving(self, verdicts: Verdicts, place: int) -> int:
        gift = int(self.coupons.gift[place])
        price = float(self.catalog.price[gift]) if gift >= 0 else np.nan
        return saving(self.coupons, place, int(verdicts.judged.covered[place]), price)

    def _shown_chance(self, situation: Situation, place: int) -> float:
        """How likely lots let the user have a coupon: what learning weighs it by."""
        campaign = self.coupons.campaigns[self.coupons.campaign[place]]
        return 1.0 - campaign.hold_out if takes_part_in_lots(situation) else 1.0

    def _item(
        self, verdicts: Verdicts, place: int, redemption: float, own_goods: Floats
    ) -> SlateItem:
        coupon, detail = self.coupons.coupons[place], self.detail(verdicts, place)
        return SlateItem(
            item=coupon.item,
            index=place,
            corpus=Corpus.COUPON,
            score=redemption,
            source=SOURCE,
            propensity=self._shown_chance(verdicts.judged.situation, place),
            reason=_reason(detail, is_own=own_goods[place] > 0, is_chosen=bool(coupon.audience)),
            card=Card(title=coupon.title, detail=detail),
        )


def _reason(detail: CouponDetail, *, is_own: bool, is_chosen: bool) -> Reason:
    """The first that is true."""
    if detail.claim_id:
        return Reason("coupon_claimed")
    if detail.saving:
        return Reason("coupon_saves", {"saving": as_text(detail.saving)})
    if is_own:
        return Reason("coupon_own_goods")
    if detail.missing and detail.missing < detail.minimum_basket:
        return Reason("coupon_missing", {"missing": as_text(detail.missing)})
    return Reason("coupon_chosen" if is_chosen else "coupon_offer")


def _best(values: Floats, shown: Mask, held: list[int]) -> Iterator[int]:
    """Places by worth, ties by id; what is held comes first."""
    ranked = values.copy()
    ranked[held] = np.inf
    places = np.flatnonzero(shown)
    yield from places[np.argsort(-ranked[places], kind="stable")].tolist()


def _distinct(coupons: Coupons, places: Iterator[int], num: int) -> list[int]:
    """The first of each campaign and of each stacking group."""
    taken: list[int] = []
    campaigns, groups = set[int](), set[int]()
    for place in places:
        if len(taken) == num:
            break
        campaign, group = int(coupons.campaign[place]), int(coupons.group[place])
        if campaign in campaigns or group in groups:
            continue
        taken.append(place)
        campaigns.add(campaign)
        if group != NO_GROUP:
            groups.add(group)
    return taken
