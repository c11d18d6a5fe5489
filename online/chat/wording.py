"""The chat's words, in each language: templates, filled with what stands on the cards.

The seam for another wording is here too. It knows cards, and nothing of how they were found.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol

from feature_store.schema import Corpus
from online.chat.facts import Shown

MAX_NAMED: Final = 3
"""How many cards a text names; the others speak for themselves."""

MAX_CHARACTERS: Final = 320
"""What a text takes over of a card's own text."""

TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "found": {"en": "Here is what I found: {cards}.", "zh": "为您找到：{cards}。"},
    "closest": {
        "en": "I see nothing that is surely as you describe it; these come closest: {cards}.",
        "zh": "没有找到完全符合描述的，最接近的有：{cards}。",
    },
    "others": {"en": "Here is something else: {cards}.", "zh": "换一批给您看：{cards}。"},
    "cheaper": {"en": "These cost less: {cards}.", "zh": "这些更便宜：{cards}。"},
    "other_brand": {"en": "From other brands: {cards}.", "zh": "其他牌子的有：{cards}。"},
    "new": {"en": "New in our shop: {cards}.", "zh": "最近上架的新品：{cards}。"},
    "best": {"en": "Popular with our customers: {cards}.", "zh": "大家最近常买：{cards}。"},
    "together": {
        "en": "Customers who buy it also buy: {cards}.",
        "zh": "买它的顾客还会买：{cards}。",
    },
    "again": {"en": "You have bought these before: {cards}.", "zh": "您以前买过：{cards}。"},
    "gift": {"en": "These may make a present: {cards}.", "zh": "送礼可以看看：{cards}。"},
    "idea": {"en": "Some ideas for you: {cards}.", "zh": "先给您看几样：{cards}。"},
    "two": {
        "en": "{first} or {second}: both are on the cards.",
        "zh": "{first}和{second}，详情都在卡片上。",
    },
    "lower": {"en": "{first} costs less than {second}.", "zh": "{first}比{second}便宜。"},
    "same_price": {
        "en": "{first} and {second} cost the same.",
        "zh": "{first}和{second}价格一样。",
    },
    "brands": {
        "en": "The first is by {first}, the second by {second}.",
        "zh": "前者的品牌是{first}，后者是{second}。",
    },
    "why": {"en": "{card}: {reason}.", "zh": "{card}：{reason}。"},
    "coupons": {"en": "You can use: {cards}.", "zh": "您可以用：{cards}。"},
    "goodwill": {
        "en": "For the trouble, this is for you: {cards}.",
        "zh": "给您添麻烦了，这个送给您：{cards}。",
    },
    "help": {"en": "{summary} (From “{title}”.)", "zh": "{summary}（摘自“{title}”。）"},
    "no_help": {
        "en": "I am sorry, I do not know that. Our service desk can tell you.",
        "zh": "抱歉，这个我不清楚，请咨询服务台。",
    },
    "no_products": {
        "en": "I am sorry, I have nothing that fits all of that.",
        "zh": "抱歉，没有完全符合要求的商品。",
    },
    "no_new": {
        "en": "There is nothing new of that kind just now.",
        "zh": "这一类最近没有新品。",
    },
    "no_more": {"en": "That is all that I have of this kind.", "zh": "这一类只有这些了。"},
    "no_purchases": {
        "en": "I see no such purchase of yours.",
        "zh": "没有查到您买过这类商品。",
    },
    "no_coupons": {
        "en": "I have no coupons for you just now.",
        "zh": "目前没有您可以用的优惠券。",
    },
    "unknown_you": {
        "en": "I do not know your purchases: please sign in first.",
        "zh": "我还不知道您买过什么，请先登录。",
    },
    "scope": {
        "en": "That is beyond me. I can help with groceries, orders and returns.",
        "zh": "这个我帮不上忙。我可以帮您选商品、查订单、办退货。",
    },
    "unsure": {
        "en": "I did not quite understand that. Could you say it in other words?",
        "zh": "抱歉，我没太明白，能换个说法吗？",
    },
    "hello": {"en": "Hello! What can I find for you?", "zh": "您好！想找点什么？"},
    "welcome": {"en": "You are welcome. Have a good day!", "zh": "不客气，祝您生活愉快！"},
    "glad": {"en": "I am glad that you like it.", "zh": "您喜欢就好。"},
    "noted": {"en": "Thank you, I have noted that.", "zh": "谢谢，已经记下了。"},
    "sorry": {"en": "I am sorry about that.", "zh": "非常抱歉，给您添麻烦了。"},
    "very_sorry": {
        "en": "I am very sorry. This should not have happened.",
        "zh": "真的非常抱歉，这种事不应该发生。",
    },
    "person": {
        "en": "I am passing you on to a colleague, with what you have told me.",
        "zh": "我马上为您转接人工客服，您说的情况会一并转达。",
    },
    "ask_category": {
        "en": "What kind of thing are you looking for?",
        "zh": "您想找哪一类的？",
    },
    "ask_recipient": {
        "en": "What does the person like?",
        "zh": "对方平时喜欢什么？",
    },
    "ask_price": {
        "en": "The highest price is below the lowest one. Which range do you mean?",
        "zh": "最高价比最低价还低，您想要什么价位？",
    },
    "ask_loosen": {"en": "Shall I leave something out?", "zh": "要不要放宽一点条件？"},
    "ask_which": {"en": "Which two shall I compare?", "zh": "您想比较哪两个？"},
}
"""What is said. Of products only cards, titles and their own texts are ever put in."""

SUGGESTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "cards": {
        "en": ("Something cheaper", "Another brand", "What goes with the first one?"),
        "zh": ("便宜一点的", "换个牌子", "第一个配什么好？"),
    },
    "hello": {
        "en": ("What is new?", "My usual", "Are there any coupons?"),
        "zh": ("最近有什么新品？", "我常买的", "有什么优惠券？"),
    },
    "help": {"en": ("Talk to a person", "Thanks"), "zh": ("转人工", "谢谢")},
    "gift": {"en": ("Flowers", "Chocolates", "Toys"), "zh": ("鲜花", "巧克力", "玩具")},
    "none": {
        "en": ("Never mind the price", "Any brand", "What is popular?"),
        "zh": ("不管价格", "什么牌子都行", "什么卖得最好？"),
    },
    "price": {"en": ("Never mind the price",), "zh": ("不管价格",)},
    "person": {"en": ("Thanks",), "zh": ("谢谢",)},
}
"""What the shopper may say next."""

_SIGNS: Final = {"USD": "$", "EUR": "€", "GBP": "£"}
_CHINESE_UNITS: Final = {"USD": "美元", "CNY": "元", "EUR": "欧元", "GBP": "英镑"}


class Wording(Protocol):
    """Another way to put an answer, such as a language model's.

    What it gives is said only if it is true of the cards; otherwise the draft is.
    """

    def word(self, draft: str, shown: Sequence[Shown], language: str, /) -> str:
        """The draft in other words, about the same cards. May fail."""
        ...


def say(key: str, language: str, **parts: str) -> str:
    """A text with its parts filled in."""
    return TEXTS[key][language].format(**parts)


def suggestions(key: str, language: str) -> tuple[str, ...]:
    """What the shopper may say next."""
    return SUGGESTIONS[key][language]


def money(amount: Decimal, currency: str, language: str) -> str:
    """An amount as people write it."""
    if language == "zh":
        return f"{amount:.2f}{_CHINESE_UNITS.get(currency, f' {currency}'.rstrip())}"
    if sign := _SIGNS.get(currency):
        return f"{sign}{amount:.2f}"
    return f"{amount:.2f} {currency}".rstrip()


def name(card: Shown, language: str, currency: str = "", *, with_price: bool = True) -> str:
    """A card in a sentence: its title in quotes, and its price."""
    title = f"“{card.title.replace('“', '').replace('”', '')}”"
    if card.price is None or not with_price:
        return title
    price = money(card.price, currency, language)
    return f"{title}（{price}）" if language == "zh" else f"{title} at {price}"


def names(cards: Sequence[Shown], language: str, currency: str) -> str:
    """The first few cards in a sentence; two that read alike once."""
    read = dict.fromkeys(name(card, language, currency) for card in cards)
    return ("、" if language == "zh" else ", ").join(list(read)[:MAX_NAMED])


def comparison(first: Shown, second: Shown, language: str, currency: str) -> str:
    """How two cards differ, as far as they tell."""
    named = {
        "first": name(first, language, currency),
        "second": name(second, language, currency),
    }
    parts = []
    if first.price is None or second.price is None:
        parts.append(say("two", language, **named))
    elif first.price == second.price:
        parts.append(say("same_price", language, **named))
    elif first.price < second.price:
        parts.append(say("lower", language, **named))
    else:
        parts.append(say("lower", language, first=named["second"], second=named["first"]))
        first, second = second, first
    if first.brand and second.brand and first.brand != second.brand:
        parts.append(say("brands", language, first=first.brand, second=second.brand))
    return joined(parts, language)


def excerpt(card: Shown) -> str:
    """The beginning of a card's own text, up to the end of a sentence."""
    text = " ".join(card.text.split())
    if len(text) <= MAX_CHARACTERS:
        return text
    cut = text[:MAX_CHARACTERS]
    ends = max(cut.rfind(sign) for sign in ".!?。！？")
    return cut[: ends + 1] if ends > 0 else cut.rsplit(" ", 1)[0]


def products(cards: Sequence[Shown]) -> list[Shown]:
    """The cards that are products."""
    return [card for card in cards if card.corpus is Corpus.PRODUCT]


def joined(parts: Sequence[str], language: str) -> str:
    """Sentences one after the other."""
    return ("" if language == "zh" else " ").join(part for part in parts if part)
