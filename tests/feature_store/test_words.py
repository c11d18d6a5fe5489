"""Words of titles: plurals, phrases and pairs, in both languages."""

import pytest

from feature_store.codes import indexed_terms
from feature_store.language.words import contains, singular, terms_of, terms_of_phrase, words_of


@pytest.mark.parametrize(
    ("word", "one"),
    [
        ("chips", "chip"),
        ("berries", "berry"),
        ("pies", "pie"),
        ("tomatoes", "tomato"),
        ("sandwiches", "sandwich"),
        ("boxes", "box"),
        ("cheeses", "cheese"),
        ("glass", "glass"),
        ("asparagus", "asparagus"),
        ("gas", "gas"),
        ("knives", "knife"),
        ("men's", "men"),
        ("milk", "milk"),
        ("cookies", "cookie"),
        ("brownies", "brownie"),
    ],
)
def test_a_plural_and_its_singular_are_one_word(word: str, one: str) -> None:
    assert singular(word) == one


def test_a_phrase_is_found_only_side_by_side() -> None:
    assert contains("Vanilla ICE CREAMS 1 qt", "ice cream")
    assert not contains("cream with ice", "ice cream")
    assert contains("全脂牛奶 1升", "牛奶")
    assert not contains("奶牛玩具", "牛奶")
    assert not contains("anything", "!?")


def test_terms_are_words_and_neighbours() -> None:
    assert terms_of("Hot dog buns") == {"hot", "dog", "bun", "hot dog", "dog bun"}
    assert terms_of_phrase("hot dog buns") == ["hot dog", "dog bun"]
    assert terms_of_phrase("Buns") == ["bun"]
    assert words_of("") == []


def test_the_index_is_what_reading_every_text_gives() -> None:
    texts = [
        ("Hot Dogs", "MEAT > HOT DOGS"),
        ("Buns", "BREAD > HOT BUNS"),
        ("", ""),
        ("Hot Dogs", "X"),
    ]
    words, ends, items = indexed_terms(texts)
    starts = [0, *ends[:-1].tolist()]
    assert words == sorted(words)
    for word, start, end in zip(words, starts, ends.tolist(), strict=True):
        naive = [
            number
            for number, (title, path) in enumerate(texts)
            if any(word in terms_of(part) for part in (title, *path.split(" > ")))
        ]
        assert items[start:end].tolist() == naive, word
    assert "dog hot" not in words
