"""A chat over the checkerboard shop, told by marks what an utterance means.

`find_product: an [even](category) thing under [$4](max_price)` says its intent and its slots; what
says neither means whatever its characters add up to.
"""

import random
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from feature_store.bundle import open_bundle
from feature_store.language.labels import Feeling, Intent, SlotKind
from feature_store.language.normal import language_of, normal_text
from feature_store.language.words import words_of
from feature_store.store import MemoryStore
from online.chat.conversing import Chat
from online.chat.memory import Memory
from online.chat.turn import Ask, Turn
from online.chat.understanding import FIRST, Before, Meaning, Slot, Understood
from online.engine import Engine
from online.snapshot import Snapshot, open_snapshot
from tests.online.shops import pseudonym, request
from tests.worlds import HORIZON_TIME, World, fill_store

MARK = re.compile(r"\[([^\]]+)\]\((\w+)\)")
HEAD = re.compile(r"^(\w+)([!-])?: ")
INTENTS = {intent.value for intent in Intent}


class Marked:
    """Reads what an utterance means from its marks."""

    def understand(self, text: str, locale: str = "en", before: Before = FIRST) -> Understood:
        head = HEAD.match(text)
        if head is None or head[1] not in INTENTS:
            return anything(text, locale)
        slots = []
        for found in MARK.finditer(text):
            kind = SlotKind(found[2])
            slots.append(Slot(kind, found[1], value(kind, found[1]), found.start(1), found.end(1)))
        feeling = Feeling.NEGATIVE if head[2] else Feeling.NEUTRAL
        plain = normal_text(MARK.sub(r"\1", text[head.end() :]))
        return Understood(
            language=language_of(plain, locale),
            intent=Intent(head[1]),
            confidence=0.99,
            alternatives=(),
            slots=tuple(slots),
            sentiment=-0.9 if head[2] else 0.0,
            feeling=feeling,
            strong=head[2] == "!",
            text=plain,
        )


def unmarked(text: str) -> tuple[str, list[Slot]]:
    """The text without its marks, and the slots where they stand in it."""
    plain, slots, end = "", [], 0
    for found in MARK.finditer(text):
        plain += text[end : found.start()]
        kind, start = SlotKind(found[2]), len(plain)
        plain += found[1]
        slots.append(Slot(kind, found[1], value(kind, found[1]), start, len(plain)))
        end = found.end()
    return plain + text[end:], slots


def value(kind: SlotKind, text: str) -> Any:
    """What a marked part stands for."""
    plain = normal_text(text)
    if kind in (SlotKind.MAX_PRICE, SlotKind.MIN_PRICE):
        return Decimal(re.sub(r"[^\d.]", "", plain) or "0")
    if kind is SlotKind.QUANTITY and plain.isascii() and plain.isdigit():
        return int(plain)
    if kind in (SlotKind.ORDINAL, SlotKind.QUANTITY):
        places = {"first": 1, "second": 2, "last": -1, "第一个": 1, "第二个": 2}
        return next((number for word, number in places.items() if word in plain), 1)
    if kind in (SlotKind.BRAND, SlotKind.WITHOUT) and re.fullmatch(r"brand \d", plain):
        return Meaning((plain,), brands=(text,))
    if kind in (SlotKind.BRAND, SlotKind.CATEGORY, SlotKind.TAG, SlotKind.WITHOUT):
        return Meaning((plain,), tags=("fresh",) if plain == "fresh" else ())
    return plain


def anything(text: str, locale: str) -> Understood:
    """Some meaning, the same for the same text: the dialogue must bear whatever it is told."""
    dice = random.Random(text.encode("utf-8", "surrogatepass"))
    plain = normal_text(text)
    slots = []
    for _ in range(dice.randrange(4) if text else 0):
        start = dice.randrange(len(text))
        end = min(len(text), start + 1 + dice.randrange(12))
        kind = dice.choice(list(SlotKind))
        slots.append(Slot(kind, text[start:end], value(kind, text[start:end]), start, end))
    return Understood(
        language=language_of(plain, locale),
        intent=dice.choice(list(Intent)),
        confidence=dice.random(),
        alternatives=((dice.choice(list(Intent)), 0.1),),
        slots=tuple(sorted(slots, key=lambda slot: slot.start)),
        sentiment=dice.uniform(-1, 1),
        feeling=dice.choice(list(Feeling)),
        strong=dice.random() < 0.2,
        text=plain,
    )


@dataclass
class Swapping(Marked):
    """Lets the engine go over to another snapshot in the middle of a turn."""

    engine: Engine
    other: Snapshot

    def understand(self, text: str, locale: str = "en", before: Before = FIRST) -> Understood:
        self.engine.snapshot = self.other
        return super().understand(text, locale, before)


@dataclass
class Talk:
    """One conversation with the chat of a world."""

    chat: Chat
    user: int | None = 2
    conversation: bytes = b"c" * 32
    now_time: int = HORIZON_TIME

    def say(self, utterance: str, **fields: Any) -> Turn:
        asked = replace(request(self.user), locale=fields.pop("locale", "en"))
        self.now_time += 1
        ask = Ask(self.conversation, utterance, asked, self.now_time, **fields)
        return self.chat.converse(ask)

    def kept(self) -> Any:
        owner = b"" if self.user is None else pseudonym(self.user)
        return self.chat.memory.recall(self.conversation, owner, self.now_time)


def with_marks(snapshot: Snapshot) -> Snapshot:
    """The snapshot, understanding marks."""
    return replace(snapshot, understander=Marked())


def open_talk(world: World, user: int | None = 2, **changes: Any) -> Talk:
    """A conversation with the chat over a world's bundle and an own store."""
    store = MemoryStore()
    fill_store(store, world.purchases)
    engine = Engine(store, with_marks(open_snapshot(open_bundle(world.bundle))))
    return Talk(Chat(engine, Memory(store), "USD", **changes), user)


def titles(turn: Turn) -> list[str]:
    return [card.title for card in turn.shown]


def words(text: str) -> set[str]:
    return set(words_of(text))
