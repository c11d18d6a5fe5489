"""Coupons at the edge: messages become wishes, endings become messages with words.

It knows the contract and the languages, and nothing of how an ending comes about.
"""

from dataclasses import dataclass
from typing import Final

from aisle.v1 import context_pb2, coupon_pb2
from feature_store.ledger import Claim, Outcome, Redemption, State
from online.coupons.claiming import Claimed, Ending, Explained, Wish
from online.coupons.findings import Finding
from online.errors import RequestError
from online.explain import reasons
from online.service.coupon_messages import read_basket_lines, read_money, write_coupon, write_money
from online.service.edge import Edge
from online.types import Request

_ENDINGS: Final = {
    Ending.GRANTED: coupon_pb2.ClaimCouponResponse.OUTCOME_GRANTED,
    Ending.UNKNOWN_COUPON: coupon_pb2.ClaimCouponResponse.OUTCOME_UNKNOWN_COUPON,
    Ending.NOT_ELIGIBLE: coupon_pb2.ClaimCouponResponse.OUTCOME_NOT_ELIGIBLE,
    Ending.CAP_REACHED: coupon_pb2.ClaimCouponResponse.OUTCOME_CAP_REACHED,
    Ending.BUDGET_SPENT: coupon_pb2.ClaimCouponResponse.OUTCOME_BUDGET_SPENT,
    Ending.WITHHELD: coupon_pb2.ClaimCouponResponse.OUTCOME_WITHHELD,
}
_OUTCOMES: Final = {
    Outcome.SETTLED: coupon_pb2.RedeemCouponResponse.OUTCOME_SETTLED,
    Outcome.UNKNOWN: coupon_pb2.RedeemCouponResponse.OUTCOME_UNKNOWN_CLAIM,
    Outcome.EXPIRED: coupon_pb2.RedeemCouponResponse.OUTCOME_EXPIRED,
    Outcome.ALREADY_USED: coupon_pb2.RedeemCouponResponse.OUTCOME_ALREADY_USED,
    Outcome.EXCEEDS_RESERVATION: coupon_pb2.RedeemCouponResponse.OUTCOME_EXCEEDS_RESERVATION,
}
_STATES: Final = {
    State.RESERVED: coupon_pb2.Claim.STATE_RESERVED,
    State.SETTLED: coupon_pb2.Claim.STATE_SETTLED,
    State.EXPIRED: coupon_pb2.Claim.STATE_EXPIRED,
}

Texts = tuple[str, str, str, str]
_LANGUAGES: Final = ("en", "zh")

_RULES: Final[dict[str, Texts]] = {
    "start_time": (
        "It has begun.",
        "优惠已开始。",
        "It begins at {start}.",
        "优惠将于{start}开始。",
    ),
    "end_time": ("It is not over.", "优惠尚未结束。", "It ended at {end}.", "优惠已于{end}结束。"),
    "region": (
        "It is good in your region.",
        "您所在的地区可以使用。",
        "It is good in {regions} only; you are in {region}.",
        "仅限{regions}使用；您所在地区：{region}。",
    ),
    "channel": (
        "It is good through this channel.",
        "此渠道可以使用。",
        "It is good through {channels} only; this is {channel}.",
        "仅限{channels}渠道使用；当前渠道：{channel}。",
    ),
    "consent": (
        "Nothing that you refused is needed.",
        "无需您未同意的授权。",
        "It needs a consent that you have not given.",
        "需要您尚未给予的授权。",
    ),
    "audience": (
        "It is for you.",
        "您符合领取对象。",
        "It is for chosen customers: {audience}.",
        "仅限指定顾客：{audience}。",
    ),
    "hold_out": (
        "You are not among those drawn to be without it.",
        "您不在对照组中。",
        "Lots have drawn you to be without this campaign, so that its effect can be known.",
        "您被随机分入对照组，本次活动不向您发放。",
    ),
    "on_sale": (
        "What it is for is on sale.",
        "适用商品在售。",
        "What it is for is not sold now.",
        "适用商品目前不在售。",
    ),
    "known_value": (
        "What it can cost is known: {face_value}.",
        "优惠金额已知：{face_value}。",
        "What it gives depends on the basket; put something in it first.",
        "优惠金额取决于购物车；请先加入商品。",
    ),
    "claims_per_user": (
        "You may claim it; claimed {claimed} of {limit}.",
        "您可以领取；已领{claimed}，上限{limit}。",
        "You have claimed it as often as you may.",
        "您的领取次数已达上限。",
    ),
    "claims": (
        "There are some left.",
        "仍有剩余。",
        "All of them have been claimed.",
        "已被领完。",
    ),
    "budget": (
        "Its budget holds another.",
        "优惠预算充足。",
        "Its budget is spent.",
        "优惠预算已用完。",
    ),
    "campaign_budget": (
        "The campaign's budget holds another.",
        "活动预算充足。",
        "The campaign's budget is spent.",
        "活动预算已用完。",
    ),
    "stacking_group": (
        "You hold none that it cannot be combined with.",
        "没有与之冲突的优惠券。",
        "It cannot be combined with one that you hold: {held}.",
        "不能与您已领的优惠券同时使用：{held}。",
    ),
    "exclusive": (
        "It can be used with what you hold.",
        "可与您已领的优惠券同时使用。",
        "One of them can only be used alone: {held}.",
        "其中一张只能单独使用：{held}。",
    ),
    "basket_products": (
        "It is good for {covered} of the basket.",
        "购物车中有{covered}适用。",
        "Nothing in the basket is what it is good for.",
        "购物车中没有适用商品。",
    ),
    "minimum_basket": (
        "The basket of {basket} is large enough.",
        "购物车金额{basket}已满足。",
        "It needs a basket of {minimum}; this one is {basket}.",
        "需满{minimum}；当前购物车为{basket}。",
    ),
}
"""What is said of each rule: met in English and Chinese, then not met."""

