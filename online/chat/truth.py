"""Whether a text says only what stands on its cards.

Any text that is to be said passes here, whoever wrote it: each sum of money and each percentage
must stand on a card, each thing in quotes and each product or brand of the shop must be on one,
and savings may be spoken of only where a card offers some. It would rather refuse a true text than
let a false one pass. It knows no templates.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import numpy as np

from feature_store.ids import hash64_many
from feature_store.language.words import contains, words_of
from feature_store.schema import Corpus
from online.chat.facts import Shown, Vocabulary

MAX_BRAND_WORDS: Final = 4

_NUMBER: Final = r"\d+(?:,\d{3})*(?:\.\d+)?"
_UNITS: Final = (
    r"dollars?|bucks?|usd|eur|euros?|gbp|pounds? sterling|cents?|cny|rmb|yuan|美元|美金|美分|欧元|"
    r"人民币|元|块钱|块|刀|毛钱"
)
_SUMS: Final = (
    re.compile(rf"[$€£¥￥]\s?({_NUMBER})"),
    re.compile(rf"({_NUMBER})\s?(?:{_UNITS})(?![a-z])", re.IGNORECASE),
    re.compile(r"(?<![\d.])(\d+\.\d{2})(?![\d.])"),
)
_SHARES: Final = (
    re.compile(rf"({_NUMBER})\s?(?:%|percent|per cent|个百分点)", re.IGNORECASE),
    re.compile(rf"({_NUMBER})\s?折"),
    re.compile(rf"百分之\s?({_NUMBER})"),
)
_SPELT: Final = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
    r"|forty|fifty|hundred|a|half a)(?:[- ]\w+)? (?:dollars?|bucks?|cents?|percent|euros?)\b"
    r"|[一二两三四五六七八九十百千半]+(?:点[一二三四五六七八九])?(?:美元|美金|欧元|块|元|折)"
    r"|百分之[一二两三四五六七八九十百]+",
    re.IGNORECASE,
)
_SAVINGS: Final = re.compile(
    r"\b(?:sav(?:e|es|ed|ing|ings)|discount\w*|on sale|half[- ]price|\d+ ?% off|off the price"
    r"|money off|for free|free gift|bargain|deal)\b"
    r"|省(?:下|了|钱|\d)|立减|满减|减免|打折|折扣|半价|特价|买一送一|免费送|优惠(?!券)",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile('“([^”]*)”|「([^」]*)」|『([^』]*)』|《([^》]*)》|"([^"]*)"')


def untruths(text: str, shown: Sequence[Shown], vocabulary: Vocabulary) -> list[str]:
    """What the text says that stands on none of the cards; empty where it may be said."""
    found = _sums(text, shown) + _shares(text, shown) + _spelt(text, shown)
    found += _quotes(text, shown) + _names(text, shown, vocabulary)
    offers = any(one.corpus is Corpus.COUPON for one in shown)
    if not offers:
        found += [match[0] for match in _SAVINGS.finditer(text) if not _stands(match[0], shown)]
    return found


def _sums(text: str, shown: Sequence[Shown]) -> list[str]:
    allowed = {one.price for one in shown if one.price is not None}
    allowed |= {value for one in shown for _, value in _values(_SUMS, one.everything)}
    return [said for said, value in _values(_SUMS, text) if value not in allowed]


def _shares(text: str, shown: Sequence[Shown]) -> list[str]:
    allowed = {value for one in shown for _, value in _values(_SHARES, one.everything)}
    return [said for said, value in _values(_SHARES, text) if value not in allowed]


def _values(patterns: Sequence[re.Pattern[str]], text: str) -> list[tuple[str, Decimal]]:
    return [
        (match[0], Decimal(match[1].replace(",", "")))
        for pattern in patterns
        for match in pattern.finditer(text)
    ]


def _spelt(text: str, shown: Sequence[Shown]) -> list[str]:
    return [match[0] for match in _SPELT.finditer(text) if not _stands(match[0], shown)]


def _quotes(text: str, shown: Sequence[Shown]) -> list[str]:
    """What stands in quotes must stand on a card in the same words."""
    quoted = (next(filter(None, match.groups()), "") for match in _QUOTED.finditer(text))
    return [one for one in quoted if one.strip() and not _stands(one, shown)]


def _stands(words: str, shown: Sequence[Shown]) -> bool:
    plain = " ".join(words.lower().split())
    return any(plain in " ".join(one.everything.lower().split()) for one in shown)


def _names(text: str, shown: Sequence[Shown], vocabulary: Vocabulary) -> list[str]:
    """Titles of two words and more, and brands, of products that are on no card."""
    words = words_of(text)
    phrases = [
        " ".join(words[start : start + size])
        for size in range(2, min(vocabulary.max_words, len(words)) + 1)
        for start in range(len(words) - size + 1)
    ]
    named = [
        phrase
        for phrase, is_title in zip(phrases, _known(phrases, vocabulary), strict=True)
        if is_title
    ]
    brands = [brand for brand in _brands(text, vocabulary) if not _stands(brand, shown)]
    on_cards = [one.everything for one in shown]
    return brands + [one for one in named if not any(contains(card, one) for card in on_cards)]


def _known(phrases: Sequence[str], vocabulary: Vocabulary) -> list[bool]:
    if not phrases or not len(vocabulary.titles):
        return [False] * len(phrases)
    hashes = hash64_many(phrases)
    place = np.minimum(np.searchsorted(vocabulary.titles, hashes), len(vocabulary.titles) - 1)
    known: list[bool] = (vocabulary.titles[place] == hashes).tolist()
    return known


def _brands(text: str, vocabulary: Vocabulary) -> list[str]:
    """The brands in the text, written as the catalogue writes them."""
    words = re.findall(r"[\w'&-]+", text)
    pieces = {
        " ".join(words[start : start + size])
        for size in range(1, MAX_BRAND_WORDS + 1)
        for start in range(len(words) - size + 1)
    }
    return sorted(pieces & vocabulary.brands)
