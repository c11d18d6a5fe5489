"""How titles and category names of the shop are kept for the chat: one spelling, one place.

It knows the layout, neither who writes it nor what it is for.
"""

from typing import Final

from feature_store.language.words import words_of

TITLES: Final = "chat/titles"
"""The array of the hashes of titles of two words and more, ascending."""

NAMES_FILE: Final = "chat/names.json"
"""`max_words` of a title, and `names` of categories by language and path."""

TYPE: Final = "TYPE"
"""The first level of a listed name that belongs to a last level, wherever it hangs."""


def title_key(title: str) -> str:
    """What of a title is hashed: its words, as texts are searched for them."""
    return " ".join(words_of(title))
