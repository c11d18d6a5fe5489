"""What the words of slots amount to, in both languages."""

from decimal import Decimal

import pytest

from online.chat.values import count_of, place_of, price_of


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$4", "4"), ("20 dollars", "20"), ("twenty bucks", "20"), ("２０块", "20"),
        ("二十块", "20"),
        ("三十块钱", "30"), ("1,299.50", "1299.5"), ("15刀", "15"), ("五块五", "5.5"),
        ("50 cents", "0.5"), ("九块九", "9.9"), ("两百", "200"), ("一千五", "1500"),
        ("twenty five dollars", "25"), ("a hundred bucks", "100"), ("3块5毛", "3.5"),
        ("2k", "2000"),
    ],
)  # fmt: skip
def test_prices(text: str, amount: str) -> None:
    assert price_of(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text", ["", "cheap", "便宜", "$", "9" * 40, "1.2.3.4", "〇〇点", "半半半"]
)
def test_what_is_no_price_fails_quietly(text: str) -> None:
    amount = price_of(text)
    assert amount is None or amount >= 0


@pytest.mark.parametrize(
    ("text", "count"),
    [("two", 2), ("三瓶", 3), ("a couple", 2), ("half a dozen", 6), ("两打", 24), ("半斤", 1),
     ("十二个", 12), ("two dozen", 24), ("some", 1)],
)  # fmt: skip
def test_counts(text: str, count: int) -> None:
    assert count_of(text) == count


@pytest.mark.parametrize(
    ("text", "place"),
    [("the second one", 2), ("第一个", 1), ("that last one", -1), ("最后那个", -1), ("number 3", 3),
     ("#2", 2), ("倒数第二个", -2), ("second to last", -2), ("第２款", 2), ("the 2nd one", 2)],
)  # fmt: skip
def test_places(text: str, place: int) -> None:
    assert place_of(text) == place
