"""What a person who takes over must know of a conversation: in a few plain lines.

It knows what was said and wanted, and nothing of how it was answered.
"""

from collections.abc import Sequence
from typing import Final

from online.chat.dialogue import Kept
from online.chat.plain import plain
from online.chat.policy import Treatment
from online.chat.understanding import Understood
from online.chat.wishes import Aspect, Relation, Wish

_LABELS: Final = {
    "en": {
        "reason": "Reason",
        "mood": "Mood",
        "wants": "Wants",
        "shopper": "Shopper",
        "chat": "Chat",
    },
    "zh": {"reason": "原因", "mood": "情绪", "wants": "需求", "shopper": "顾客", "chat": "助手"},
}
_SIGNS: Final = {
    Relation.IS: "",
    Relation.IS_NOT: "-",
    Relation.AT_MOST: "≤ ",
    Relation.AT_LEAST: "≥ ",
}


def summary(kept: Kept, treated: Treatment, understood: Understood) -> str:
    """One line each for the reason, the mood and the wishes, then what was said."""
    label = _LABELS[understood.language]
    lines = [
        f"{label['reason']}: {treated.reason}",
        f"{label['mood']}: {treated.mood} ({understood.sentiment:+.2f})",
    ]
    if kept.dialogue.wishes:
        lines.append(f"{label['wants']}: {wanted(kept.dialogue.wishes)}")
    lines += [
        f"{label['shopper'] if one.is_shopper else label['chat']}: {one.text}" for one in kept.said
    ]
    return "\n".join(lines)


def wanted(wishes: Sequence[Wish]) -> str:
    """The wishes in the shopper's own words, as a list."""
    return ", ".join(_word(wish) for wish in wishes)


def _word(wish: Wish) -> str:
    is_price = wish.aspect is Aspect.PRICE
    word = wish.values[0] if is_price else plain(wish.text or wish.values[0], 80)
    return f"{_SIGNS[wish.relation]}{word}"
