"""Recommend at the edge: a message becomes a request, a slate becomes a message.

Of what hints at the situation the channel decides which coupons are offered, and the campaign is
what the claim of a coupon is put down to; device and time zone are taken and change nothing yet.
Who names neither a user nor a session is drawn for by a seed.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from aisle.v1 import context_pb2, corpus_pb2, event_pb2, recommendation_pb2, slate_pb2
from feature_store.events import Exposure
from feature_store.schema import EVENT_KINDS, Corpus, EventKind
from online.errors import RequestError
from online.explain import reasons
from online.feedback.attribution import Attribution, TokenSigner
from online.feedback.identities import Identities
from online.known import INTERESTED_KINDS
from online.placements import MAX_PAGE_SIZE
from online.service.coupon_messages import read_basket_lines
from online.types import Cause, PurchaseMode, Quota, Reason, Request, Slate

Message = recommendation_pb2.RecommendRequest

KIND_OF_MESSAGE: Final = dict(zip(event_pb2.EventKind.values()[1:], EVENT_KINDS, strict=True))
"""The kinds of the contract are those of the stored events, in the same order."""

_PURCHASE_MODES: Final = {
    recommendation_pb2.PURCHASE_MODE_NEW_ONLY: PurchaseMode.NEW_ONLY,
    recommendation_pb2.PURCHASE_MODE_REPEAT_ONLY: PurchaseMode.REPEAT_ONLY,
}
_DEVICES: Final = {
    context_pb2.DEVICE_DESKTOP: "desktop",
    context_pb2.DEVICE_MOBILE: "mobile",
    context_pb2.DEVICE_TABLET: "tablet",
}
_CORPORA: Final = {
    Corpus.PRODUCT: corpus_pb2.CORPUS_PRODUCT,
    Corpus.CONTENT: corpus_pb2.CORPUS_CONTENT,
    Corpus.COUPON: corpus_pb2.CORPUS_COUPON,
}
_CORPUS_OF_MESSAGE: Final = {number: corpus for corpus, number in _CORPORA.items()}
CAUSES: Final = {
    Cause.FAILED: slate_pb2.DegradedStage.CAUSE_FAILED,
    Cause.TIMED_OUT: slate_pb2.DegradedStage.CAUSE_TIMED_OUT,
    Cause.SKIPPED: slate_pb2.DegradedStage.CAUSE_SKIPPED,
    Cause.UNAVAILABLE: slate_pb2.DegradedStage.CAUSE_UNAVAILABLE,
}
SEED_BYTES: Final = 8
NUM_REASONS: Final = 4_096
"""How many worded reasons are kept."""

_PRIVATE: Final = {reasons.QUERY, reasons.UNMATCHED}
"""Parameters that repeat what somebody wrote: the words of such a reason are not kept."""

_WELCOME: Final = INTERESTED_KINDS | {EventKind.PURCHASE}
_UNWELCOME: Final = frozenset({EventKind.DISLIKE, EventKind.NOT_INTERESTED})


@dataclass(frozen=True, slots=True)
class Edge:
    """What the translation needs: the secrets of the installation and the shop's defaults."""

    identities: Identities
    tokens: TokenSigner
    locale: str
    currency: str

    def read(self, message: Message, request_time: int) -> Request:
        """The request of a valid message; `request_time` is in microseconds UTC.

        Raises RequestError for fields that contradict each other.
        """
        welcome, unwelcome = _visited(message) if message.session_items else ((), ())
        return Request(
            request_time=request_time,
            placement=message.placement,
            user=self.pseudonym(message.user_id),
            session=self.pseudonym(message.session_id),
            session_items=welcome,
            exclude_items=(*message.exclude_ids, *unwelcome),
            page_size=page_size(message),
            corpora=quotas(message),
            purchase_mode=_PURCHASE_MODES.get(message.purchase_mode, PurchaseMode.ANY),
            filter=message.filter,
            diversity=message.diversity if message.HasField("diversity") else None,
            explores=not message.disable_exploration,
            seed=_seed(message),
            takes_part=True,
            **self._situation(message),
        )

    def _situation(self, message: Message) -> dict[str, Any]:
        """The fields of a request that are read from its context, which most have none of."""
        if not message.HasField("context"):
            return {"languages": (reasons.language(self.locale),), "locale": self.locale}
        context = message.context
        return {
            "context_items": tuple(context.item_ids),
            "basket_items": tuple(line.item_id for line in context.basket),
            "languages": self._languages(context),
            "locale": self.language(context),
            "device": _DEVICES.get(context.device, ""),
            "region": context.region,
            "category": context.category,
            "basket_lines": read_basket_lines(context, self.currency),
            "channel": context.channel,
            "query": " ".join(context.query.split()),
        }

    def write(
        self, slate: Slate, request: Request, request_id: bytes
    ) -> recommendation_pb2.RecommendResponse:
        """The answer in its basic view."""
        attribution = Attribution(request_id, request.placement, slate.model_version)
        response = recommendation_pb2.RecommendResponse(
            request_id=request_id.hex(),
            attribution_token=self.tokens.sign(attribution),
            model_version=slate.model_version,
            missing_ids=slate.missing,
            arm=slate.arm,
        )
        seconds, micros = divmod(request.request_time, 1_000_000)
        response.request_time.seconds, response.request_time.nanos = seconds, 1_000 * micros
        add = response.items.add
        for place in slate.items:
            item = add(
                item_id=place.item,
                corpus=_CORPORA[place.corpus],
                score=place.score,
                propensity=place.propensity,
                source=place.source,
            )
            write_reason(item.reason, place.reason, request.locale)
        for left_out in slate.degraded:
            response.degraded.add(stage=left_out.stage, cause=CAUSES[left_out.cause])
        return response

    def exposure(
        self, slate: Slate, request: Request, response: recommendation_pb2.RecommendResponse
    ) -> Exposure:
        """What the answer shows, as it is kept."""
        return Exposure(
            attribution_token=response.attribution_token,
            request_time=request.request_time,
            user=request.user.hex(),
            session=request.session.hex(),
            placement=request.placement,
            items=tuple([place.item for place in slate.items]),
            corpora=tuple([place.corpus for place in slate.items]),
            propensities=tuple([place.propensity for place in slate.items]),
            model_version=slate.model_version,
            arm=slate.arm,
        )

    def pseudonym(self, raw: str) -> bytes:
        """Of a raw id; empty for nobody."""
        return self.identities.digest(raw) if raw else b""

    def _languages(self, context: context_pb2.Context) -> tuple[str, ...]:
        """The languages that texts may be in, best first; the shop's comes last."""
        wanted = (context.locale, *context.fallback_locales, self.locale)
        return tuple(dict.fromkeys(reasons.language(one) for one in wanted if one))

    def language(self, context: context_pb2.Context) -> str:
        """The first locale asked for that there are texts in; else the shop's."""
        for locale in (context.locale, *context.fallback_locales):
            if reasons.language(locale) in reasons.LANGUAGES:
                return locale
        return self.locale


