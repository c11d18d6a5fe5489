"""Which answer a turn gets: by what was understood, seen in the light of the conversation.

An utterance is understood as if it stood alone. Here it is looked at again: an intent that has
words of its own is doubted without any, a grievance may end in a request, and what names or limits
goods goes on with them. It knows the answers by name, and neither feelings nor cards.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from feature_store.language.labels import Feeling, Intent, SlotKind
from online.chat.dialogue import Kept
from online.chat.following import SHOPPING, has_any, releases
from online.chat.policy import SURE, UNSURE
from online.chat.replies import Replies, Reply
from online.chat.understanding import Slot, Understood

HELP_KINDS: Final[Mapping[Intent, tuple[str, ...]]] = {
    Intent.COMPLAINT: ("help",),
    Intent.ORDER_DELIVERY: ("help", "news"),
    Intent.RETURNS_WARRANTY: ("help",),
    Intent.PRODUCT_QUESTION: ("help", "guide", "tip", "recipe"),
}
"""The intents that the shop's own texts answer, and the kinds of text."""

_AT_LEAST: Final[Mapping[Intent, Mapping[str, str]]] = {
    Intent.ORDER_DELIVERY: {"en": "when will my order be delivered", "zh": "订单什么时候送到"},
    Intent.RETURNS_WARRANTY: {
        "en": "how do I return something and get my money back",
        "zh": "买的东西怎么退货退款",
    },
}
"""What is answered where the question itself is not: the rules that it falls under."""

_NAMES_GOODS: Final = (SlotKind.CATEGORY, SlotKind.BRAND, SlotKind.TAG)
_CHANGES: Final = (
    SlotKind.WITHOUT,
    SlotKind.MAX_PRICE,
    SlotKind.MIN_PRICE,
    SlotKind.CHEAPER,
    SlotKind.OTHER_BRAND,
)
_DOUBTED: Final = frozenset({Intent.OUT_OF_SCOPE, Intent.GREETING, Intent.THANKS, Intent.COMPLAINT})
"""Intents that must be sure where goods are named."""

_GRIEVANCES: Final = frozenset({Intent.COMPLAINT, Intent.ORDER_DELIVERY, Intent.RETURNS_WARRANTY})
_OWN_WORDS: Final[Mapping[Intent, re.Pattern[str]]] = {
    Intent.DEALS: re.compile(
        r"coupon|cupon|discount|deals?\b|offers?\b|promo|on sale|\bsales?\b|special|voucher|saving"
        r"|\bsave\b|% off|bogo|clearance|reduced|markdown|cashback|loyalty|points"
        r"|优惠|打折|折扣|\d折|几折|券|促销|特价|活动|减|省|便宜|划算|半价|满|积分|羊毛|送"
    ),
    Intent.BUY_AGAIN: re.compile(
        r"again|usual|same|last (?:time|order|month)|before|always|re-?order|regular|previous"
        r"|repeat|remember|restock|refill|more of|another|run(?:ning)? out|out of|past|history"
        r"|又|再买|再次|再下单|上次|上回|老样子|照旧|老规矩|常买|经常|一直|回购|以前|之前|买过|一样|囤|补|平时|每次|原来"
    ),
    Intent.BOUGHT_TOGETHER: re.compile(
        r"\bwith\b|together|pair|along|alongside|accompan|complement|else .*(?:buy|get|need)"
        r"|also (?:buy|get|need)|combin|match|side"
        r"|搭|配|一起|一块|还买|还会买|会买|顺便|组合|还需要|还要买|同时|跟|和"
    ),
    Intent.NEW_ARRIVALS: re.compile(
        r"\bnew|recent|latest|just (?:in|arrived|came)|fresh in|arriv|launch|release|debut|lately"
        r"|新|刚|最近|上市|上架|首发|到货"
    ),
    Intent.BEST_SELLERS: re.compile(
        r"best|popular|top|hot\b|trend|most|favou?rite|everyone|everybody|people|folks|sell|bestsell"
        r"|hit|buzz|rated|卖|热|火|爆|排行|销量|大家|人气|最多|网红|流行|畅销|榜|受欢迎|都在|都买"
    ),
}
"""Words without one of which these intents are doubted where goods or limits are named."""

_NOT_NEW: Final = re.compile(
    r"(?:needn'?t|(?:need|have) (?:not|to)|do(?:es)?n'?t have to|not) be new|not new\b"
    r"|不(?:是|一定是?|必是?|用是?|要求)新"
)
_TOO_DEAR: Final = re.compile(
    r"\b(?:too|bit|rather|very|so|kinda|kind of|pretty|quite)(?: much)?"
    r" (?:dear|expensive|pricey|steep|costly|much)\b"
    r"|costs? too much|over(?:ly )?priced|can'?t afford|less expensive|more affordable"
    r"|贵了|太贵|有点贵|好贵|偏贵|平(?:啲|一?点|些)"
    r"|便宜(?:点|些|一点|啲)|更便宜|最便宜|实惠"
)
_MISTAKEN: Final = frozenset(
    {Intent.COMPLAINT, Intent.NOT_THIS, Intent.OUT_OF_SCOPE, Intent.BUY_AGAIN, Intent.COMPARE}
)
"""What a changed limit is taken for."""

_TARGET: Final = re.compile(
    r"to go with (?:it|that|this|these|those|them)|\bfor (?:it|them|those)\b|\badd\b"
    r"|\balso\b|\btoo\b|\bas well\b"
    r"|配什么|搭什么|^(?:再)?(?:配|搭)|顺便|也(?:来|要|拿|给)|再(?:来|要|拿|配|加)|配它|搭它|还有|还要"
)
"""What is named is wanted itself, not what goes with it."""