_GUARD: Final = {
    "burst": (
        "Too many claims in a short time; try again in {minutes} min.",
        "短时间内领取过多；请在{minutes}分钟后再试。",
    ),
    "device": (
        "Too many claims from this device; try again in {minutes} min.",
        "此设备领取过多；请在{minutes}分钟后再试。",
    ),
    "address": (
        "Too many claims from this address; try again in {minutes} min.",
        "此地址领取过多；请在{minutes}分钟后再试。",
    ),
}
_UNKNOWN: Final = ("There is no such coupon.", "没有这张优惠券。")
MINUTE: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class CouponEdge:
    """What the translation needs: the edge of slates, which knows ids, languages and currency."""

    edge: Edge

    def read_request(
        self, user_id: str, session_id: str, context: context_pb2.Context, request_time: int
    ) -> Request:
        """Who asks, in which situation. Raises RequestError."""
        return Request(
            request_time=request_time,
            user=self.edge.pseudonym(user_id),
            session=self.edge.pseudonym(session_id),
            basket_items=tuple(line.item_id for line in context.basket),
            basket_lines=read_basket_lines(context, self.edge.currency),
            locale=self.edge.language(context),
            region=context.region,
            channel=context.channel,
        )

    def refuse_erased(self, message: coupon_pb2.ClaimCouponRequest) -> None:
        """Raises RequestError for somebody who was erased: nothing of them may be kept."""
        for field, raw in (("user_id", message.user_id), ("session_id", message.session_id)):
            if raw and self.edge.identities.is_erased(raw):
                raise RequestError(field, "was erased and stays out; nothing was kept")

    def read_wish(self, message: coupon_pb2.ClaimCouponRequest, request: Request) -> Wish:
        """What is asked for."""
        return Wish(
            request=request,
            item=message.coupon_id,
            request_id=message.request_id,
            device=message.device_id,
            address=message.address,
            mailing=message.context.campaign,
        )

    def read_discount(self, message: coupon_pb2.RedeemCouponRequest) -> int:
        """What the coupon gave, micros. Raises RequestError."""
        return read_money(message.discount, self.edge.currency, "discount")

    def write_explained(
        self, explained: Explained, item: str, locale: str
    ) -> coupon_pb2.ExplainCouponResponse:
        """Every rule in words, and the offer."""
        if explained.detail is None:
            return coupon_pb2.ExplainCouponResponse(missing_ids=(item,))
        response = coupon_pb2.ExplainCouponResponse(
            eligible=all(one.met for one in explained.findings)
        )
        for one in explained.findings:
            response.rules.add(
                rule=one.rule,
                met=one.met,
                parameters=one.parameters,
                text=rule_text(one, locale),
            )
        write_coupon(response.coupon, explained.detail, self.edge.currency)
        return response

    def write_claimed(
        self, claimed: Claimed, locale: str, now_time: int
    ) -> coupon_pb2.ClaimCouponResponse:
        """The claim, or in words why not."""
        response = coupon_pb2.ClaimCouponResponse(
            outcome=_ENDINGS[claimed.ending], text=refusal_text(claimed, locale, now_time)
        )
        if claimed.claim is not None:
            self._write_claim(response.claim, claimed.claim)
        return response

    def write_redemption(self, redemption: Redemption) -> coupon_pb2.RedeemCouponResponse:
        """How a redemption ended."""
        response = coupon_pb2.RedeemCouponResponse(outcome=_OUTCOMES[redemption.outcome])
        if redemption.claim is not None:
            self._write_claim(response.claim, redemption.claim)
        return response

    def _write_claim(self, message: coupon_pb2.Claim, claim: Claim) -> None:
        message.claim_id = claim.claim_id
        message.coupon_id = claim.item
        message.state = _STATES[claim.state]
        write_money(message.reserved, claim.reserved, self.edge.currency)
        message.claim_time.FromMicroseconds(claim.claim_time)
        message.expire_time.FromMicroseconds(claim.expire_time)
        if claim.state is State.SETTLED:
            write_money(message.settled, claim.settled, self.edge.currency)
            message.settle_time.FromMicroseconds(claim.settle_time)


def rule_text(finding: Finding, locale: str) -> str:
    """What one rule says, in the language of a locale."""
    texts = _RULES[finding.rule]
    return texts[_spoken(locale) + (0 if finding.met else 2)].format_map(_Known(finding.parameters))


def refusal_text(claimed: Claimed, locale: str, now_time: int) -> str:
    """Why a claim was not granted; "" if it was."""
    if claimed.withheld is not None:
        minutes = -(-max(0, claimed.withheld.until_time - now_time) // MINUTE)
        return _GUARD[claimed.withheld.limit][_spoken(locale)].format(minutes=max(1, minutes))
    if claimed.finding is not None:
        return rule_text(claimed.finding, locale)
    return _UNKNOWN[_spoken(locale)] if claimed.ending is Ending.UNKNOWN_COUPON else ""


def _spoken(locale: str) -> int:
    language = reasons.language(locale)
    return _LANGUAGES.index(language) if language in _LANGUAGES else 0


class _Known(dict[str, str]):
    """Parameters of a text; one that nobody told is a dash."""

    def __missing__(self, name: str) -> str:
        return "-"
