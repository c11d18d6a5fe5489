"""A text read once for all that looks at it: normal form, tokens, and keys with slips set right."""

from collections.abc import Iterable
from dataclasses import dataclass

from feature_store.language.gazetteer import keys_of
from feature_store.language.normal import MAX_CHARACTERS, Normal, Token, normalise, tokens_of
from feature_store.language.spelling import Speller


@dataclass(frozen=True, slots=True)
class Read:
    """A text's normal form and tokens; `words` and `keys` have one entry a token."""

    normal: Normal
    tokens: list[Token]
    words: list[str]
    keys: list[str]


class Reader:
    """Reads texts with the spelling of a vocabulary, the most frequent word first."""

    def __init__(
        self,
        vocabulary: Iterable[str],
        max_characters: int = MAX_CHARACTERS,
        others: Iterable[str] = (),
    ) -> None:
        """`max_characters` of a text are read; `others` are words that are right as they are."""
        self._speller = Speller(vocabulary, others)
        self._max_characters = max_characters

    def read(self, text: str) -> Read:
        """A text as models see it; never fails."""
        normal = normalise(text, self._max_characters)
        tokens = tokens_of(normal.text)
        words = [token.text for token in tokens]
        return Read(normal, tokens, words, keys_of(map(self._speller.correct, words)))
