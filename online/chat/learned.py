"""Understanding as it was learned: an utterance in, its meaning out, in milliseconds.

It reads one section of a bundle and knows no catalogue beside the names in it, no conversation and
no store.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from feature_store.bundle import Bundle
from feature_store.language.encoder import TextEncoder
from feature_store.language.gazetteer import Gazetteer, Match
from feature_store.language.labels import Feeling, Intent, SlotKind
from feature_store.language.linear import Floats, LinearModel, open_linear, softmax
from feature_store.language.names import (
    CHAT,
    HABITS,
    NAMES,
    NEAREST,
    NEAREST_PROPERTIES,
    SETTINGS,
    Name,
    habit_of,
)
from feature_store.language.nearest import Nearest, open_nearest
from feature_store.language.normal import MAX_CHARACTERS, is_han, language_of
from feature_store.language.reading import Read, Reader
from feature_store.language.tagging import Tagger, features_of, spans_of
from feature_store.language.views import Spans, feeling_columns, intent_columns
from online.chat.naming import with_names
from online.chat.pricing import with_prices
from online.chat.understanding import FIRST, Before, Meaning, Slot, Understood
from online.chat.values import count_of, form_of, place_of, price_of

NUM_ALTERNATIVES: Final = 3
MAX_ENCODED: Final = 240
"""How many characters of an utterance the encoder is given, which bounds its time."""

_FEELINGS: Final = tuple(Feeling)
_INTENTS: Final = tuple(Intent)
_MEANT: Final = frozenset({SlotKind.CATEGORY, SlotKind.BRAND, SlotKind.TAG, SlotKind.WITHOUT})
_BORROWED: Final = {
    SlotKind.WITHOUT: (SlotKind.WITHOUT, SlotKind.CATEGORY, SlotKind.TAG, SlotKind.BRAND),
    SlotKind.CATEGORY: (SlotKind.CATEGORY, SlotKind.WITHOUT),
    SlotKind.TAG: (SlotKind.TAG, SlotKind.CATEGORY),
    SlotKind.BRAND: (SlotKind.BRAND, SlotKind.CATEGORY),
}
"""Where the meaning of a slot's words is looked up, in this order."""

_GOODS: Final = frozenset({SlotKind.CATEGORY, SlotKind.WITHOUT, SlotKind.BRAND})
"""What words may mean that are no name, but mean about the same as one."""

ALIKE: Final = 0.66
"""From this cosine on words mean the name that is nearest to them."""

ALIKE_AND_SAID: Final = 0.8
"""The same for words that have another name inside them."""


ALIKE_PROPERTY: Final = 0.55
"""The same for words of the catalogue, where an unknown Chinese word says what goods are like."""


