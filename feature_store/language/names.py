"""What names mean: the words, category paths, brands and tags of a shop that a name stands for.

Written with a bundle and read from it. It knows no text and no catalogue.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

from feature_store.language.labels import Intent, SlotKind

CHAT: Final = "chat/understanding"
"""The folder of a bundle that holds what understanding has learned."""
NAMES: Final = f"{CHAT}/names.json"
SETTINGS: Final = f"{CHAT}/settings.json"
NEAREST: Final = f"{CHAT}/nearest"
"""The folder of the vectors of names, for words that are none."""

NEAREST_PROPERTIES: Final = f"{CHAT}/nearest_properties"
"""The same of the words that shelves and titles are described with."""

HABITS: Final = f"{CHAT}/habits"
"""The array of what each intent gains after each other: shape (2 x (1 + intents), intents).

Two rows for the first turn, then two for each intent before: without and with cards shown.
"""


@dataclass(frozen=True, slots=True)
class Name:
    """A name as shoppers say it, in normal form, and what it stands for."""

    kind: SlotKind
    text: str
    words: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def row(self) -> list[Any]:
        """The name as JSON."""
        return [self.kind.value, self.text, self.words, self.paths, self.brands, self.tags]

    @classmethod
    def from_row(cls, row: list[Any]) -> Self:
        """The name that `row` wrote."""
        kind, text, *rest = row
        return cls(SlotKind(kind), text, *map(tuple, rest))


def habit_of(intent: Intent | None, *, shows: bool) -> int:
    """The row of `HABITS` after an intent, None for the first turn; `shows`: cards were shown."""
    place = 0 if intent is None else 1 + tuple(Intent).index(intent)
    return 2 * place + shows
