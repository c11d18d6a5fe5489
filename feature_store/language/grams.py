"""Texts as sparse columns: n-grams of characters and of words, hashed to 32 bits.

Training and serving call these functions and no others, so that both see the same columns. A
column is kept under its hash and not under a number modulo a table's size: a model holds only the
columns that it met, and two of them are the same once in four billion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint32]

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(32)
_BORDER: Final = "\x02"
_NOTHING: Final[Hashes] = np.zeros(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Grams:
    """Which n-grams are columns: of characters and of words, the shortest and the longest."""

    characters: tuple[int, int]
    words: tuple[int, int]

    def of(self, text: str, words: Sequence[str]) -> Hashes:
        """The columns of a text, ascending, each once."""
        parts = (
            *character_grams(text, *self.characters),
            *word_grams(words, *self.words),
        )
        return np.unique(np.concatenate(parts)) if parts else _NOTHING


def character_grams(text: str, shortest: int, longest: int) -> list[Hashes]:
    """The hashes of the n-grams of characters for each length, borders included.

    A rolling polynomial of the code points, shape (number of n-grams) for each n.
    """
    bordered = f"{_BORDER}{text}{_BORDER}"
    points = np.frombuffer(bordered.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    rolled, parts = points, []
    for length in range(1, min(longest, len(points)) + 1):
        if length > 1:
            rolled = rolled[:-1] * _MULTIPLIER + points[length - 1 :]
        if length >= shortest:
            parts.append(_mixed(rolled, length))
    return parts


def word_grams(words: Sequence[str], shortest: int, longest: int) -> list[Hashes]:
    """The hashes of the n-grams of words for each length, borders included from two words on."""
    bordered = [_BORDER, *words, _BORDER]
    return [
        _hashed(words if length == 1 else _joined(bordered, length))
        for length in range(shortest, longest + 1)
    ]


def _joined(words: Sequence[str], length: int) -> list[str]:
    return [" ".join(words[n : n + length]) for n in range(len(words) - length + 1)]


def _hashed(texts: Sequence[str]) -> Hashes:
    return np.array([crc32(text.encode("utf-8", "replace")) for text in texts], np.uint32)


def _mixed(rolled: NDArray[np.uint64], length: int) -> Hashes:
    """Spread to 32 bits, different for each length."""
    spread = (rolled ^ (rolled >> _SHIFT)) * _MULTIPLIER + np.uint64(length) * np.uint64(0x51ED27)
    return (spread >> _SHIFT).astype(np.uint32)
