"""The words of a title, as bundles index them and filters look for them.

Small letters, singulars, and pairs of neighbours, so that `ice cream` is one look-up and does not
mean cream with ice. A Chinese character counts as a word. It knows no catalogue.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_㐀-鿿]+(?:['’][^\W\d_㐀-鿿]+)*|\d+(?:[.,]\d+)*|[㐀-鿿]")
_WITH_ES: Final = ("ches", "shes", "xes", "sses", "oes", "zzes")
_NO_PLURAL: Final = ("ss", "us", "is")
_IRREGULAR: Final = {
    "knives": "knife",
    "leaves": "leaf",
    "loaves": "loaf",
    "halves": "half",
    "feet": "foot",
    "mice": "mouse",
    "teeth": "tooth",
}
_WITH_IE: Final = frozenset(
    [
        "beanie",
        "birdie",
        "brownie",
        "calorie",
        "cookie",
        "foodie",
        "freebie",
        "goodie",
        "hankie",
        "hoodie",
        "kiddie",
        "movie",
        "pinkie",
        "smoothie",
        "sweetie",
        "veggie",
        "zombie",
    ]
)
"""Words whose plural in -ies is not of a word in -y."""
MIN_PLURAL: Final = 4
"""Shorter words are no plurals: gas, yes."""


def words_of(text: str) -> list[str]:
    """The words in their order, each as `singular` gives it."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return [singular(word) for word in _WORD.findall(plain)]


def singular(word: str) -> str:
    """A word in small letters without the English plural, after Harman 1991 and then some."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < MIN_PLURAL or not word.endswith("s") or word.endswith(_NO_PLURAL):
        return word
    if word.endswith("ies"):
        ends_with_y = len(word) > MIN_PLURAL and word[:-1] not in _WITH_IE
        return word[:-3] + "y" if ends_with_y else word[:-1]
    if word.endswith(_WITH_ES):
        return word[:-2]
    return word[:-1].rstrip("'’")


def terms_of(text: str) -> set[str]:
    """All words of a text, and all pairs of neighbours with a space between."""
    words = words_of(text)
    return {*words, *_pairs(words)}


def terms_of_phrase(phrase: str) -> list[str]:
    """What a text must have all of to contain the phrase: its pairs, or its only word."""
    words = words_of(phrase)
    return list(_pairs(words)) if len(words) > 1 else words


def contains(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand next to each other in a text."""
    wanted, words = words_of(phrase), words_of(text)
    size = len(wanted)
    return bool(size) and any(
        words[start : start + size] == wanted for start in range(len(words) - size + 1)
    )


def _pairs(words: list[str]) -> Iterable[str]:
    return (f"{first} {second}" for first, second in pairwise(words))
