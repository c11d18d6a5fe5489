"""The values of a column by how they begin: brands and tags of which a word is the first."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

_MAX_VALUES: Final = 64


class Beginnings:
    """The values of a column by how they begin."""

    def __init__(self, values: Sequence[str]) -> None:
        self._values = sorted((value.lower(), value) for value in values if value)

    def of(self, words: Sequence[str]) -> tuple[str, ...]:
        """The values that begin with one of the words."""
        found: dict[str, None] = {}
        for word in words:
            for lower, value in self._values[bisect_left(self._values, (word, "")) :]:
                if not lower.startswith(word):
                    break
                found[value] = None
        return tuple(found)[:_MAX_VALUES]
