"""The texts that the chatbot learns to understand from: utterances with marked slots, and lexicon.

It reads files and knows no model. Where the files come from is the caller's: the repository's own
lie in `offline/texts`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from feature_store.language.labels import Intent, SlotKind
from offline.errors import TrainingDataError

TEXTS: Final = Path(__file__).parent.parent / "texts"
"""The repository's own texts."""

JUDGING: Final = "judging"
"""The name of what nothing may be learned from or tuned on."""

LANGUAGES: Final = ("en", "zh")

_MARK: Final = re.compile(r"\[([^\[\]]+)\]\((\w+)\)")


@dataclass(frozen=True, slots=True)
class Span:
    """A slot of a text: `text[start:end]` is of that kind."""

    start: int
    end: int
    kind: SlotKind


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a shopper said, what it means, and which parts of it are slots, in order."""

    language: str
    intent: Intent
    text: str
    slots: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """Words of shoppers for one thing: its kind, the catalogue's word, and forms by language."""

    kind: SlotKind
    name: str
    forms: dict[str, tuple[str, ...]]


def read_written(texts: Path = TEXTS) -> list[Utterance]:
    """All utterances that may be learned from."""
    paths = sorted((texts / "utterances").glob("*.jsonl"))
    return [one for path in paths if path.stem != JUDGING for one in read_utterances(path)]


def read_utterances(path: Path) -> list[Utterance]:
    """The utterances of a file of JSON lines; TrainingDataError names the line that is wrong."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            found.append(marked(row["language"], Intent(row["intent"]), row["text"]))
        except (KeyError, ValueError) as error:
            raise TrainingDataError(f"{path}, line {number}: {error}") from error
    return found


def marked(language: str, intent: Intent, text: str) -> Utterance:
    """An utterance from a text whose slots are marked as `[words](kind)`.

    Raises ValueError for a kind that there is not.
    """
    plain: list[str] = []
    slots, length, end = [], 0, 0
    for found in _MARK.finditer(text):
        before = text[end : found.start()]
        start = length + len(before)
        length, end = start + len(found[1]), found.end()
        plain += (before, found[1])
        slots.append(Span(start, length, SlotKind(found[2])))
    return Utterance(language, intent, "".join((*plain, text[end:])), tuple(slots))


def unmarked(text: str) -> str:
    """A text without its marks."""
    return _MARK.sub(r"\1", text)


def read_lexicon(path: Path = TEXTS / "lexicon.tsv") -> list[Entry]:
    """The rows of a lexicon: kind, the catalogue's word, forms in English, forms in Chinese."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line]
    return [
        Entry(SlotKind(kind), name, {"en": tuple(en.split("|")), "zh": tuple(zh.split("|"))})
        for kind, name, en, zh in rows
    ]


def read_phrasings(path: Path) -> Iterator[tuple[str, str]]:
    """Each phrasing of a file with the heading that it stands under."""
    heading = ""
    for line in path.read_text().splitlines():
        if line.startswith("= "):
            heading = line[2:].strip()
        elif line:
            yield heading, line
