"""One turn of a conversation as values: what is asked, and what is answered.

It knows no message and no store.
"""

from dataclasses import dataclass
from enum import StrEnum

from feature_store.language.labels import Intent
from feature_store.schema import EventKind
from online.chat.dialogue import Dialogue
from online.chat.facts import Shown
from online.chat.understanding import Understood
from online.chat.wishes import Wish
from online.types import Degraded, Request, SlateItem


class Kind(StrEnum):
    """What an answer is; it may be several at once."""

    CARDS = "cards"
    QUESTION = "question"
    HELP = "help"
    COUPONS = "coupons"
    SMALLTALK = "smalltalk"
    ESCALATION = "escalation"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Ask:
    """A turn as the edge understood it.

    `conversation` is the keyed digest of the conversation's id, `request` what all of the turn's
    questions to the engine have in common, `given` the dialogue that the caller sent back, None
    to use what is kept, `now_time` the instant that expiry goes by, microseconds UTC.
    """

    conversation: bytes
    utterance: str
    request: Request
    now_time: int
    given: Dialogue | None = None
    feedback: tuple[tuple[str, EventKind], ...] = ()
    satisfaction: int = 0


@dataclass(frozen=True, slots=True)
class Escalation:
    """The need for a person, and the conversation so far for that person."""

    reason: str
    summary: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to a turn.

    `stated` is what this utterance asks for. `request` is the one that brought the cards, None
    where there are none; `signals` are what the words say of items, to become events. `base` is
    the list that the cards are of; None: as before.
    """

    text: str
    kinds: frozenset[Kind]
    dialogue: Dialogue
    understood: Understood | None = None
    stated: tuple[Wish, ...] = ()
    items: tuple[SlateItem, ...] = ()
    shown: tuple[Shown, ...] = ()
    suggestions: tuple[str, ...] = ()
    escalation: Escalation | None = None
    request: Request | None = None
    signals: tuple[tuple[str, EventKind], ...] = ()
    degraded: tuple[Degraded, ...] = ()
    missing: tuple[str, ...] = ()
    base: Intent | None = None
