"""CouponService: why, yes or no, and used."""

import asyncio
from asyncio import to_thread
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import grpc

from aisle.v1 import coupon_pb2, coupon_pb2_grpc
from feature_store.coupons import MICROS
from feature_store.events import Event, with_event_id
from feature_store.ledger import Claim, Outcome
from feature_store.schema import Corpus, EventKind
from online.coupons.claiming import Claimed, Claiming, Ending, Explained
from online.engine import Engine
from online.feedback.intake import Feedback
from online.service.coupon_edge import CouponEdge

WITHHELD_REASON: Final = "coupon: the claim was withheld by the guard against abuse: "


class CouponService(coupon_pb2_grpc.CouponServiceServicer):
    """Answers from the engine's current snapshot and the ledger.

    Claims and redemptions become events once the ledger has them. A claim that is withheld is
    kept in the quarantine with the reason, out of what is learned from.
    """

    def __init__(
        self,
        engine: Engine,
        claiming: Claiming,
        edge: CouponEdge,
        feedback: Feedback,
        read_clock: Callable[[], int],
        read_wall_clock: Callable[[], int],
    ) -> None:
        """`read_clock` is the clock of the answers, which may stand still in the past."""
        self._engine = engine
        self._claiming = claiming
        self._edge = edge
        self._feedback = feedback
        self._read_clock = read_clock
        self._read_wall_clock = read_wall_clock

    async def ExplainCoupon(  # noqa: N802  # the contract's name
        self,
        request: coupon_pb2.ExplainCouponRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> coupon_pb2.ExplainCouponResponse:
        """See the contract."""
        now_time = self._read_clock()
        who = (request.user_id, request.session_id)
        asked = self._edge.read_request(*who, request.context, now_time)

        def explain() -> Explained:
            return self._claiming.explain(self._engine.snapshot, asked, request.coupon_id)

        explained = await to_thread(explain)
        return self._edge.write_explained(explained, request.coupon_id, asked.locale)

    async def ClaimCoupon(  # noqa: N802  # the contract's name
        self,
        request: coupon_pb2.ClaimCouponRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> coupon_pb2.ClaimCouponResponse:
        """See the contract."""
        wall_time, now_time = self._read_wall_clock(), self._read_clock()
        self._edge.refuse_erased(request)
        await self._edge.edge.identities.follow(request.user_id, now_time=wall_time)
        who = (request.user_id, request.session_id)
        asked = self._edge.read_request(*who, request.context, now_time)
        wish = self._edge.read_wish(request, asked)

        def claim() -> Claimed:
            return self._claiming.claim(self._engine.snapshot, wish, wall_time)

        claimed = await to_thread(claim)
        event = Event(
            event_id="",
            event_time=now_time,
            user=asked.user.hex(),
            session=asked.session.hex(),
            kind=EventKind.COUPON_CLAIM,
            corpus=Corpus.COUPON,
            item=request.coupon_id,
            attribution_token=request.attribution_token,
        )
        if claimed.withheld is not None:
            await self._keep_out(event, WITHHELD_REASON + claimed.withheld.limit, wall_time)
        if claimed.ending is Ending.GRANTED and claimed.claim is not None:
            await self._write(event, f"claim/{claimed.claim.claim_id}", wall_time)
        return self._edge.write_claimed(claimed, asked.locale, wall_time)

    async def RedeemCoupon(  # noqa: N802  # the contract's name
        self,
        request: coupon_pb2.RedeemCouponRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> coupon_pb2.RedeemCouponResponse:
        """See the contract."""
        wall_time = self._read_wall_clock()
        micros = self._edge.read_discount(request)
        redemption = await to_thread(
            self._claiming.redeem, request.claim_id, request.basket_id, micros, wall_time
        )
        if redemption.outcome is Outcome.SETTLED and redemption.claim is not None:
            event = self._redeemed(redemption.claim, self._read_clock())
            if event.user or event.session:
                await self._write(event, f"redeem/{request.claim_id}", wall_time)
        return self._edge.write_redemption(redemption)

    def _redeemed(self, claim: Claim, now_time: int) -> Event:
        kind, _, pseudonym = claim.user.partition("/")
        return Event(
            event_id="",
            event_time=now_time,
            user=pseudonym if kind == "user" else "",
            session=pseudonym if kind == "visit" else "",
            kind=EventKind.COUPON_REDEEM,
            corpus=Corpus.COUPON,
            item=claim.item,
            price=claim.settled / MICROS,
            basket=claim.basket,
        )

    async def _write(self, event: Event, event_id: str, wall_time: int) -> None:
        """Take the event in; the same one again is a duplicate."""
        named = replace(event, event_id=event_id)
        await asyncio.wrap_future(self._feedback.write([named], [], wall_time))

    async def _keep_out(self, event: Event, reason: str, wall_time: int) -> None:
        named = with_event_id(event)
        await asyncio.wrap_future(self._feedback.write([], [(named, reason)], wall_time))
