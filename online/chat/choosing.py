"""Which answer a turn gets: by what was understood, and by what is still likely when in doubt.

It knows the answers by name, and neither feelings nor cards.
"""

from collections.abc import Callable, Mapping
from typing import Final

from feature_store.language.labels import Intent, SlotKind
from online.chat.dialogue import Dialogue
from online.chat.following import SHOPPING, has_any
from online.chat.policy import SURE, UNSURE
from online.chat.replies import Replies, Reply
from online.chat.understanding import Understood

HELP_KINDS: Final[Mapping[Intent, tuple[str, ...]]] = {
    Intent.COMPLAINT: ("help",),
    Intent.ORDER_DELIVERY: ("help", "news"),
    Intent.RETURNS_WARRANTY: ("help",),
    Intent.PRODUCT_QUESTION: ("help", "guide", "tip", "recipe"),
}
"""The intents that the shop's own texts answer, and the kinds of text."""

_NAMES_GOODS: Final = (SlotKind.CATEGORY, SlotKind.BRAND, SlotKind.TAG)
_CHANGES: Final = (
    SlotKind.WITHOUT,
    SlotKind.MAX_PRICE,
    SlotKind.MIN_PRICE,
    SlotKind.CHEAPER,
    SlotKind.OTHER_BRAND,
)
_MANNERS: Final = (Intent.OUT_OF_SCOPE, Intent.GREETING, Intent.THANKS)
_GRIEVANCES: Final = (Intent.COMPLAINT, Intent.ORDER_DELIVERY)

_ANSWERS: Final[Mapping[Intent, Callable[[Replies], Reply]]] = {
    Intent.COMPARE: Replies.compare,
    Intent.BOUGHT_TOGETHER: Replies.together,
    Intent.BUY_AGAIN: Replies.again,
    Intent.GIFT: Replies.gift,
    Intent.DEALS: Replies.deals,
    Intent.WHY_THIS: Replies.why,
    Intent.OUT_OF_SCOPE: Replies.out_of_scope,
    Intent.HUMAN: Replies.out_of_scope,
}


def chosen_intent(understood: Understood, dialogue: Dialogue, *, asks: bool) -> Intent:
    """What to answer to: the words' own purpose where a grievance or a doubt hides it.

    `asks`: a mild grievance goes on to ask for products.
    """
    intent = understood.intent
    if intent in _GRIEVANCES and asks:
        if has_any(understood, *_NAMES_GOODS):
            return Intent.FIND_PRODUCT
        return Intent.NOT_THIS if intent is Intent.COMPLAINT and dialogue.shown else intent
    limit = SURE if intent in _MANNERS else UNSURE
    if understood.confidence < limit and intent not in SHOPPING:
        if has_any(understood, *_NAMES_GOODS):
            return Intent.FIND_PRODUCT
        if has_any(understood, *_CHANGES) and dialogue.wishes:
            return Intent.REFINE
    return intent


def reply_to(replies: Replies, intent: Intent) -> Reply:
    """The answer to an intent of somebody who is calm."""
    understood = replies.understood
    is_clear = understood.confidence >= UNSURE or bool(understood.slots)
    if not is_clear and intent is understood.intent:
        return replies.unsure()
    if intent in HELP_KINDS:
        return replies.help(HELP_KINDS[intent])
    if intent in _ANSWERS:
        return _ANSWERS[intent](replies)
    if intent is Intent.NOT_THIS:
        return replies.not_this(is_rejection=understood.intent is Intent.NOT_THIS)
    if intent in (Intent.GREETING, Intent.THANKS):
        return replies.smalltalk(intent)
    return replies.find(intent)
