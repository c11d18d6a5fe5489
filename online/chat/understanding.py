"""What an utterance means: the values that understanding hands to the dialogue, and its seam.

It knows nothing of conversations, of what was said before, or of how meaning is found: that is
`online.chat.learned`.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol

from feature_store.language.labels import Feeling, Intent, SlotKind


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the shopper's words stand for in this shop.

    `words` are lower-case words of the catalogue: a product is meant when its title or category
    path contains one of them. `paths` are category paths that the words name, the best first,
    `brands` and `tags` values of those columns. All may be empty but `words`.
    """

    words: tuple[str, ...]
    paths: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of an utterance, `utterance[start:end] == text`, and its value.

    category, brand, tag, without: a Meaning. max_price, min_price: a Decimal in units of the
    shop's currency. quantity: an int. ordinal: an int, 1 for the first card, -1 for the last.
    size, for_whom, occasion, cheaper, other_brand: a normal form of the text in lower case.
    """

    kind: SlotKind
    text: str
    value: Decimal | int | str | Meaning
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Before:
    """What came before an utterance: the intent of the turn before, None for the first turn.

    `shows`: cards of products were shown in the conversation.
    """

    intent: Intent | None = None
    shows: bool = False


FIRST: Final = Before()


@dataclass(frozen=True, slots=True)
class Understood:
    """The meaning of one utterance.

    `language` is `en` or `zh`: the one that answers should be in. `alternatives` are the next
    intents with their probabilities, the likeliest first. `sentiment` is from -1 (anger) to 1
    (delight); `strong`: nobody could miss it. `text` is the utterance in its normal form.
    """

    language: str
    intent: Intent
    confidence: float
    alternatives: tuple[tuple[Intent, float], ...]
    slots: tuple[Slot, ...]
    sentiment: float
    feeling: Feeling
    strong: bool
    text: str

    def of(self, kind: SlotKind) -> tuple[Slot, ...]:
        """The slots of one kind, in the order of the utterance."""
        return tuple(slot for slot in self.slots if slot.kind is kind)


class Understander(Protocol):
    """Finds the meaning of an utterance. Never fails, whatever the text."""

    def understand(self, text: str, locale: str = "en", before: Before = FIRST) -> Understood:
        """The meaning; `locale` decides the language where the text itself does not.

        `before` makes some intents likelier than others; the slots are those of the text alone.
        """
        ...
