"""Names that a shop and its shoppers use, found in a text: which tokens may be what kind of slot.

A name of three Chinese characters and more is found with one of them wrong, since a slip in Chinese
is another character that sounds alike. It knows no meaning: `payloads` are the caller's numbers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from feature_store.language.labels import SlotKind
from feature_store.language.normal import is_han, tokens_of
from feature_store.language.words import singular

_ANY: Final = "?"
_MIN_WILD: Final = 3
_MAX_WILD: Final = 6
_MAX_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class Match:
    """The tokens from `start` to before `end` are a name of a kind; not `exact`: but for one."""

    start: int
    end: int
    kind: SlotKind
    payload: int
    exact: bool


class Gazetteer:
    """Names in their normal form, by the words that they are made of."""

    def __init__(self, names: Iterable[tuple[SlotKind, str, int]]) -> None:
        """`names` are kind, name in normal form, and a payload; the first of two alike stays."""
        self._exact: dict[str, dict[SlotKind, int]] = {}
        self._wild: dict[str, dict[SlotKind, int]] = {}
        self._max_tokens = 1
        for kind, name, payload in names:
            keys = keys_of([token.text for token in tokens_of(name)])
            if not 0 < len(keys) <= _MAX_TOKENS:
                continue
            self._max_tokens = max(self._max_tokens, len(keys))
            self._exact.setdefault(" ".join(keys), {}).setdefault(kind, payload)
            for wild in _wild_keys(keys):
                self._wild.setdefault(wild, {}).setdefault(kind, payload)

    def matches(self, keys: Sequence[str]) -> list[Match]:
        """All names among the keys of a text's tokens (`keys_of`), longer ones first."""
        found: list[Match] = []
        for length in range(min(self._max_tokens, len(keys)), 0, -1):
            for start in range(len(keys) - length + 1):
                part = keys[start : start + length]
                kinds, exact = self._exact.get(" ".join(part)), True
                if kinds is None:
                    kinds, exact = self._nearly(part), False
                if kinds:
                    end = start + length
                    found += [Match(start, end, kind, n, exact) for kind, n in kinds.items()]
        return found

    def lookup(self, keys: Sequence[str], kind: SlotKind) -> int | None:
        """The payload of the name that these keys are, exactly or nearly; None for no name."""
        kinds = self._exact.get(" ".join(keys)) or self._nearly(keys)
        return None if kinds is None else kinds.get(kind)

    def _nearly(self, keys: Sequence[str]) -> dict[SlotKind, int] | None:
        return next(filter(None, map(self._wild.get, _wild_keys(keys))), None)


def keys_of(words: Iterable[str]) -> list[str]:
    """What tokens are compared by: without the English plural, and typographic quotes."""
    return [singular(word).replace("’", "'") for word in words]


def _wild_keys(keys: Sequence[str]) -> Iterator[str]:
    if _MIN_WILD <= len(keys) <= _MAX_WILD and all(map(is_han, keys)):
        for place in range(len(keys)):
            yield " ".join((*keys[:place], _ANY, *keys[place + 1 :]))