def _visited(message: Message) -> tuple[tuple[str, ...], list[str]]:
    """What the visit dealt with, and what it did not like."""
    visit = [(one.item_id, one.kind or event_pb2.EVENT_KIND_VIEW) for one in message.session_items]
    kinds = [(item, KIND_OF_MESSAGE[kind]) for item, kind in visit]
    welcome = tuple(item for item, kind in kinds if kind in _WELCOME)
    return welcome, [item for item, kind in kinds if kind in _UNWELCOME]


def _seed(message: Message) -> int:
    """Of nobody's draws, of 8 random bytes; 0 for somebody, who has draws of the own."""
    is_nobody = not (message.user_id or message.session_id)
    return int.from_bytes(os.urandom(SEED_BYTES), "little") if is_nobody else 0


def page_size(message: Message) -> int:
    """How many items are wanted, 0 for what the quotas or else the placement say.

    Raises RequestError when the quotas ask for more than the page holds.
    """
    if not message.corpora:
        return message.page_size
    exact = sum(quota.count for quota in message.corpora)
    if message.page_size and exact > message.page_size:
        raise RequestError("corpora", f"{exact} items do not fit on a page of {message.page_size}")
    if exact > MAX_PAGE_SIZE:
        raise RequestError("corpora", f"{exact} items are more than a page's {MAX_PAGE_SIZE}")
    return message.page_size


def quotas(message: Message) -> tuple[Quota, ...]:
    """The places of each corpus. Raises RequestError for kinds of products: they have none."""
    for position, quota in enumerate(message.corpora):
        if quota.kinds and quota.corpus == corpus_pb2.CORPUS_PRODUCT:
            field = f"corpora[{position}].kinds"
            raise RequestError(field, "products have no kinds; use `filter`")
    return tuple(
        Quota(_CORPUS_OF_MESSAGE[quota.corpus], quota.count or None, tuple(quota.kinds))
        for quota in message.corpora
    )


def write_reason(message: slate_pb2.Reason, reason: Reason, locale: str) -> None:
    """A reason with its words in the language of `locale`."""
    if _PRIVATE.isdisjoint(reason.parameters):
        message.CopyFrom(_kept(reason.code, tuple(reason.parameters.items()), locale))
    else:
        message.CopyFrom(_worded(reason, locale))


@lru_cache(NUM_REASONS)
def _kept(code: str, parameters: tuple[tuple[str, str], ...], locale: str) -> slate_pb2.Reason:
    """The message of a reason, to be copied: there are few of them, and they are said often."""
    return _worded(Reason(code, dict(parameters)), locale)


def _worded(reason: Reason, locale: str) -> slate_pb2.Reason:
    text = reasons.text(reason, locale)
    return slate_pb2.Reason(code=reason.code, text=text, parameters=reason.parameters)
