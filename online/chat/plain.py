"""A shopper's own text made harmless: to be kept, sent back and shown to staff.

It knows nothing of what the text means.
"""

from typing import Final

from feature_store.language.normal import normal_text

MAX_CHARACTERS: Final = 300
MARKUP: Final = str.maketrans(dict.fromkeys('<>{}[]`*_|\\^~#=&$@"', " "))
"""Signs that a page or a model might take for more than text."""


def plain(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text in its normal form, without markup and without what cannot be seen."""
    return " ".join(normal_text(text, limit).translate(MARKUP).split())
