"""Which names mean a kind of product wherever they stand: as written texts show.

`need` is part of a shelf's name, and hardly ever means one. Each name of a kind of product counts
how often written texts mark it as a slot, and how often they do not.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from feature_store.language.gazetteer import Gazetteer
from feature_store.language.labels import SlotKind
from feature_store.language.names import Name
from feature_store.language.reading import Reader
from offline.chat.names import listed_names
from offline.chat.slots import token_spans
from offline.chat.texts import Utterance

_MARKS: Final = frozenset({SlotKind.CATEGORY, SlotKind.WITHOUT})
_MIN_SHARE: Final = 0.5


def trusted_names(
    written: Sequence[Utterance], names: Sequence[Name], reader: Reader, gazetteer: Gazetteer
) -> list[int]:
    """The numbers of the names that are trusted; one that no text has is, if it is of a table."""
    marked: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for utterance in written:
        read = reader.read(utterance.text)
        spans = token_spans(utterance, read.normal, read.tokens)
        for match in gazetteer.matches(read.keys):
            if match.exact and match.kind is SlotKind.CATEGORY:
                seen[match.payload] += 1
                marked[match.payload] += any(
                    start <= match.start and match.end <= end and kind in _MARKS
                    for start, end, kind in spans
                )
    listed = listed_names()
    return [
        number
        for number, name in enumerate(names)
        if name.kind is SlotKind.CATEGORY
        and name.paths
        and (marked[number] >= _MIN_SHARE * seen[number] if seen[number] else name.text in listed)
    ]
