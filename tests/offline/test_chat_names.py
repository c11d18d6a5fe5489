"""What names of a shop stand for: shelves that say them, shelves that mean the same, whole rows."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from feature_store.language.nearest import Nearest
from offline.chat.grounding import Footing, Grounder, Row

SHELVES = {
    "SNACKS > POTATO CHIPS": ["potato chips"],
    "SNACKS > PRETZELS": ["pretzels", "pretzel sticks"],
    "SNACKS > CANDY NON CHOCOLATE": ["candy non chocolate"],
    "SNACKS > CHOCOLATE": ["chocolate"],
    "OTHER > SOY CRISPS": ["soy crisps"],
}
ROW = Row("bag snacks", "SNACKS", tuple(list(SHELVES)[:4]), ("crisps", "umbrella"))
MEANINGS = {"potato chips": 0, "crisps": 0, "薯片": 0, "pretzels": 1, "pretzel sticks": 1, "伞": 2}
MEANINGS |= {"umbrella": 2, "bag snacks": 3, "candy non chocolate": 4, "chocolate": 5}


class Known:
    """Texts of one meaning have one vector, other texts are at right angles to all."""

    space, dimension = "known", 32

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        others = [text for text in dict.fromkeys(texts) if text not in MEANINGS]
        places = [MEANINGS.get(text, 10 + [*others, text].index(text)) for text in texts]
        return np.eye(self.dimension, dtype=np.float32)[places]


@pytest.fixture
def grounder() -> Grounder:
    grounder = Grounder(SHELVES, Known())
    grounder.prepare(["crisps", "薯片", "伞", "pretzels", "mystery", "chocolate"], [ROW])
    return grounder


@pytest.mark.parametrize(
    ("name", "footing", "words", "paths"),
    [
        ("pretzels", Footing.SAID, ("pretzel",), ("SNACKS > PRETZELS",)),
        ("chocolate", Footing.SAID, ("chocolate",), ("SNACKS > CHOCOLATE",)),
        ("crisps", Footing.ALIKE, ("potato chip",), ("SNACKS > POTATO CHIPS",)),
        ("薯片", Footing.ALIKE, ("potato chip",), ("SNACKS > POTATO CHIPS",)),
        ("伞", Footing.WHOLE, ("umbrella",), ("SNACKS",)),
        ("mystery", Footing.WHOLE, ("mystery",), ("SNACKS",)),
    ],
)
def test_a_name_stands_for_shelves(
    grounder: Grounder, name: str, footing: Footing, words: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    found = grounder.ground(name, ROW)
    assert (found.footing, found.words, found.paths) == (footing, words, paths)


def test_words_that_other_shelves_say_are_not_looked_for(grounder: Grounder) -> None:
    assert "crisp" not in grounder.ground("crisps", ROW).words, "it would find soy crisps"


def test_the_nearest_name_is_found() -> None:
    vectors = Known().encode(["crisps", "pretzels", "umbrella"])
    nearest = Nearest.of(vectors, np.array([7, 8, 9], np.int32))
    found = nearest.find(0.9 * vectors[1] + 0.1 * vectors[0])
    assert found is not None
    assert found[0] == 8
    assert 0.98 < found[1] < 1
    assert Nearest.of(vectors[:0], np.zeros(0, np.int32)).find(vectors[0]) is None
