"""What feelings and grave matters ask for: no selling, help first, a person where one is needed.

It reads what was understood and the words themselves; it knows no products and writes no text.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from feature_store.language.labels import Feeling, Intent
from online.chat.understanding import Understood

MAX_FAILED: Final = 3
"""After so many turns in a row without an answer the next one calls a person."""

SURE: Final = 0.8
UNSURE: Final = 0.35
"""Below this the intent says little."""


class Mood(StrEnum):
    """How the shopper is to be treated."""

    CALM = "calm"
    UPSET = "upset"
    ANGRY = "angry"


ASKED_FOR: Final = "asked_for"
ANGER: Final = "anger"
REPEATED_FAILURE: Final = "repeated_failure"

TOPICS: Final[Mapping[str, re.Pattern[str]]] = {
    "safety": re.compile(
        r"\b(?:piece|shard|bit)s? of (?:glass|metal|plastic|wood)|\bglass in (?:the|my|it)\b"
        r"|\b(?:metal|plastic|glass|needle|razor|screw|nail)\b.{0,20}\bin (?:the|my|her|his|our) "
        r"(?:food|jar|can|milk|bread|salad|soup|baby)"
        r"|\b(?:burn(?:ed|t)|injured|hurt|cut|scalded|choked|poisoned|electrocuted|shocked)\b"
        r".{0,25}\b(?:hand|finger|mouth|skin|tongue|face|eyes?|leg|arm|me|him|her|us|kid|son"
        r"|daughter|child|baby|wife|husband|mom|dog|cat|throat)\b"
        r"|\b(?:hand|finger|mouth|skin|tongue|face|eye|leg|arm|kid|son|daughter|child|baby|wife"
        r"|husband|mom)\b.{0,15}\b(?:got|was|were|is|has been) "
        r"(?:burn(?:ed|t)|hurt|injured|cut|poisoned)"
        r"|food poisoning|\bpoison(?:ed|ing)\b|\ballergic (?:reaction|shock)|anaphyla|\bhives\b"
        r"|\b(?:hospital|emergency room|ambulance|poison control)\b|\bnearly swallowed"
        r"|\b(?:threw up|throwing up|vomit\w*|got (?:so |very |really )?(?:sick|ill)"
        r"|made (?:me|us|him|her|my \w+) (?:so |very |really )?(?:sick|ill)|stomach cramps)\b"
        r"|\b(?:caught|on) fire\b|\bexplod\w+|\bsmok(?:e|ing) came|\bbroke out in\b"
        r"|玻璃(?:渣|碎片|片|碴)|(?:吃|喝|里|里面|里头)(?:出|到|有|发现).{0,6}(?:玻璃|金属|铁丝|针头|刀片|铁片|钉子|塑料片)"
        r"|上吐下泻|拉肚子|腹泻|呕吐|吐了|食物中毒|中毒|过敏(?:了|反应|休克)|起.{0,4}疹|疹子|红肿|烫伤|烧伤|灼伤|割伤|划伤|划破|受伤"
        r"|噎(?:到|住|着)|住院|送(?:去)?医院|进(?:了)?医院|去(?:了)?医院|在医院|急诊|救护车|挂水|着火|起火|爆炸|炸了|触电|漏电"
    ),
    "legal": re.compile(
        r"\b(?:lawyer|attorney|lawsuit|legal action|small claims|sue|suing|sued|take (?:you|this)"
        r" to court|see you in court|consumer protection|better business bureau|\bbbb\b"
        r"|report you to|fda|health department|press charges|police)\b"
        r"|律师|起诉|告你们|告你|告上|打官司|法院|法庭|消协|消费者协会|消费者权益|12315|315|工商局|工商所|监管局|食药监|报警|曝光你们|投诉到(?!你们)"
    ),
    "payment": re.compile(
        r"\bcharged (?:me |my card |us |him |her )?(?:twice|two times|double|three times|again|"
        r"too much|the wrong)|\b(?:double|twice|over)[- ]?charged?\b|\bduplicate charges?"
        r"|\bbilled (?:me )?(?:twice|double)|(?:unauthori[sz]ed|fraudulent|unknown|strange|weird)"
        r"(?: card)? (?:charge|payment|transaction)s?|\bfraud\b|\bstolen card|\bcard (?:was|got) "
        r"(?:stolen|hacked|charged)|money (?:was |has been )?(?:taken|gone) (?:from|twice)"
        r"|took (?:the |my )?money twice|payment (?:went through|was taken) twice|\bchargeback"
        r"|(?:扣|刷|收|付|划)了?(?:我)?(?:两|二|三|2|3|多|好几)(?:次|遍|回|笔)|重复(?:扣|收|付|刷)|多(?:扣|收|刷)了?.{0,4}(?:钱|款|块|元)"
        r"|扣.{0,3}(?:两|二|2)(?:次|遍|笔|份)|盗刷|乱扣(?:钱|费|款)|被扣.{0,6}(?:两次|钱).{0,4}(?:没|订单)|不明(?:扣款|消费|支出)"
        r"|(?:钱|款)(?:已经|都)?(?:扣|付)了.{0,8}(?:没有订单|没订单|订单没|没下单)|信用卡被"
    ),
}
"""The topics that a shop may want a person for, each by the words that speak of it."""

_ASKS_FOR_PRODUCTS: Final = re.compile(
    r"show me|what else|something else|anything else|any others?\b|(?:another|a different) one"
    r"|what .{0,40}\b(?:do (?:you|u) have|have you got|you have|you got)\b"
    r"|(?:do|would) (?:you|u) have (?:a|any|some|other)\b|got any|recommend|suggest"
    r"|looking for"
    r"|有啥|想买|来点|来一?[瓶盒包袋罐支份箱]|给我看|看看别|看点别|看看其他|有什么|有哪些|还有别的|换一批|换一(?:个|款|种)|推荐"
)
_ANGRY_WORDS: Final = re.compile(
    r"\b(?:furious|livid|outrag\w+|disgust\w+|unacceptable|appalling|pathetic|ridiculous|fuming"
    r"|enraged|infuriat\w+|sick and tired|fed up|had it with|worst|never (?:shop|com|buy|order)\w*"
    r"|scam\w*|rip ?-?off|pissed|bullshit|crap|damn|hell|stupid|idiots?|morons?|incompetent|useless"
    r"|lousy|shame on|scream|hate|liars?|thieves|ruined|joke|garbage(?! (?:bag|can|disposal))"
    r"|trash(?! (?:bag|can|compactor)))\b"
    r"|气死|气人|气炸|气得|火大|恼火|愤怒|过分|受够|忍无可忍|恶心|骗子|骗人|坑人|烦死|滚|傻|混蛋|王八|去死|不要脸"
    r"|什么破|破(?:店|玩意|东西|超市)|垃圾(?!袋|桶|箱)|再也不(?:来|买|会)|太差劲|差劲透|黑心|缺德|无耻|离谱|八百遍|翻白眼"
    r"|投诉你|抓狂|要疯|岂有此理|欺人太甚|糟糕透|烂透"
)
_LOUD: Final = re.compile(r"!|！|\b[A-Z]{4,}\b|(?:absolutely|so|completely|totally|真的|太|简直)")
_MIN_SHOUTED: Final = 16
_MANNERS: Final = frozenset({Intent.OUT_OF_SCOPE, Intent.GREETING, Intent.THANKS})
_CALM_PURPOSE: Final = frozenset({Intent.FIND_PRODUCT, Intent.PRODUCT_QUESTION, Intent.BUY_AGAIN})


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a turn is to be treated: the mood, and why a person should take over, "" for not."""

    mood: Mood
    reason: str = ""

    @property
    def sells(self) -> bool:
        """Whether products may be shown at all."""
        return self.mood is Mood.CALM


