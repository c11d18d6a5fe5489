"""Why an answer is not as a script asks: where in the chat the first thing went wrong.

For whoever mends the chat: a fault on a card says what is wrong, a cause says which part of the
chat to look at. It knows answers as values, and no part of the chat.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from feature_store.language.words import contains, words_of
from offline.chat.scripts import NO_CARDS, Played
from online.chat.wishes import Aspect, Relation, Wish


class Cause(StrEnum):
    """The part of the chat that failed first."""

    INTENT = "intent wrong"
    NOT_UNDERSTOOD = "constraint not understood"
    NOT_CARRIED = "constraint not carried"
    NOT_ENFORCED = "constraint known, broken by a card"
    NOT_FOUND = "constraints known, no cards"
    REPLY = "kind of reply"
    ESCALATION = "escalation"
    TRUTH = "text says more than the cards"


_ASPECTS: Final = {
    "category": ((Aspect.CATEGORY, Relation.IS), (Aspect.TAG, Relation.IS)),
    "tag": ((Aspect.TAG, Relation.IS), (Aspect.CATEGORY, Relation.IS)),
    "without": (
        (Aspect.CATEGORY, Relation.IS_NOT),
        (Aspect.TAG, Relation.IS_NOT),
        (Aspect.BRAND, Relation.IS_NOT),
    ),
    "brand": ((Aspect.BRAND, Relation.IS),),
    "max_price": ((Aspect.PRICE, Relation.AT_MOST),),
    "min_price": ((Aspect.PRICE, Relation.AT_LEAST),),
}
"""Where a rule must be found among the wishes; the others are of this turn's cards alone."""


def cause_of(played: Sequence[Played], place: int) -> tuple[Cause, str] | None:
    """The cause of the faults of a conversation's turn, and what it is about; None for no fault."""
    one = played[place]
    faults = one.faults
    if "cards" in faults:
        lacking = [rule for rule in one.line.cards if not _is_known(one, rule)]
        if lacking:
            return _lacking(played, place, lacking[0])
        if faults["cards"] == NO_CARDS:
            return (Cause.INTENT if "intent" in faults else Cause.NOT_FOUND), faults["cards"]
        return Cause.NOT_ENFORCED, faults["cards"]
    if "intent" in faults:
        return Cause.INTENT, faults["intent"]
    for rule, cause in (
        ("reply", Cause.REPLY),
        ("escalates", Cause.ESCALATION),
        ("upsells", Cause.ESCALATION),
        ("truth", Cause.TRUTH),
    ):
        if rule in faults:
            return cause, faults[rule]
    return None


def _lacking(played: Sequence[Played], place: int, rule: str) -> tuple[Cause, str]:
    one = played[place]
    value = one.line.cards[rule]
    was_known = place > 0 and _meets_wish(rule, value, played[place - 1].turn.dialogue.wishes)
    if was_known:
        return Cause.NOT_CARRIED, f"{rule} {value}"
    if "intent" in one.faults:
        return Cause.INTENT, one.faults["intent"]
    return Cause.NOT_UNDERSTOOD, f"{rule} {value}"


def _is_known(one: Played, rule: str) -> bool:
    return _meets_wish(rule, one.line.cards[rule], one.turn.dialogue.wishes)


def _meets_wish(rule: str, value: Any, wishes: Sequence[Wish]) -> bool:
    """Whether a wish says what a rule asks; a rule of this turn's cards alone is no wish."""
    if rule not in _ASPECTS:
        return True
    found = [wish for wish in wishes if (wish.aspect, wish.relation) in _ASPECTS[rule]]
    if rule in {"max_price", "min_price"}:
        amount = Decimal(str(value))
        return any(
            wish.amount <= amount if rule == "max_price" else wish.amount >= amount
            for wish in found
        )
    return any(_speaks_of(wish, value) for wish in found)


def _speaks_of(wish: Wish, words: Sequence[str]) -> bool:
    texts = [*wish.values, wish.text]
    return any(
        contains(text, word) or (text and set(words_of(text)) <= set(words_of(word)))
        for text in texts
        for word in words
    )
