"""One spelling of a text for all that reads it, and where each of its characters came from.

Full-width becomes half-width, traditional becomes simplified, capitals become small letters,
characters that cannot be seen are dropped, and words of Hong Kong and Taiwan become those of the
mainland. Each character knows where it came from, so that a place found in the normal form is a
place in what the shopper wrote. It knows no other words.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from opencc import OpenCC

from feature_store.language.dialects import in_mandarin

MAX_CHARACTERS: Final = 600
"""What is read of a text: an utterance is far shorter, and the time for one is bounded so."""

_TOKEN: Final = re.compile(
    r"[^\W\d_㐀-鿿]+(?:['’][^\W\d_㐀-鿿]+)*"  # a word of letters
    r"|\d+(?:[.,]\d+)*"  # a number
    r"|[㐀-鿿]"  # a Chinese character
    r"|\S"  # a sign
)
_HAN: Final = re.compile("[㐀-鿿]")
_LATIN: Final = re.compile("[a-z]+")


@dataclass(frozen=True, slots=True)
class Normal:
    """A text in its normal form; character i was written at `origin[i]` of the original."""

    text: str
    origin: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]`, which is not empty, stands in the original."""
        return self.origin[start], self.origin[end - 1] + 1


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number, a Chinese character or a sign: `text` stands from `start` to `end`."""

    text: str
    start: int
    end: int


def normalise(text: str, limit: int = MAX_CHARACTERS) -> Normal:
    """The normal form of the first `limit` characters."""
    characters: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text[:limit]):
        for plain in _plain(character):
            if plain != " " or (characters and characters[-1] != " "):
                characters.append(plain)
                origin.append(place)
    if characters and characters[-1] == " ":
        del characters[-1], origin[-1]
    read, places = in_mandarin(characters, origin)
    return Normal("".join(read), places)


def normal_text(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The normal form alone."""
    return normalise(text, limit).text


def tokens_of(text: str) -> list[Token]:
    """The tokens of a normal text, in order."""
    return [Token(found[0], found.start(), found.end()) for found in _TOKEN.finditer(text)]


def is_han(text: str) -> bool:
    """Whether the text has a Chinese character."""
    return _HAN.search(text) is not None


def language_of(text: str, locale: str) -> str:
    """`zh` or `en`: which language most of a normal text is in, that of the locale for neither.

    A Chinese character says about as much as an English word, and so it counts as one.
    """
    num_han, num_words = len(_HAN.findall(text)), len(_LATIN.findall(text))
    if num_han == num_words:
        return "zh" if locale.lower().startswith("zh") else "en"
    return "zh" if num_han > num_words else "en"


@cache
def _converter() -> Any:
    return OpenCC("t2s")


@lru_cache(30_000)
def _plain(character: str) -> str:
    """The normal form of one character, a space for what separates, empty for what is unseen."""
    kind = unicodedata.category(character)
    if kind in {"Cf", "Mn", "Cs", "Cn", "Co"}:
        return ""
    if kind[0] in "CZ":
        return " "
    plain = unicodedata.normalize("NFKC", character).lower()
    if is_han(plain):
        plain = _converter().convert(plain)
    return "".join(" " if one.isspace() else one for one in plain)
