"""What is carried from one turn to the next, as values, and as it is kept.

Whoever sends it back may have changed it: `checked` makes of any values a dialogue that can do no
harm. It knows no store, no message and no utterance.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from feature_store.language.labels import Intent
from online.chat.plain import MAX_CHARACTERS, plain
from online.chat.wishes import Aspect, Relation, Wish
from online.explain.reasons import TEXTS
from online.types import Reason

MAX_WISHES: Final = 30
MAX_VALUES: Final = 16
MAX_SHOWN: Final = 20
MAX_REJECTED: Final = 200
MAX_SEEN: Final = 60
MAX_TURNS: Final = 10_000
MAX_SAID: Final = 12
"""How much of what was said is kept, in utterances and replies."""

MAX_PRICE: Final = Decimal(1_000_000)
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What a conversation has come to.

    `wishes` are those over all turns, `shown` the cards of the last answer that had any,
    `rejected` what the shopper does not want to see, `asked` the aspect asked for last, "" for
    none, `num_failed` the turns in a row that were not understood or found nothing.
    """

    num_turns: int = 0
    wishes: tuple[Wish, ...] = ()
    shown: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    asked: str = ""
    num_failed: int = 0

    def wish(self, aspect: Aspect, relation: Relation = Relation.IS) -> Wish | None:
        """The last wish of this kind."""
        found = [wish for wish in self.wishes if wish.is_on(aspect, relation)]
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Said:
    """What one side said, in plain text."""

    is_shopper: bool
    text: str


@dataclass(frozen=True, slots=True)
class Kept:
    """All that the server keeps of a conversation.

    `base` is the kind of list that the cards were of, `intent` what was wanted last. `reasons`
    say why each was shown, `seen` are all cards since a kind was named. `owner` is the pseudonym
    of who talks, empty for nobody known. `is_passed_on`: a person was called.
    """

    dialogue: Dialogue = field(default_factory=Dialogue)
    base: Intent = Intent.FIND_PRODUCT
    intent: Intent | None = None
    seen: tuple[str, ...] = ()
    reasons: dict[str, Reason] = field(default_factory=dict)
    said: tuple[Said, ...] = ()
    owner: bytes = b""
    is_passed_on: bool = False

    def noted(self, *said: Said) -> "Kept":
        """With these utterances at the end."""
        return replace(self, said=(*self.said, *said)[-MAX_SAID:])


def checked(dialogue: Dialogue, is_item: Callable[[Sequence[str]], Sequence[bool]]) -> Dialogue:
    """The same within bounds; what means nothing here is dropped. `is_item` tells known ids."""
    wishes = (_checked_wish(wish) for wish in dialogue.wishes[:MAX_WISHES])
    return Dialogue(
        num_turns=min(max(dialogue.num_turns, 0), MAX_TURNS),
        wishes=tuple(wish for wish in wishes if wish is not None),
        shown=_known(dialogue.shown[:MAX_SHOWN], is_item),
        rejected=_known(dialogue.rejected[-MAX_REJECTED:], is_item),
        asked=dialogue.asked if dialogue.asked in tuple(Aspect) else "",
        num_failed=min(max(dialogue.num_failed, 0), MAX_TURNS),
    )


def _known(
    ids: Sequence[str], is_item: Callable[[Sequence[str]], Sequence[bool]]
) -> tuple[str, ...]:
    distinct = list(dict.fromkeys(ids))
    return tuple(one for one, known in zip(distinct, is_item(distinct), strict=True) if known)


def _checked_wish(wish: Wish) -> Wish | None:
    values = tuple(value[:MAX_CHARACTERS] for value in wish.values[:MAX_VALUES] if value.strip())
    is_limit = wish.relation in (Relation.AT_MOST, Relation.AT_LEAST)
    if not values or is_limit != (wish.aspect is Aspect.PRICE):
        return None
    if wish.aspect is Aspect.PRICE:
        amount = _amount(values[0])
        return None if amount is None else Wish(wish.aspect, wish.relation, (amount,), wish.text)
    return Wish(wish.aspect, wish.relation, values, plain(wish.text, 80))


def _amount(text: str) -> str | None:
    """A price in plain decimal; None for what is none."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    is_price = amount.is_finite() and 0 <= amount <= MAX_PRICE
    return f"{amount:.2f}" if is_price else None


def encode(kept: Kept, until_time: int) -> bytes:
    """The stored value, which holds until an instant in microseconds UTC."""
    dialogue = kept.dialogue
    value = {
        "format": _FORMAT,
        "until": until_time,
        "owner": kept.owner.hex(),
        "turns": dialogue.num_turns,
        "wishes": [[one.aspect, one.relation, one.values, one.text] for one in dialogue.wishes],
        "shown": dialogue.shown,
        "rejected": dialogue.rejected,
        "asked": dialogue.asked,
        "failed": dialogue.num_failed,
        "base": kept.base,
        "intent": kept.intent,
        "seen": kept.seen,
        "passed_on": kept.is_passed_on,
        "reasons": {item: [one.code, one.parameters] for item, one in kept.reasons.items()},
        "said": [[one.is_shopper, one.text] for one in kept.said],
    }
    return json.dumps(value, separators=(",", ":")).encode()


def decode(value: bytes | None, now_time: int) -> Kept | None:
    """What is kept; None when there is nothing, it has expired or is of another release."""
    if value is None:
        return None
    try:
        row = json.loads(value)
        return _decoded(row) if row["format"] == _FORMAT and row["until"] > now_time else None
    except (ValueError, KeyError, TypeError):
        return None


def expired(value: bytes, now_time: int) -> bool:
    """Whether a stored value may be deleted."""
    return decode(value, now_time) is None


def owner_of(value: bytes) -> bytes:
    """Whose conversation a stored value is; empty for nobody known."""
    try:
        return bytes.fromhex(json.loads(value)["owner"])
    except (ValueError, KeyError, TypeError):
        return b""


def _decoded(row: dict[str, Any]) -> Kept:
    wishes = tuple(
        Wish(Aspect(aspect), Relation(relation), tuple(values), text)
        for aspect, relation, values, text in row["wishes"]
    )
    return Kept(
        dialogue=Dialogue(
            num_turns=row["turns"],
            wishes=wishes,
            shown=tuple(row["shown"]),
            rejected=tuple(row["rejected"]),
            asked=row["asked"],
            num_failed=row["failed"],
        ),
        base=Intent(row["base"]),
        intent=Intent(row["intent"]) if row["intent"] else None,
        seen=tuple(row["seen"]),
        reasons={
            item: Reason(code, dict(parameters))
            for item, (code, parameters) in row["reasons"].items()
            if code in TEXTS
        },
        said=tuple(Said(is_shopper, text) for is_shopper, text in row["said"]),
        owner=bytes.fromhex(row["owner"]),
        is_passed_on=bool(row["passed_on"]),
    )
