"""Scripted conversations with a trained shop's chat, as lines of `make bench-chat`.

The judging half of the repository's conversations, which nothing else reads. It knows the kit and
no part of the chat.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from offline.chat.scripts import read_scripts
from offline.chat.texts import LANGUAGES, TEXTS
from offline.converse import figures_of, play_all
from offline.home import Home
from offline.progress import QUIET

USER: Final = "718"
CURRENCY: Final = "USD"


def conversation_rows(home: Path, half: str = "judging") -> Iterator[dict[str, Any]]:
    """The figures of each language's conversations with the champion of a home."""
    for language in LANGUAGES:
        scripts = read_scripts(TEXTS / "conversations" / f"{half}_{language}.yaml")
        played = play_all(Home.at(home), scripts, USER, CURRENCY, QUIET)
        yield {"language": language, **figures_of(played)}
