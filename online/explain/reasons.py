"""Reasons: a code with parameters for what moved an item, and its words in each language.

A reason is taken from one source and from the numbers that this source read. Where a sum of the
sources' scores decides, it is the source that added most; where the learned ranker does, the one
among whose candidates the item stands highest; where the scorer is out, the first that found it.
A source whose score of the item is not above 0 gives no reason. Wording is the only thing that
knows languages.
"""

from typing import Final

from online.types import Reason

TEXTS: Final[dict[str, dict[str, str]]] = {
    "bought_often": {
        "en": "You bought this {count} times, last {ago}",
        "zh": "您买过{count}次，上次是{ago}",
    },
    "bought_once": {
        "en": "You bought this {ago}",
        "zh": "您{ago}买过",
    },
    "similar_to_taste": {
        "en": "Goes with what you usually buy",
        "zh": "与您常买的商品相配",
    },
    "similar_to_context": {
        "en": "Similar to what you are looking at",
        "zh": "与您正在看的商品相似",
    },
    "from_your_aisles": {"en": "From the aisles you shop in", "zh": "来自您常逛的品类"},
    "popular_recently": {"en": "Popular these weeks", "zh": "近期热销"},
    "rising": {"en": "New favourite of our customers", "zh": "近期新宠"},
    "promoted": {"en": "On promotion now", "zh": "正在促销"},
    "bought_with": {
        "en": "Often bought together with {title}",
        "zh": "常与“{title}”一起购买",
    },
    "similar_to_item": {
        "en": "Bought by those who bought {title}",
        "zh": "购买“{title}”的顾客也买了",
    },
    "looked_at_with": {
        "en": "Often looked at together with {title}",
        "zh": "常与“{title}”一起浏览",
    },
    "buy_again": {
        "en": "You buy this about every {interval_days} days",
        "zh": "您大约每{interval_days}天购买一次",
    },
    "popular_in_category": {
        "en": "Popular these weeks in {category}",
        "zh": "近期在“{category}”中热销",
    },
    "for_search": {"en": "For your search “{query}”", "zh": "与您搜索的“{query}”相关"},
    "new_arrival": {"en": "New in our shop", "zh": "新品上架"},
    "popular": {"en": "A favourite of our customers", "zh": "顾客最爱"},
    "coupon_claimed": {"en": "You have claimed it", "zh": "您已领取"},
    "coupon_saves": {"en": "Saves {saving} on this basket", "zh": "此购物车可省{saving}"},
    "coupon_own_goods": {"en": "For things that you buy", "zh": "适用于您常买的商品"},
    "coupon_missing": {"en": "Yours if you add {missing} more", "zh": "再加{missing}即可使用"},
    "coupon_chosen": {"en": "Sent to you, among others", "zh": "专为您等顾客提供"},
    "coupon_offer": {"en": "For everybody", "zh": "所有顾客均可使用"},
    "content_about_this": {"en": "About what you are looking at", "zh": "与您正在看的商品有关"},
    "content_like_this": {"en": "Goes with what you are looking at", "zh": "与您正在看的内容相配"},
    "content_for_your_basket": {"en": "For what you often buy", "zh": "适合您常买的商品"},
    "content_new": {"en": "New to read", "zh": "新内容"},
    "content_useful": {"en": "Useful to other customers", "zh": "对其他顾客有帮助"},
    "answers": {"en": "Answers your question", "zh": "回答您的问题"},
    "chosen": {"en": "Chosen for you", "zh": "为您精选"},
}
"""Every reason code and its text by language; English is the fallback."""

_AGO: Final = {
    "en": {"0": "today", "1": "yesterday", "many": "{days} days ago"},
    "zh": {"0": "今天", "1": "昨天", "many": "{days}天前"},
}

UNMATCHED: Final = "unmatched_query"
"""The parameter of a reason that says for which search nothing was found."""

QUERY: Final = "query"
"""The parameter that says which search was answered."""

_UNMATCHED: Final = {
    "en": "Nothing found for “{query}”, instead: {text}",
    "zh": "没有找到“{query}”，为您推荐：{text}",
}

LANGUAGES: Final = frozenset(language for texts in TEXTS.values() for language in texts)
"""The languages that there are texts in."""

_CODE_OF_SOURCE: Final = {
    "new_arrivals": "new_arrival",
    "fresh": "new_arrival",
    "als": "similar_to_taste",
    "linear": "similar_to_taste",
    "two_tower": "similar_to_taste",
    "affinity": "from_your_aisles",
    "popular_week": "popular_recently",
    "rising": "rising",
    "promoted": "promoted",
    "als_similar": "similar_to_context",
    "popular_recent": "popular_recently",
    "popular": "popular",
}

CHOSEN: Final = Reason("chosen")
_PLAIN: Final = {source: Reason(code) for source, code in _CODE_OF_SOURCE.items()}


def text(reason: Reason, locale: str) -> str:
    """The reason in the language of a BCP 47 locale, English where there is no translation."""
    texts = TEXTS[reason.code]
    spoken = language(locale)
    if spoken not in texts:
        spoken = "en"
    days = reason.parameters.get("days", "")
    ago = _AGO[spoken].get(days, _AGO[spoken]["many"]).format(days=days)
    told = texts[spoken].format(**reason.parameters, ago=ago)
    unmatched = reason.parameters.get(UNMATCHED)
    return told if unmatched is None else _UNMATCHED[spoken].format(query=unmatched, text=told)


def language(locale: str) -> str:
    """The language of a BCP 47 locale: `zh` of `zh-Hans-CN`."""
    return locale.partition("-")[0].lower()


def plain_reason(source: str) -> Reason:
    """The reason of a source that knows no more than its name."""
    return _PLAIN.get(source, CHOSEN)