def mood_of(understood: Understood, utterance: str) -> Mood:
    """Anger is a strong bad feeling; a complaint with a bad feeling is disappointment.

    Words that only the angry use count too: what was learned of feelings may miss them.
    """
    is_bad = understood.feeling is Feeling.NEGATIVE
    num_words = len(set(_ANGRY_WORDS.findall(understood.text)))
    is_loud = _LOUD.search(utterance) is not None
    is_grievance = is_bad or understood.intent is Intent.COMPLAINT
    is_strong = is_bad and understood.strong and understood.intent not in _MANNERS
    if is_grievance and _is_shouted(utterance):
        return Mood.ANGRY
    if is_strong or num_words + is_loud + is_grievance > 2:
        return Mood.ANGRY
    return Mood.UPSET if is_bad and understood.intent is Intent.COMPLAINT else Mood.CALM


def _is_shouted(utterance: str) -> bool:
    """Whether most of what has capitals and small letters is in capitals."""
    letters = [one for one in utterance if one.isupper() or one.islower()]
    return len(letters) > _MIN_SHOUTED and sum(map(str.isupper, letters)) > 0.8 * len(letters)


def grave_topic(understood: Understood, topics: Collection[str]) -> str:
    """The first of the shop's topics that the text speaks of, "" for none.

    A calm question about products may hold such a word by chance: a cream for burns.
    """
    is_calm = understood.feeling is not Feeling.NEGATIVE
    if is_calm and understood.intent in _CALM_PURPOSE and understood.confidence > SURE:
        return ""
    found = (topic for topic in topics if topic in TOPICS and TOPICS[topic].search(understood.text))
    return next(found, "")


def treatment(
    understood: Understood, utterance: str, topics: Collection[str], *, asks: bool
) -> Treatment:
    """What this turn asks for.

    `asks`: a mild complaint that goes on to ask for products is served as a request.
    """
    mood = mood_of(understood, utterance)
    if mood is Mood.UPSET and asks:
        mood = Mood.CALM
    if topic := grave_topic(understood, topics):
        return Treatment(Mood.UPSET if mood is Mood.CALM else mood, topic)
    if understood.intent is Intent.HUMAN:
        return Treatment(mood, ASKED_FOR)
    if mood is Mood.ANGRY:
        return Treatment(mood, ANGER)
    return Treatment(mood)


def asks_for_products(understood: Understood) -> bool:
    """Whether the words ask to be shown products, whatever else they say."""
    return _ASKS_FOR_PRODUCTS.search(understood.text) is not None
