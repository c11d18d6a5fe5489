"""What a shopper wants of products: wishes, and the filter that they amount to.

A wish has the words and paths of the catalogue that it stands for, so that it can be kept, sent
to the caller and read back without the utterance. It knows the filter language and no turns.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from feature_store.language.cutting import stem
from feature_store.language.labels import SlotKind
from feature_store.language.words import words_of
from online.chat.plain import plain
from online.chat.understanding import Meaning, Slot
from online.offering.attributes import Attributes
from online.offering.expression import MAX_RESTRICTIONS

MAX_TEXT: Final = 80
MAX_VALUES: Final = 12
"""How many words and paths of a wish are used, the best first."""

MAX_PATHS: Final = 8

ANOTHER_BRAND: Final = "another brand"
"""The text of a wish for any brand but those shown, which gives way where nothing else is left."""


_ANY_BRAND: Final = re.compile(r"\bbrands?\b|大牌|名牌|牌子|品牌")
"""Words that name no brand: "a name brand" is none."""


class Aspect(StrEnum):
    """What a wish is about."""

    CATEGORY = "category"
    BRAND = "brand"
    PRICE = "price"
    QUANTITY = "quantity"
    SIZE = "size"
    RECIPIENT = "recipient"
    OCCASION = "occasion"
    TAG = "tag"


class Relation(StrEnum):
    """How an item is to relate to the value."""

    IS = "is"
    IS_NOT = "is_not"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"


HINTS: Final = frozenset({Aspect.SIZE, Aspect.RECIPIENT, Aspect.OCCASION, Aspect.QUANTITY})
"""Aspects that the catalogue may know nothing of: they never rule a product out."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing wanted. `values` are alternatives as the catalogue spells them.

    Those of a category are words, then paths; that of a price a plain decimal. `text` is the
    shopper's own word for it.
    """

    aspect: Aspect
    relation: Relation
    values: tuple[str, ...]
    text: str = ""

    @property
    def amount(self) -> Decimal:
        """The number of a price."""
        return Decimal(self.values[0])

    def is_on(self, aspect: Aspect, relation: Relation = Relation.IS) -> bool:
        """Whether it has this aspect and relation."""
        return self.aspect is aspect and self.relation is relation

    def phrases(self) -> list[frozenset[str]]:
        """The words of each value that is no path."""
        found = (frozenset(words_of(value)) for value in self.values if not is_path(value))
        return [words for words in found if words]


def is_path(value: str) -> bool:
    """Whether a value is a category path, which a word in small letters never is."""
    return " > " in value or (value != value.lower())


def price_wish(relation: Relation, amount: Decimal, text: str = "") -> Wish:
    """A limit of the price, in units of the shop's currency."""
    return Wish(Aspect.PRICE, relation, (f"{amount:.2f}",), text)


def wish_of(slot: Slot) -> Wish | None:
    """The wish of a slot; None for one that points at something else, or says no word."""
    value, text = slot.value, plain(slot.text, MAX_TEXT)
    if isinstance(value, Meaning):
        return _meant(slot.kind, value, text)
    if slot.kind in _LIMITS and isinstance(value, Decimal):
        return price_wish(_LIMITS[slot.kind], value, text)
    if slot.kind in _HINTS:
        return Wish(_HINTS[slot.kind], Relation.IS, (plain(str(value), MAX_TEXT),), text)
    return None


_LIMITS: Final = {SlotKind.MAX_PRICE: Relation.AT_MOST, SlotKind.MIN_PRICE: Relation.AT_LEAST}
_HINTS: Final = {
    SlotKind.SIZE: Aspect.SIZE,
    SlotKind.QUANTITY: Aspect.QUANTITY,
    SlotKind.FOR_WHOM: Aspect.RECIPIENT,
    SlotKind.OCCASION: Aspect.OCCASION,
}


def _meant(kind: SlotKind, meaning: Meaning, text: str) -> Wish | None:
    """The wish of a slot that names something of the catalogue."""
    words = tuple(filter(None, (plain(word) for word in meaning.words[:MAX_VALUES])))
    is_any = kind is SlotKind.BRAND and not meaning.brands and _ANY_BRAND.search(text)
    if not words or is_any:
        return None
    if kind is SlotKind.WITHOUT:
        return _refusal(meaning, text)
    if kind is SlotKind.BRAND and meaning.brands:
        return Wish(Aspect.BRAND, Relation.IS, meaning.brands, text)
    if kind is SlotKind.CATEGORY or (kind is SlotKind.BRAND and meaning.paths):
        # a brand that is none of the shop's may be said for the kind of thing: kleenex
        paths = meaning.paths[:MAX_PATHS]
        return Wish(Aspect.CATEGORY, Relation.IS, (*words, *paths), text)
    # or it may still stand in a title
    values = (*meaning.tags, *words, text) if kind is SlotKind.TAG else words
    return Wish(Aspect.TAG, Relation.IS, tuple(dict.fromkeys(values))[:MAX_VALUES], text)


def _refusal(meaning: Meaning, text: str) -> Wish:
    if meaning.brands:
        return Wish(Aspect.BRAND, Relation.IS_NOT, meaning.brands, text)
    named = (*meaning.words, *meaning.tags, text)
    words = (plain(word) for word in (*named, *map(_stems, named)))
    values = tuple(filter(None, dict.fromkeys(words)))[:MAX_VALUES]
    return Wish(Aspect.CATEGORY, Relation.IS_NOT, values, text)


def _stems(words: str) -> str:
    """What is canned is refused as what is in a can."""
    return " ".join(stem(word) if word.endswith(("ed", "ing")) else word for word in words.split())


