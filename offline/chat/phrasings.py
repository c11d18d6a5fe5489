"""Phrasings made utterances: one of the choices of each, and words of the lexicon in its places.

A phrasing is a sentence with choices, `<any|some> {tag} {category}`, and the places of slots. It is
drawn from several times, each time with other words, so that what is learned is the sentence and
not the words in its places. The same seed draws the same utterances.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from feature_store.language.labels import Intent, SlotKind
from offline.chat.texts import LANGUAGES, TEXTS, Entry, Utterance, marked, read_phrasings

_CHOICE: Final = re.compile(r"<([^<>]*)>")
_PLACE: Final = re.compile(r"\{(\w+)\}")
_FOREIGN_SHARE: Final = 0.05
"""How often a place is filled with a word of the other language."""
_SLIP_SHARE: Final = 0.12
_SLIP_LENGTH: Final = 5
"""Shorter words are not misspelt: they would become others."""
_CATEGORY_SHARE: Final = 0.4
"""How often what is not wanted is a kind of product."""

_NUMBERS: Final = {
    "en": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "zh": ("一", "两", "三", "四", "五", "六", "七", "八", "九", "十"),
}
_PRICES: Final = {
    "en": (
        ("${}", 6), ("${}.99", 1), ("{} dollars", 3), ("{} bucks", 3), ("{}", 1), ("{}$", 1),
        ("{} usd", 1), ("{}刀", 1),
    ),
    "zh": (("{}块", 6), ("{}元", 5), ("{}块钱", 3), ("¥{}", 1), ("{}", 1), ("{}刀", 1),
        ("{}美元", 1)),
}  # fmt: skip
_ORDINALS: Final = {
    "en": (
        *(f"the {place} {one}" for place in ("first", "second", "third", "last", "fourth", "fifth")
          for one in ("one", "one", "option", "product")),
        *(f"the {place}" for place in ("first", "second", "third", "last", "2nd", "1st")),
        "number one", "number two", "number 3", "that last one", "the 2nd one", "the last two",
        "the one on the left", "the top one", "the middle one", "the bottom one", "#2", "option 2",
        "the first two", "no. 3", "the 1st one", "the other one",
    ),
    "zh": (
        *(f"第{place}{one}" for place in ("一", "二", "三", "四", "2", "1")
          for one in ("个", "个", "款", "种")),
        "最后一个", "最后那个", "最后一款", "前两个", "上面那个", "中间那个", "倒数第二个",
        "第一和第二个", "左边那个", "前面那个", "下面那个", "右边那个", "头一个", "后面那个",
    ),
}  # fmt: skip
_UNITS: Final = {
    "en": ("",),
    "zh": (
        "个",
        "瓶",
        "盒",
        "包",
        "袋",
        "箱",
        "斤",
        "罐",
        "份",
        "桶",
        "件",
        "支",
        "条",
        "块",
        "杯",
    ),
}
_MORE_QUANTITIES: Final = {
    "en": ("a couple", "a dozen", "half a dozen", "a few", "two dozen", "12", "20", "24"),
    "zh": ("一打", "半斤", "几个", "一些", "十二个", "20个", "两份"),
}
_MEASURES: Final = {
    "en": (
        "{} oz", "{} ounce", "{} liter", "{} lb", "{} pack", "{} count", "{}ml", "{} kg",
        "{} pound",
        "{} ct", "{}-pack", "{} gallon", "{}oz", "{} inch", "{}L", "{} grams",
        "size {}",
        "{} rolls",
    ),
    "zh": (
        "{}克", "{}升", "{}毫升", "{}公斤", "{}斤装", "{}L", "{}ml", "{}g", "{}kg", "{}支装",
        "{}片装", "{}包装", "{}卷", "{}寸", "{}斤", "{}码", "{}个装", "{}抽",
    ),
}  # fmt: skip
_AMOUNTS: Final = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30, 32, 100, 200, 250, 500, 750)


class Filler:
    """Draws what stands in a place."""

    def __init__(self, entries: Sequence[Entry], rng: np.random.Generator) -> None:
        self._rng = rng
        self._forms: dict[tuple[SlotKind, str], list[str]] = {}
        for entry in entries:
            for language, forms in entry.forms.items():
                self._forms.setdefault((entry.kind, language), []).extend(forms)
        self._draws: Mapping[SlotKind, Callable[[str], str]] = {
            SlotKind.QUANTITY: self._quantity,
            SlotKind.ORDINAL: lambda language: self._one(_ORDINALS[language]),
            SlotKind.SIZE: self._size,
            SlotKind.WITHOUT: self._without,
        }

    def fill(self, language: str, phrasing: str) -> str:
        """One text of a phrasing, its slots marked as in written utterances."""
        sentence = _CHOICE.sub(lambda found: self._one(found[1].split("|")), phrasing)
        low = int(self._rng.integers(1, 80))
        prices = {
            SlotKind.MIN_PRICE: low,
            SlotKind.MAX_PRICE: low + int(self._rng.integers(1, 60)),
        }

        def place(found: re.Match[str]) -> str:
            kind = SlotKind(found[1])
            words = (
                self._price(language, prices[kind])
                if kind in prices
                else self._word(kind, language)
            )
            return f"[{words}]({kind})"

        return " ".join(_PLACE.sub(place, sentence).split())

    def _word(self, kind: SlotKind, language: str) -> str:
        if self._rng.random() < _FOREIGN_SHARE:
            language = LANGUAGES[1 - LANGUAGES.index(language)]
        drawn = self._draws.get(kind)
        words = drawn(language) if drawn else self._one(self._forms[kind, language])
        return self._slip(words) if self._rng.random() < _SLIP_SHARE else words

    def _one(self, choices: Sequence[str]) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def _price(self, language: str, amount: int) -> str:
        patterns = _PRICES[language]
        weights = np.array([weight for _, weight in patterns])
        pattern = patterns[int(self._rng.choice(len(patterns), p=weights / weights.sum()))][0]
        if amount <= len(_NUMBERS[language]) and self._rng.random() < 0.3 and "$" not in pattern:
            return pattern.format(_NUMBERS[language][amount - 1])
        return pattern.format(amount)

    def _quantity(self, language: str) -> str:
        if self._rng.random() < 0.15:
            return self._one(_MORE_QUANTITIES[language])
        number = int(self._rng.integers(1, 11))
        spelt = self._rng.random() < 0.6
        unit = self._one(_UNITS[language])
        return f"{_NUMBERS[language][number - 1] if spelt else number}{unit}"

    def _size(self, language: str) -> str:
        if self._rng.random() < 0.5:
            return self._one(self._forms[SlotKind.SIZE, language])
        amount = _AMOUNTS[int(self._rng.integers(len(_AMOUNTS)))]
        return self._one(_MEASURES[language]).format(amount)

    def _without(self, language: str) -> str:
        kind = SlotKind.CATEGORY if self._rng.random() < _CATEGORY_SHARE else SlotKind.WITHOUT
        return self._one(self._forms[kind, language])

    def _slip(self, words: str) -> str:
        """Two letters changed over, or one lost or doubled, as fingers do."""
        if len(words) < _SLIP_LENGTH or not words.isascii():
            return words
        place = int(self._rng.integers(1, len(words) - 1))
        left, here, after = words[:place], words[place], words[place + 1 :]
        if not (here + after[:1]).isalpha():
            return words
        return self._one(
            (left + after, left + here + here + after, left + after[0] + here + after[1:])
        )


def draw_utterances(entries: Sequence[Entry], num_each: int, seed: int) -> list[Utterance]:
    """`num_each` utterances of each of the repository's phrasings, in both languages."""
    return [
        marked(language, Intent(heading), text)
        for language, heading, text in draw(entries, "{language}.txt", num_each, seed)
    ]


def draw(
    entries: Sequence[Entry], file: str, num_each: int, seed: int
) -> Iterator[tuple[str, str, str]]:
    """`num_each` texts of each phrasing of a file: language, heading, text with marks."""
    filler = Filler(entries, np.random.default_rng(seed))
    for language in LANGUAGES:
        path = TEXTS / "phrasings" / file.format(language=language)
        for heading, phrasing in read_phrasings(path):
            for _ in range(num_each):
                yield language, heading, filler.fill(language, phrasing)