_RUNS_OUT: Final = re.compile(
    r"\b(?:run(?:ning)?|ran|almost|nearly|all|fresh|we'?re|i'?m) (?:low|out)\b"
    r"|(?:快|都|也快?|要|又)?(?:没了|没有了|用完|见底|用光|吃完了|喝完了|没剩)"
)
"""What is used up is wanted, not complained of."""

_THANKS: Final = re.compile(r"\bthank|\bthx\b|\bcheers\b|谢")
_POINTS: Final = re.compile(r"\b(?:these|those|them|this|that)\b|这|那|换一批|换一换")

_ANSWERS: Final[Mapping[Intent, Callable[[Replies], Reply]]] = {
    Intent.COMPARE: Replies.compare,
    Intent.BOUGHT_TOGETHER: Replies.together,
    Intent.BUY_AGAIN: Replies.again,
    Intent.GIFT: Replies.gift,
    Intent.DEALS: Replies.deals,
    Intent.WHY_THIS: Replies.why,
    Intent.OUT_OF_SCOPE: Replies.out_of_scope,
    Intent.HUMAN: Replies.out_of_scope,
}


def second_look(understood: Understood, kept: Kept) -> Understood:
    """The same, but for thanks to the person who was called: they do not call for another one."""
    is_thanks = kept.is_passed_on and _THANKS.search(understood.text) is not None
    if understood.intent is Intent.HUMAN and is_thanks:
        return replace(understood, intent=Intent.THANKS)
    if kept.dialogue.shown and (found := _TOO_DEAR.search(understood.text)):
        understood = _with_cheaper(understood, found[0])
    is_grievance = understood.intent is Intent.COMPLAINT and not understood.strong
    if is_grievance and _RUNS_OUT.search(understood.text) and has_any(understood, *_NAMES_GOODS):
        return replace(understood, intent=Intent.FIND_PRODUCT, feeling=Feeling.NEUTRAL)
    sets_limit = has_any(understood, SlotKind.MAX_PRICE, SlotKind.MIN_PRICE, SlotKind.CHEAPER)
    is_mild = understood.feeling is not Feeling.NEGATIVE or not understood.strong
    if understood.intent in _MISTAKEN and sets_limit and is_mild:
        changed = Intent.REFINE if kept.dialogue.wishes else Intent.FIND_PRODUCT
        return replace(understood, intent=changed)
    if understood.intent not in SHOPPING and releases(kept.dialogue.wishes, understood.text):
        return replace(understood, intent=Intent.REFINE)
    return understood


def _with_cheaper(understood: Understood, words: str) -> Understood:
    """What is too dear is to be cheaper, also where no word says so."""
    if has_any(understood, SlotKind.CHEAPER):
        return understood
    slot = Slot(SlotKind.CHEAPER, words, SlotKind.CHEAPER.value, 0, 0)
    return replace(understood, slots=(*understood.slots, slot))


def chosen_intent(understood: Understood, kept: Kept, *, asks: bool) -> Intent:
    """What to answer to; `asks`: the words ask for products, whatever else they say."""
    intent = understood.intent
    names, changes = has_any(understood, *_NAMES_GOODS), has_any(understood, *_CHANGES)
    lacks_words = intent in _OWN_WORDS and not _OWN_WORDS[intent].search(understood.text)
    if intent is Intent.NEW_ARRIVALS and _NOT_NEW.search(understood.text):
        return Intent.FIND_PRODUCT
    if asks and (lacks_words or intent in _GRIEVANCES):
        others = Intent.NOT_THIS if kept.dialogue.shown else intent
        return Intent.FIND_PRODUCT if names else others
    if intent is Intent.BOUGHT_TOGETHER and kept.dialogue.shown and _TARGET.search(understood.text):
        return Intent.FIND_PRODUCT if has_any(understood, SlotKind.CATEGORY) else intent
    is_change = (names or changes) and not _POINTS.search(understood.text)
    if intent is Intent.NOT_THIS and is_change:
        return Intent.REFINE if kept.dialogue.wishes else Intent.FIND_PRODUCT
    limit = SURE if intent in _DOUBTED else UNSURE
    doubtful = understood.confidence < limit and intent not in SHOPPING and (names or changes)
    if lacks_words or doubtful:
        return _otherwise(understood, kept, names=names, changes=changes)
    return intent


def _otherwise(understood: Understood, kept: Kept, *, names: bool, changes: bool) -> Intent:
    """The purpose that the slots speak for, else the next likely one."""
    if names:
        return Intent.FIND_PRODUCT
    if changes and kept.dialogue.wishes:
        return Intent.REFINE
    others = (intent for intent, _ in understood.alternatives if intent not in _OWN_WORDS)
    return next(others, understood.intent)


def reply_to(replies: Replies, intent: Intent) -> Reply:
    """The answer to an intent of somebody who is calm."""
    understood = replies.understood
    is_clear = understood.confidence >= UNSURE or bool(understood.slots)
    if not is_clear and intent is understood.intent:
        return replies.unsure()
    if intent in HELP_KINDS:
        return replies.help(HELP_KINDS[intent], _AT_LEAST.get(intent, {}).get(replies.language, ""))
    if intent in _ANSWERS:
        return _ANSWERS[intent](replies)
    if intent is Intent.NOT_THIS:
        return replies.not_this(is_rejection=understood.intent is Intent.NOT_THIS)
    if intent in (Intent.GREETING, Intent.THANKS):
        return replies.smalltalk(intent)
    return replies.find(intent)