class Strictness(StrEnum):
    """How closely the filter keeps to the wishes; all but the last keep to every firm one."""

    PRECISE = "precise"
    """Hints too, and categories by their paths as well as by their words."""
    NARROW = "narrow"
    """The same without the hints."""
    PLAIN = "plain"
    """Categories by their words."""
    BROAD = "broad"
    """Categories by their paths alone, and another brand need not be another."""
    CLOSEST = "closest"
    """Properties of a category that was named are left out: to be owned up to."""

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for more than the shopper said."""
        return self in (Strictness.PRECISE, Strictness.NARROW)


def filter_of(wishes: Sequence[Wish], attributes: Attributes, strictness: Strictness) -> str:
    """The expression that is true for the products wanted; empty for all."""
    if strictness is Strictness.CLOSEST:
        names_any = any(wish.is_on(Aspect.CATEGORY) for wish in wishes)
        wishes = [wish for wish in wishes if not (names_any and wish.is_on(Aspect.TAG))]
    parts = [
        *_categories(wishes, attributes, strictness),
        *(part for wish in wishes if (part := _clause(wish, strictness))),
    ]
    return " AND ".join(_within_limit(parts))


def _within_limit(parts: Iterable[str]) -> list[str]:
    """The parts that fit into one expression."""
    kept, num_left = [], MAX_RESTRICTIONS
    for part in parts:
        num_left -= part.count(" OR ") + part.count(" AND ") + 1
        if num_left >= 0:
            kept.append(part)
    return kept


def _categories(
    wishes: Sequence[Wish], attributes: Attributes, strictness: Strictness
) -> list[str]:
    """What is wanted by category: any of the categories named."""
    wanted = [wish for wish in wishes if wish.is_on(Aspect.CATEGORY)]
    values = list(dict.fromkeys(value for wish in wanted for value in wish.values))
    paths = [f"category:{_quoted(one)}" for one in values if attributes.subtree(one) is not None]
    words = [term for one in values if not is_path(one) and (term := _term(one))]
    if strictness is Strictness.BROAD:
        return _any(paths or words)
    narrow = _any(paths) if strictness.is_narrow and words else []
    return narrow + _any(words or paths)


def _clause(wish: Wish, strictness: Strictness) -> str:
    """What is asked for by anything but a category."""
    is_broad = strictness in (Strictness.BROAD, Strictness.CLOSEST)
    if wish.aspect is Aspect.PRICE:
        return f"price {'<=' if wish.relation is Relation.AT_MOST else '>='} {wish.amount}"
    if wish.aspect is Aspect.BRAND:
        brands = " OR ".join(f"brand = {_quoted(value)}" for value in wish.values)
        if wish.relation is Relation.IS:
            return f"({brands})"
        return "" if is_broad and wish.text == ANOTHER_BRAND else f"NOT ({brands})"
    if wish.relation is Relation.IS_NOT:
        return " AND ".join(f"NOT ({one})" for value in wish.values if (one := _touches(value)))
    if wish.aspect is Aspect.TAG or (wish.aspect in HINTS and strictness is Strictness.PRECISE):
        alternatives = [one for value in wish.values if (one := _has(value))]
        return f"({' OR '.join(alternatives)})" if alternatives else ""
    return ""


def _any(alternatives: Sequence[str]) -> list[str]:
    return [f"({' OR '.join(alternatives)})"] if alternatives else []


def _has(value: str) -> str:
    """Having a word, as a tag or in the text."""
    term = _term(value)
    return f"{term} OR tags:{_quoted(value)}" if term else ""


def _touches(value: str) -> str:
    """Having all words, wherever: tortilla chips are refused as tortilla and corn chips too."""
    words = words_of(value)
    every = " AND ".join(f"text:{_quoted(word)}" for word in words)
    return f"({every}) OR tags:{_quoted(value)}" if words else ""


def _term(value: str) -> str:
    words = words_of(value)
    return f"text:{_quoted(' '.join(words))}" if words else ""


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def merged(wishes: Sequence[Wish], new: Sequence[Wish]) -> tuple[Wish, ...]:
    """All wishes, a new one in the place of an old one that says the same."""
    keys = {(wish.aspect, wish.relation, wish.values) for wish in new}
    kept = [one for one in wishes if (one.aspect, one.relation, one.values) not in keys]
    return (*kept, *new)


def contradicts(wish: Wish, refusal: Wish) -> bool:
    """Whether all that is wanted is also refused: peanuts by nuts, not chips by tortilla chips."""
    if wish.aspect is Aspect.BRAND and refusal.aspect is Aspect.BRAND:
        return set(wish.values) <= set(refusal.values)
    refused, wanted = refusal.phrases(), wish.phrases()
    own = frozenset(words_of(wish.text))
    if own and any(no <= own for no in refused):
        return True
    return bool(wanted) and all(any(no <= words for no in refused) for words in wanted)


def without_wanted(refusal: Wish, wanted: Sequence[Wish]) -> Wish | None:
    """The refusal less what is wanted now; None if nothing is left of it."""
    if refusal.aspect is Aspect.BRAND:
        brands = {value for wish in wanted if wish.aspect is Aspect.BRAND for value in wish.values}
        left = tuple(value for value in refusal.values if value not in brands)
    else:
        words = [phrase for wish in wanted for phrase in wish.phrases()]
        left = tuple(
            value
            for value in refusal.values
            if not any(frozenset(words_of(value)) <= phrase for phrase in words)
        )
    if not left:
        return None
    return Wish(refusal.aspect, refusal.relation, left, refusal.text)
