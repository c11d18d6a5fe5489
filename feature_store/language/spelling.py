"""Slips of the finger set right: a word that nobody uses, for the nearest one that people do use.

It knows English words alone; a Chinese slip is met by `gazetteer`.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from rapidfuzz import process
from rapidfuzz.distance import OSA

MIN_LENGTH: Final = 4
"""A shorter word is one letter away from too many others."""
_LONG: Final = 7
"""From this length on, two slips are set right instead of one."""


class Speller:
    """Knows the words that people use, the most frequent first."""

    def __init__(self, words: Iterable[str], others: Iterable[str] = ()) -> None:
        """`words` are in small letters; `others` are right too, but nothing is set to them."""
        known = dict.fromkeys(words)
        self._known = frozenset((*known, *others))
        self._by_letter: dict[str, list[str]] = {}
        for word in known:
            if len(word) >= MIN_LENGTH and word.isascii():
                self._by_letter.setdefault(word[0], []).append(word)
        self.correct = lru_cache(20_000)(self._correct)

    def _correct(self, word: str) -> str:
        """The word meant; the word itself when it is known, or like none that is."""
        if len(word) < MIN_LENGTH or word in self._known or not (word.isascii() and word.isalpha()):
            return word
        near = process.extractOne(
            word,
            self._by_letter.get(word[0], ()),
            scorer=OSA.distance,
            score_cutoff=2 if len(word) >= _LONG else 1,
        )
        return near[0] if near else word
