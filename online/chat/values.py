"""What the words of a slot amount to: prices, counts, places in a row of cards, plain forms.

It reads a slot's normal form alone, and knows no shop and no model.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

import cn2an

from feature_store.language.labels import SlotKind
from feature_store.language.normal import normal_text

_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_CHINESE: Final = re.compile("[零〇一二两三四五六七八九十百千万亿半]+")
_CENTS: Final = re.compile(r"\b(?:cents?|¢)|¢|角|毛")
_YUAN_AND_JIAO: Final = re.compile(
    "([零〇一二两三四五六七八九十百千万\\d]+)[块元]([一二三四五六七八九1-9])[毛角]?$"
)
_NUMBER_WORDS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS_WORDS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES: Final = {word: number for number, word in enumerate(_NUMBER_WORDS.split())}
_TENS: Final = {word: 10 * number for number, word in enumerate(_TENS_WORDS.split(), start=2)}
_PLACES: Final = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10, "last": -1, "bottom": -1, "latter": -1, "top": 1,
    "former": 1, "left": 1, "right": -1, "middle": 2, "final": -1,
}  # fmt: skip
_FEW: Final = {"couple": 2, "pair": 2, "both": 2, "few": 3, "dozen": 12, "single": 1, "another": 1}
_MOST: Final = Decimal(10) ** 9


def price_of(text: str) -> Decimal | None:
    """The amount of money that a text names, in units of the currency; None for no amount."""
    plain = normal_text(text)
    parts = _YUAN_AND_JIAO.search(plain)
    if parts:
        whole, tenth = number_of(parts[1]), number_of(parts[2])
        return None if whole is None or tenth is None else whole + tenth / 10
    amount = number_of(plain)
    if amount is None:
        return None
    return (
        amount / (10 if "毛" in plain or "角" in plain else 100) if _CENTS.search(plain) else amount
    )


def number_of(text: str) -> Decimal | None:
    """The first number of a text in normal form: in digits, in Chinese or in English words."""
    digits = _NUMBER.search(text)
    found = (
        _digits(digits[0]) * _scale(text[digits.end() :])
        if digits
        else _chinese(text) or _english(text)
    )
    return found if found is not None and 0 <= found < _MOST else None


def _scale(rest: str) -> int:
    """What follows the digits: 2k, 3百, 1万."""
    for unit, times in (("k", 1000), ("百", 100), ("千", 1000), ("万", 10_000)):
        if re.match(rf"{unit}(?![a-z])", rest):
            return times
    return 1


def _digits(text: str) -> Decimal:
    """`1,299.50`, `4.5` and `4,50` alike: three digits after a comma are thousands."""
    plain = re.sub(r",(?=\d{3}(?:\D|$))", "", text).replace(",", ".")
    try:
        return Decimal(plain)
    except InvalidOperation:  # several points: 1.2.3
        return Decimal(plain.partition(".")[0])


def _chinese(text: str) -> Decimal | None:
    found = _CHINESE.search(text)
    if not found:
        return None
    if found[0] == "半":
        return Decimal("0.5")
    try:
        return Decimal(str(cn2an.cn2an(found[0].replace("半", "").replace("两", "二"), "smart")))
    except ValueError:
        return None


def _english(text: str) -> Decimal | None:
    total, seen = 0, False
    words = re.findall("[a-z]+", text)
    for word in words:
        if word in _ONES or word in _TENS:
            total, seen = total + (_ONES.get(word) or _TENS.get(word) or 0), True
        elif word == "hundred":
            total, seen = max(total, 1) * 100, True
        elif word == "thousand":
            total, seen = max(total, 1) * 1000, True
        elif seen and word not in {"and", "a"}:
            break
    if seen:
        return Decimal(total * 12 if "dozen" in words else total)
    few = [_FEW[word] for word in words if word in _FEW]
    if few:
        return Decimal(6 if "half" in words and few == [12] else few[0])
    return Decimal(1) if words[:1] in (["a"], ["an"]) else None


def count_of(text: str) -> int:
    """How many a text says, at least 1; half a pound is one of something."""
    plain = normal_text(text)
    if "打" in plain:
        return 6 if "半" in plain else 12 * int(_chinese(plain.replace("一打", "")) or 1)
    amount = number_of(plain)
    return 1 if amount is None else max(1, int(amount))


def place_of(text: str) -> int:
    """Which card a text points at: 1 for the first, -1 for the last, -2 for the last but one."""
    plain = normal_text(text)
    words = re.findall("[a-z]+", plain)
    number = (
        number_of(re.sub("[^零一二两三四五六七八九十0-9a-z]", " ", plain)) if not words else None
    )
    if words:
        digits = _NUMBER.search(plain)
        named = [_PLACES[word] for word in words if word in _PLACES]
        if "last" in words and ("second" in words or "before" in words or "but" in words):
            return -2
        place = int(_digits(digits[0])) if digits else named[0] if named else 0
        return place or int(_english(plain) or 1)
    if "倒数" in plain:
        return -int(number or 1)
    if number is not None:
        return int(number) or 1
    if any(one in plain for one in ("最后", "末", "后面", "下面", "右")):
        return -1
    return 2 if "中间" in plain else 1


def form_of(kind: SlotKind, text: str) -> str:
    """A plain form of words that nothing is computed of."""
    return kind.value if kind in {SlotKind.CHEAPER, SlotKind.OTHER_BRAND} else normal_text(text)
