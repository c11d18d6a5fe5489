"""Events at the edge: a message becomes an event with pseudonyms, or is refused with reasons."""

from dataclasses import dataclass
from typing import Final

from aisle.v1 import corpus_pb2, event_pb2, money_pb2
from feature_store.events import Event, reject_reason, with_event_id
from feature_store.schema import Corpus
from online.feedback.attribution import TokenSigner
from online.feedback.identities import Identities
from online.service.checks import violations_of
from online.service.edge import KIND_OF_MESSAGE
from online.service.refusals import Violation

_CORPORA: Final = {
    corpus_pb2.CORPUS_UNSPECIFIED: Corpus.PRODUCT,
    corpus_pb2.CORPUS_PRODUCT: Corpus.PRODUCT,
    corpus_pb2.CORPUS_CONTENT: Corpus.CONTENT,
    corpus_pb2.CORPUS_COUPON: Corpus.COUPON,
}
ERASED_VIOLATION: Final = Violation("user_id", "was erased and stays out; nothing was kept")

_FIELD_OF_COLUMN: Final = {
    "user": "user_id",
    "session": "session_id",
    "item": "item_id",
    "basket": "basket_id",
}


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """An event as it will be stored, and what is wrong with it: nothing, if it is taken.

    One of somebody who was erased is kept nowhere, not even in the quarantine.
    """

    event: Event
    violations: tuple[Violation, ...]
    is_erased: bool = False

    @property
    def reason(self) -> str:
        """Why it is refused, without any value of the event."""
        return "; ".join(f"{one.field or 'event'}: {one.description}" for one in self.violations)


@dataclass(frozen=True, slots=True)
class EventEdge:
    """What the translation needs. `currency` is the shop's, empty when any is taken."""

    identities: Identities
    tokens: TokenSigner
    currency: str
    max_future_s: float

    def read(self, message: event_pb2.Event, received_time: int, now_time: int) -> ReadEvent:
        """Check one event by the rules of the contract, then by those of storage.

        `received_time` stands for an absent `event_time`; no event may lie further in the
        future of `now_time` than is tolerated. Both are in microseconds UTC.
        """
        event = self._event(message, received_time)
        if any(map(self.identities.is_erased, (message.user_id, message.session_id))):
            return ReadEvent(event, (ERASED_VIOLATION,), is_erased=True)
        violations = [*violations_of(message), *self._price_violations(message)]
        if not violations:
            reason = reject_reason(event, now_time, self.max_future_s)
            if reason is not None:
                violations = [_violation(reason)]
        return ReadEvent(event, tuple(violations))

    def _event(self, message: event_pb2.Event, received_time: int) -> Event:
        has_time = message.HasField("event_time")
        event = Event(
            event_id=message.event_id,
            event_time=_microseconds(message) if has_time else received_time,
            user=self.identities.hexdigest(message.user_id) if message.user_id else "",
            session=self.identities.hexdigest(message.session_id) if message.session_id else "",
            kind=KIND_OF_MESSAGE.get(message.kind, ""),
            corpus=_CORPORA.get(message.corpus, ""),
            item=message.item_id,
            quantity=message.quantity if message.HasField("quantity") else 1.0,
            price=_amount(message.price) if message.HasField("price") else None,
            basket=message.basket_id,
            placement=message.placement or self._placement(message.attribution_token),
            query=message.query,
            attribution_token=message.attribution_token,
        )
        return with_event_id(event)

    def _placement(self, token: str) -> str:
        """Where the answer was shown that led to the event, if its token is one of ours."""
        attribution = self.tokens.read(token) if token else None
        return attribution.placement if attribution else ""

    def _price_violations(self, message: event_pb2.Event) -> list[Violation]:
        currency = message.price.currency_code
        if currency and self.currency and currency != self.currency:
            return [Violation("price.currency_code", f"must be {self.currency}, the shop's")]
        return []


def _microseconds(message: event_pb2.Event) -> int:
    return message.event_time.seconds * 1_000_000 + message.event_time.nanos // 1_000


def _amount(money: money_pb2.Money) -> float:
    return money.units + money.nanos / 1e9


def _violation(reason: str) -> Violation:
    column, _, description = reason.partition(": ")
    return Violation(_FIELD_OF_COLUMN.get(column, column), description)
