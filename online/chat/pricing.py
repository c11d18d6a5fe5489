"""What an utterance says of prices, read from its words: amounts, and what compares with them.

An amount counts where it has a sign or a word of money, or where a word stands beside it that
limits and it measures nothing else. It knows no product and no other slot.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from feature_store.language.labels import SlotKind
from online.chat.understanding import Slot
from online.chat.values import price_of

_ONES: Final = "one|two|three|four|five|six|seven|eight|nine"
_TENS: Final = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_NUMBER: Final = (
    r"(?:\d+(?:[.,]\d+)?"
    rf"|\b(?:(?:{_TENS})(?:[ -](?:{_ONES}))?|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    rf"|seventeen|eighteen|nineteen|{_ONES}|a hundred)\b"
    r"|[一二两兩三四五六七八九十百]+)"
)
_PARTS: Final = (
    r"(?:\d+|[一二两兩三四五六七八九十百]+)[块塊蚊元](?:半|[一二三四五六七八九1-9](?![\d块塊元]))"
)
_UNIT: Final = r"(?:dollars?|bucks?|usd\b|quid|美元|美金|美刀|块钱?|塊錢?|元|刀|蚊|文)"
_MEASURES: Final = (
    r"(?!\s*-?\s*(?:(?:oz|ounces?|lbs?|pounds?|packs?|pk|ct|counts?|ml|l|liters?|litres?|kg|g|grams?"
    r"|percent|people|persons?|guests|kids|children|years?|yrs?|rolls?|bottles?|cans?|box(?:es)?"
    r"|bags?|days?|weeks?|months?|hours?|minutes?|inch(?:es)?|stars?|of (?:us|them|those|these)"
    r"|items?|things?|pieces?|am|pm|o'?clock|calories|cal|watts?)\b"
    r"|%|[个個人岁歲瓶盒包袋克升斤卷片天点點月号號折只隻支枝条條罐箱度口样樣种種款份件位年分杯层次周小]))"
)
_MONEY: Final = rf"(?:{_PARTS}|[$￥¥]\s*{_NUMBER}|{_NUMBER}\s*(?:\$|{_UNIT}))"
_AMOUNT: Final = rf"(?:{_MONEY}|{_NUMBER}(?![\d.]){_MEASURES})"

_NOT: Final = r"(?:\b(?:no|not|nothing|none|never|without|cannot|\w+n'?t)\b[^.,;!?]{0,20}?)"
_MAX_BEFORE: Final = (
    rf"{_NOT}\b(?:more than|over|above|past|exceed\w*|higher than)"
    r"|\b(?:under|below|less than|at most|max(?:imum)?(?: of)?|up to|within|cheaper than"
    r"|capp?(?:ed)?(?: it)? at|(?:keep|stay|stick)(?: it| them)?(?: to)?(?: under| below| within)?"
    r"|budget(?: is| of|:)?|limit(?: is| of)|ceiling(?: is| of)?|south of|beneath)"
    r"|不能超过|不要超过|不超过|别超过|不可超过|不得超过|不能超過|不要超過|不超過|別超過|超不过|唔好超過|唔超過"
    r"|最多掏?花?出?付?|最高|顶多|頂多|至多|不高于|不高於|低于|低於|少于|少於|小于|小於|便宜过|便宜過"
    r"|预算(?:是|就|只有|大概|在)?|預算(?:是|就|只有|大概|在)?|控制在|限|不到"
)
_MAX_BEFORE_MONEY: Final = r"\b(?:only (?:have|got)|spend|afford|budget)|只有|只带了|只帶了|就"
_NO_LESS: Final = rf"{_NOT}\b(?:less than|under|below|cheaper than)"
_MIN_BEFORE: Final = (
    r"\b(?:over|above|more than|at least|min(?:imum)?(?: of)?|starting (?:at|from)|upwards? of"
    r"|north of|beyond|pricier than|exceeding)"
    r"|不低于|不低於|不少于|不少於|不能低于|不能低於|至少|最少|最低|起码|起碼|高于|高於|超过|超過|大于|大於|多于|多於"
)
_MAX_AFTER: Final = (
    r"(?:or|and) (?:less|under|below|cheaper|lower)|max(?:imum)?\b|tops\b"
    r"|at (?:the )?(?:very )?most"
    r"|cap\b|limit\b|ceiling\b|budget\b|is (?:my|the|our) (?:limit|max\w*|budget|cap|ceiling)"
    r"|(?:is )?(?:as high as|all) i(?:'ll| will| can| have|'ve got)"
    r"|(?:及)?以下|(?:以|之)?[内內]|封顶|封頂|往下|樓下|楼下|为限|為限|打住|上限|不到|或(?:者)?(?:更)?(?:少|便宜)"
)
_MIN_AFTER: Final = (
    r"(?:or|and) (?:more|up|over|above|upwards?)|min(?:imum)?\b|at (?:the )?(?:very )?least"
    r"|\+|(?:及)?以上|起|往上|朝上|开外"
)
_TO: Final = r"\s*(?:-|–|—|~|～|to|and|or|到|至)\s*"
_RANGE: Final = re.compile(
    r"(?P<word>\b(?:between|from|anywhere from|(?:budget|price)(?: is| of|:)?)\s*"
    r"|介于|介於|[预預]算(?:是|在|大概)?)?"
    rf"(?P<low>{_AMOUNT})(?:左右|上下)?{_TO}(?P<high>{_AMOUNT})\s*(?P<between>之间|之間|中间|中間)?",
    re.IGNORECASE,
)
_LIMITS: Final = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (SlotKind.MIN_PRICE, rf"(?:{_NO_LESS})\s*(?P<amount>{_AMOUNT})"),
        (SlotKind.MAX_PRICE, rf"(?:{_MAX_BEFORE})\s*(?P<amount>{_AMOUNT})"),
        (SlotKind.MAX_PRICE, rf"(?:{_MAX_BEFORE_MONEY})\s*(?P<amount>{_MONEY})"),
        (SlotKind.MIN_PRICE, rf"(?:{_MIN_BEFORE})\s*(?P<amount>{_AMOUNT})"),
        (SlotKind.MAX_PRICE, rf"(?P<amount>{_AMOUNT})\s*(?:{_UNIT})?\s*(?:{_MAX_AFTER})"),
        (SlotKind.MIN_PRICE, rf"(?P<amount>{_AMOUNT})\s*(?:{_UNIT})?\s*(?:{_MIN_AFTER})"),
    )
)
_OF_TIME: Final = re.compile(
    r"\b(?:due|deliver\w*|arriv\w*|open|pick ?up|slot|order(?:ed)?|o'?clock)\b|送|点半|[点點]到",
    re.IGNORECASE,
)
"""Where a range of numbers without money may be one of hours."""

_HALF_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_IS_MONEY: Final = re.compile(_MONEY, re.IGNORECASE)
_PRICES: Final = frozenset({SlotKind.MAX_PRICE, SlotKind.MIN_PRICE})
_REPLACED: Final = frozenset({SlotKind.QUANTITY, SlotKind.SIZE, SlotKind.FOR_WHOM})
"""What a limit of the price is taken for."""


def with_prices(slots: Sequence[Slot], utterance: str) -> list[Slot]:
    """The slots with the limits that the words set, in place of others and of what overlaps."""
    limits = list(limits_of(utterance))
    kept = [
        slot
        for slot in slots
        if not (limits and slot.kind in _PRICES)
        and (
            slot.kind not in _REPLACED
            or not any(slot.start < one.end and one.start < slot.end for one in limits)
        )
    ]
    return sorted([*kept, *limits], key=lambda slot: slot.start)


def limits_of(utterance: str) -> Iterator[Slot]:
    """The limits that an utterance sets, as slots; each amount once."""
    text = utterance.translate(_HALF_WIDTH)
    taken: list[tuple[int, int]] = []
    for found in _RANGE.finditer(text):
        is_said = found["word"] or found["between"]
        is_time = _OF_TIME.search(text) is not None
        if (is_said and not is_time) or _IS_MONEY.search(found[0]):
            low, high = price_of(found["low"]), price_of(found["high"])
            if low is not None and high is not None and low <= high:
                taken.append(found.span())
                yield _slot(SlotKind.MIN_PRICE, utterance, found.span("low"), low)
                yield _slot(SlotKind.MAX_PRICE, utterance, found.span("high"), high)
    for kind, pattern in _LIMITS:
        for found in pattern.finditer(text):
            start, end = found.span("amount")
            amount = price_of(found["amount"])
            is_free = all(end <= first or last <= start for first, last in taken)
            if amount is not None and is_free and found["amount"].lower() != "one":
                taken.append((start, end))
                yield _slot(kind, utterance, (start, end), amount)


def _slot(kind: SlotKind, utterance: str, span: tuple[int, int], amount: Decimal) -> Slot:
    return Slot(kind, utterance[slice(*span)], amount, *span)