@dataclass(frozen=True, slots=True)
class Understanding:
    """All models of the section; `online.chat.understanding.Understander` is its seam."""

    names: list[Name]
    reader: Reader
    gazetteer: Gazetteer
    tagger: Tagger
    intents: LinearModel
    feelings: LinearModel
    strong: LinearModel
    habits: Floats
    trusted: frozenset[int]
    nearest: Nearest
    properties: list[str]
    nearest_properties: Nearest
    encoder: TextEncoder

    def understand(self, text: str, locale: str = "en", before: Before = FIRST) -> Understood:
        """See `Understander`. A text without a word is out of scope and has no feeling."""
        read = self.reader.read(text)
        language = language_of(read.normal.text, locale)
        if not read.tokens:
            return _nothing(language)
        matches = self.gazetteer.matches(read.keys)
        labels = self.tagger.tag(features_of(read.words, read.keys, matches))
        spans = with_names(spans_of(labels), matches, read.keys, self.trusted)
        vector = self._vector(read)
        logits = self.intents.logits(intent_columns(read.keys, spans), vector)
        likely = softmax(logits + self.habits[habit_of(before.intent, shows=before.shows)])
        order = np.argsort(-likely)
        ranked = tuple((_INTENTS[n], float(likely[n])) for n in order[: NUM_ALTERNATIVES + 1])
        feeling, sentiment, strong = self._feeling(text, read, vector)
        return Understood(
            language=language,
            intent=ranked[0][0],
            confidence=ranked[0][1],
            alternatives=ranked[1:],
            slots=tuple(with_prices(self._slots(text, read, spans), text[:MAX_CHARACTERS])),
            sentiment=sentiment,
            feeling=feeling,
            strong=strong,
            text=read.normal.text,
        )

    def _vector(self, read: Read) -> Floats:
        vector: Floats = self.encoder.encode([read.normal.text[:MAX_ENCODED]])[0]
        return vector

    def _feeling(self, text: str, read: Read, vector: Floats) -> tuple[Feeling, float, bool]:
        columns = feeling_columns(text, read)
        likely = self.feelings.probabilities(columns, vector)
        feeling = _FEELINGS[int(likely.argmax())]
        loud = float(self.strong.probabilities(columns, vector)[1])
        sentiment = float(
            likely[_FEELINGS.index(Feeling.POSITIVE)] - likely[_FEELINGS.index(Feeling.NEGATIVE)]
        )
        return (
            feeling,
            sentiment * (0.5 + 0.5 * loud),
            feeling is not Feeling.NEUTRAL and loud > 0.5,
        )

    def _slots(self, text: str, read: Read, spans: Spans) -> tuple[Slot, ...]:
        found = []
        for first, after, kind in spans:
            start, end = read.normal.span(read.tokens[first].start, read.tokens[after - 1].end)
            words = text[start:end]
            plain = read.normal.text[read.tokens[first].start : read.tokens[after - 1].end]
            value = self._value(kind, words, plain, read.keys[first:after])
            if value is not None:
                found.append(Slot(kind, words, value, start, end))
        return tuple(found)

    def _value(
        self, kind: SlotKind, words: str, plain: str, keys: list[str]
    ) -> Decimal | int | str | Meaning | None:
        if kind in {SlotKind.MAX_PRICE, SlotKind.MIN_PRICE}:
            return price_of(words)
        if kind is SlotKind.QUANTITY:
            return count_of(words)
        if kind is SlotKind.ORDINAL:
            return place_of(words)
        if kind in _MEANT:
            return self._meaning(kind, plain, keys)
        number = self.gazetteer.lookup(keys, kind)
        known = self.names[number].words if number is not None else ()
        return known[0] if known else form_of(kind, words)

    def _meaning(self, kind: SlotKind, plain: str, keys: list[str]) -> Meaning:
        """What the words are a name of; else what is nearest, or the longest name among them."""
        for other in _BORROWED[kind]:
            number = self.gazetteer.lookup(keys, other)
            if number is not None and self._means_goods(kind, number):
                return _meaning_of(self.names[number])
        inside = [match for match in self.gazetteer.matches(keys) if match.kind in _BORROWED[kind]]
        if kind is SlotKind.TAG and not inside and (word := self._property(plain)):
            return Meaning((word,))
        if kind in _GOODS:
            near = self.nearest.find(self.encoder.encode([plain[:MAX_ENCODED]])[0])
            if near is not None and near[1] >= (ALIKE_AND_SAID if inside else ALIKE):
                return _meaning_of(self.names[near[0]])
        if inside:
            return _meaning_of(self.names[_last_longest(inside).payload])
        return Meaning((" ".join(keys),))

    def _property(self, plain: str) -> str:
        """The catalogue's word for what is a word of another language; "" for none."""
        if not is_han(plain):
            return ""
        near = self.nearest_properties.find(self.encoder.encode([plain[:MAX_ENCODED]])[0])
        return self.properties[near[0]] if near is not None and near[1] >= ALIKE_PROPERTY else ""

    def _means_goods(self, kind: SlotKind, number: int) -> bool:
        """Whether a name says what a slot is to say: a brand that is not sold says no goods."""
        name = self.names[number]
        return kind is not SlotKind.BRAND or bool(name.brands or name.paths)


def open_understanding(bundle: Bundle, encoder: TextEncoder) -> Understanding | None:
    """The section of a bundle; None for a bundle without one, or learned with another encoder."""
    if f"{NEAREST_PROPERTIES}/numbers" not in bundle:
        return None
    settings = bundle.json(SETTINGS)
    if settings["space"] != encoder.space:
        return None
    names = [Name.from_row(row) for row in bundle.json(NAMES)]
    tagger = Tagger(*(bundle.array(f"{CHAT}/tagger/{p}") for p in ("hashes", "weights", "pairs")))
    gazetteer = Gazetteer((name.kind, name.text, number) for number, name in enumerate(names))
    reader = Reader(settings["vocabulary"], others=settings["other_words"])
    opened = Understanding(
        names,
        reader,
        gazetteer,
        tagger,
        intents=open_linear(bundle, f"{CHAT}/intents"),
        feelings=open_linear(bundle, f"{CHAT}/feelings"),
        strong=open_linear(bundle, f"{CHAT}/strong"),
        habits=bundle.array(HABITS),
        trusted=frozenset(settings["trusted"]),
        nearest=open_nearest(bundle, NEAREST),
        properties=settings["properties"],
        nearest_properties=open_nearest(bundle, NEAREST_PROPERTIES),
        encoder=encoder,
    )
    opened.understand("有没有 anything", "en")  # loads dictionaries before the first shopper waits
    return opened


def _nothing(language: str) -> Understood:
    return Understood(language, Intent.OUT_OF_SCOPE, 1.0, (), (), 0.0, Feeling.NEUTRAL, False, "")


def _meaning_of(name: Name) -> Meaning:
    return Meaning(name.words or (name.text,), name.paths, name.brands, name.tags)


def _last_longest(matches: list[Match]) -> Match:
    """In both languages the last word says what a thing is: chocolate milk is milk."""
    return max(matches, key=lambda match: (match.end - match.start, match.end, match.exact))
