"""Words of Hong Kong and Taiwan as the words that Mandarin on the mainland has for them.

Rows of a table in simplified characters: what is said, and what it is read as. The longest row that
fits counts; a row that says the same twice protects words that only look like another's. It knows
no sentence: characters that mean different things in either stay as they are.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).with_suffix(".tsv")


def in_mandarin(
    characters: Sequence[str], origin: Sequence[int]
) -> tuple[Sequence[str], Sequence[int]]:
    """The characters with rows of the table in place, and where each was written.

    Words of other lengths share the places that they were written at, first and last exactly.
    """
    rows = _rows()
    if rows.keys().isdisjoint(characters):
        return characters, origin
    found: list[str] = []
    places: list[int] = []
    at = 0
    while at < len(characters):
        said, read = next(
            (row for row in rows.get(characters[at], ()) if _stands(row[0], characters, at)),
            (characters[at], characters[at]),
        )
        found += read
        places += (origin[at + _place(number, len(read), len(said))] for number in range(len(read)))
        at += len(said)
    return found, places


def _stands(said: str, characters: Sequence[str], at: int) -> bool:
    return "".join(characters[at : at + len(said)]) == said


def _place(number: int, num_read: int, num_said: int) -> int:
    """Which of the characters that were said stands for a character that is read."""
    return number if num_read == num_said else number * (num_said - 1) // max(1, num_read - 1)


@cache
def _rows() -> dict[str, list[tuple[str, str]]]:
    """The rows by their first character, longer ones first."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for line in TABLE.read_text().splitlines():
        said, read = line.split("\t")
        rows.setdefault(said[0], []).append((said, read))
    for same in rows.values():
        same.sort(key=lambda row: -len(row[0]))
    return rows
