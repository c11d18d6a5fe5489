"""Limits of a price in the words of an utterance, and numbers that are none."""

from decimal import Decimal

import pytest

from feature_store.language.labels import SlotKind
from online.chat.pricing import limits_of, with_prices
from online.chat.understanding import Slot


def limits(utterance: str) -> set[str]:
    """As `<= 5`, `>= 8`."""
    signs = {SlotKind.MAX_PRICE: "<=", SlotKind.MIN_PRICE: ">="}
    return {f"{signs[slot.kind]} {slot.value}" for slot in limits_of(utterance)}


@pytest.mark.parametrize(
    ("utterance", "found"),
    [
        ("more than 8 but less than 15 dollars", {">= 8", "<= 15"}),
        ("between ten and twenty five bucks", {">= 10", "<= 25"}),
        ("budget is 5 to 15", {">= 5", "<= 15"}),
        ("$20 is my limit", {"<= 20"}),
        ("nothing over $5 each", {"<= 5"}),
        ("no less than $5", {">= 5"}),
        ("$4 cap", {"<= 4"}),
        ("１０块以内", {"<= 10"}),
        ("十蚊樓下", {"<= 10"}),
        ("别超过两块五", {"<= 2.5"}),
        ("十蚊至三十蚊之間", {">= 10", "<= 30"}),
        ("for 6 people, 2 to 3 year olds", set()),
        ("my order was due between 4 and 6", set()),
        ("a 12-18 oz bag, at least 2 pounds", set()),
        ("我买了二十五块的菜", set()),
    ],
)
def test_what_words_say_of_prices(utterance: str, found: set[str]) -> None:
    assert limits(utterance) == found


def test_what_the_words_say_goes_before_what_was_guessed() -> None:
    text = "6 of us, nothing over $5"
    guessed = Slot(SlotKind.MIN_PRICE, "6", Decimal(6), 0, 1)
    goods = Slot(SlotKind.OCCASION, "us", "us", 5, 7)
    found = with_prices([guessed, goods], text)
    assert [(slot.kind, slot.text) for slot in found] == [
        (SlotKind.OCCASION, "us"),
        (SlotKind.MAX_PRICE, "$5"),
    ]
    assert with_prices([guessed], "6 of us") == [guessed]
