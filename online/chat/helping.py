"""The seam to the shop's own texts: a question in, the pieces that answer it out.

It knows no way to search.
"""

from collections.abc import Sequence
from typing import Protocol

from online.chat.finding import Finder, Found


class Helper(Protocol):
    """Finds the shop's own texts that answer a question."""

    def help(self, finder: Finder, question: str, kinds: Sequence[str], language: str, /) -> Found:
        """The pieces that answer, the best first; none where no piece does."""
        ...
