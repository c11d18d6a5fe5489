"""Scripted conversations: read, played against the chat that serves, and checked turn by turn.

`offline/texts/README.md` says how they are written. It knows the answers as values, and nothing of
how they come about.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, Final

import yaml

from feature_store.language.words import contains
from feature_store.schema import Corpus
from offline.errors import SourceError
from online.chat.conversing import Chat
from online.chat.facts import Shown, Vocabulary
from online.chat.truth import untruths
from online.chat.turn import Ask, Kind, Turn
from online.types import Request

NO_CARDS: Final = "no cards"
"""The fault of an answer that should have had cards."""

_TURN_KEYS: Final = {"shopper", "intent", "cards", "reply", "escalates", "upsells"}
_CARD_KEYS: Final = {
    *("category", "max_price", "min_price", "without", "brand", "tag", "other_than", "cheaper"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """What a shopper says, and what must hold of the answer; see the README of the texts."""

    shopper: str
    intents: tuple[str, ...]
    cards: Mapping[str, Any]
    replies: tuple[str, ...]
    escalates: bool
    upsells: bool | None


@dataclass(frozen=True, slots=True)
class Script:
    """A conversation with what must hold after each of its lines."""

    name: str
    language: str
    covers: tuple[str, ...]
    pair: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """A line, its answer, what is wrong with it, by rule, and how long the answer took.

    `elapsed_ms` is the time on the clock, `busy_ms` that of the processor.
    """

    script: Script
    place: int
    turn: Turn
    faults: Mapping[str, str]
    elapsed_ms: float
    busy_ms: float

    @property
    def line(self) -> Line:
        """The line."""
        return self.script.lines[self.place]


def read_scripts(path: Path) -> list[Script]:
    """The conversations of a file; SourceError says what is wrong with one."""
    rows = yaml.safe_load(path.read_text())
    if not isinstance(rows, list):
        raise SourceError(f"{path} must hold a list of conversations")
    try:
        return [_script(row) for row in rows]
    except (KeyError, TypeError) as error:
        raise SourceError(f"{path}: a conversation lacks or misspells {error}") from error


def _script(row: Mapping[str, Any]) -> Script:
    return Script(
        name=row["id"],
        language=row["language"],
        covers=tuple(row["covers"]),
        pair=row.get("pair", ""),
        lines=tuple(_line(turn) for turn in row["turns"]),
    )


def _line(turn: Mapping[str, Any]) -> Line:
    cards = turn.get("cards") or {}
    if unknown := (set(turn) - _TURN_KEYS) | (set(cards) - _CARD_KEYS):
        raise KeyError(min(unknown))
    return Line(
        shopper=turn["shopper"],
        intents=_list(turn["intent"]),
        cards=cards,
        replies=_list(turn["reply"]),
        escalates=bool(turn.get("escalates", False)),
        upsells=turn.get("upsells"),
    )


def _list(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def play(chat: Chat, script: Script, request: Request, vocabulary: Vocabulary) -> list[Played]:
    """Say the lines one after the other; `request` says who talks and when."""
    conversation = hashlib.blake2b(script.name.encode(), digest_size=32).digest()
    request = replace(request, locale=script.language, languages=(script.language,))
    played: list[Played] = []
    for place, line in enumerate(script.lines):
        asked = Ask(conversation, line.shopper, request, request.request_time + place)
        started_s, busy_s = perf_counter(), thread_time()
        turn = chat.converse(asked)
        times_ms = 1000 * (perf_counter() - started_s), 1000 * (thread_time() - busy_s)
        faults = _faults(line, turn, [one.turn for one in played], vocabulary)
        played.append(Played(script, place, turn, faults, *times_ms))
    return played


def _faults(
    line: Line, turn: Turn, before: Sequence[Turn], vocabulary: Vocabulary
) -> dict[str, str]:
    """What is wrong with an answer, by rule."""
    faults = {}
    if found := _card_fault(line, turn, before):
        faults["cards"] = found
    if not turn.kinds & {Kind(reply) for reply in line.replies}:
        faults["reply"] = f"{sorted(turn.kinds)} instead of {list(line.replies)}"
    if (turn.escalation is not None) is not line.escalates:
        reason = turn.escalation.reason if turn.escalation else "no escalation"
        faults["escalates"] = reason
    if line.upsells is False and _products(turn):
        faults["upsells"] = f"{len(_products(turn))} products"
    if turn.understood is None or turn.understood.intent not in line.intents:
        intent = turn.understood.intent if turn.understood else "nothing"
        faults["intent"] = f"{intent} instead of {list(line.intents)}"
    if false := untruths(turn.text, turn.shown, vocabulary):
        faults["truth"] = f"{false} in {turn.text!r}"
    if not turn.text.strip():
        faults["truth"] = "no text"
    return faults


def _products(turn: Turn) -> list[Shown]:
    return [card for card in turn.shown if card.corpus is Corpus.PRODUCT]


def _card_fault(line: Line, turn: Turn, before: Sequence[Turn]) -> str:
    """What is wrong with a card; "" where all is well, or nothing is asked of the cards."""
    cards, rules = _products(turn), line.cards
    if not rules:
        return ""
    if not cards:
        return NO_CARDS if line.replies == (Kind.CARDS,) else ""
    ceiling = _ceiling(rules, before)
    others = _others(rules, before)
    for card in cards:
        wrong = [rule for rule, value in rules.items() if not _meets(card, rule, value)]
        if ceiling is not None and card.price is not None and card.price >= ceiling:
            wrong.append("cheaper")
        if card.item in others:
            wrong.append("other_than")
        if wrong:
            return f"{', '.join(wrong)}: {card.title} ({card.price}, {card.brand}, {card.category})"
    return ""


def _meets(card: Shown, rule: str, value: Any) -> bool:
    """Whether a card meets a rule that concerns it alone."""
    match rule:
        case "category" | "tag":
            return _has(card, value)
        case "without":
            return not _has(card, value)
        case "max_price":
            return card.price is not None and card.price <= Decimal(str(value))
        case "min_price":
            return card.price is not None and card.price >= Decimal(str(value))
        case "brand":
            brand = card.brand.lower()
            return any(brand == one or brand.startswith(f"{one} ") for one in _list(value))
    return True


def _has(card: Shown, words: Sequence[str]) -> bool:
    parts = (card.title, *card.category.split(" > "))
    return any(contains(part, word) for part in parts for word in _list(words))


def _ceiling(rules: Mapping[str, Any], before: Sequence[Turn]) -> Decimal | None:
    """The price of the dearest card of the turn before, where cards must cost less."""
    if not rules.get("cheaper") or not before:
        return None
    prices = [card.price for card in _products(before[-1]) if card.price is not None]
    return max(prices, default=None)


def _others(rules: Mapping[str, Any], before: Sequence[Turn]) -> set[str]:
    """The products that must not be shown again."""
    turns_ago = rules.get("other_than", 0)
    if not turns_ago or turns_ago > len(before):
        return set()
    return {card.item for card in _products(before[-turns_ago])}


def pair_fault(first: Sequence[Played], second: Sequence[Played]) -> str:
    """What is wrong with a pair of conversations that differ in feeling; "" for nothing."""
    for one in (*first, *second):
        for rule in ("escalates", "upsells"):
            if rule in one.faults:
                return f"{one.script.name}, turn {one.place + 1}: {one.faults[rule]}"
    if all(one.turn.kinds == two.turn.kinds for one, two in zip(first, second, strict=False)):
        return f"{first[0].script.name} and {second[0].script.name} are answered alike"
    return ""
