"""What an utterance itself asks for: the wishes of its slots, seen among the words around them.

A slot is read again where the words beside it leave no doubt: "forget the beans" refuses beans,
"10 dollars max" is no floor. What is taken back in the same breath is refused. It knows nothing of
what was said before.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from feature_store.language.labels import SlotKind
from online.chat.understanding import Meaning, Slot
from online.chat.values import price_of
from online.chat.wishes import (
    Aspect,
    Relation,
    Wish,
    contradicts,
    merged,
    wish_of,
    without_wanted,
)

NUM_BESIDE: Final = 40
"""How many characters beside a slot are read."""

_TAKEN_BACK: Final = re.compile(
    r"\b(?:no,? )?wait\b|\bscratch that\b|\bactually\b|\bi mean\b|\bmake that\b"
    r"|\bon second thought\b|\bor rather\b"
    r"|等等|等一下|不对|不對|說錯了|说错了|还是|還是|换成|換成|改成",
    re.IGNORECASE,
)
_REFUSED_BEFORE: Final = re.compile(
    r"(?:(?<!why )\b(?:no|not|without|minus|none of)(?: the| that| those| any)?"
    r"|\bskip(?: the)?|\bforget(?: the| about)?"
    r"|\bexcept(?: for)?|\bnothing with|\bfree of|\bsick of|\btired of|\bleave out(?: the)?"
    r"|\b(?:can'?t stand|can'?t have|can'?t eat|don'?t (?:want|like|eat|need|do)|do not want|hates?"
    r"|won'?t (?:touch|eat|have)|allergic to)(?: the| any)?|\bno more"
    r"|不要|别要|別要|别给我|別給我|不想要|不想吃|不吃|不喝|去掉|除了|排除|不含|不带|不帶|别带|別帶|别放|别加|不放"
    r"|不加|别是|(?<!是)不是|不能有|不能吃|(?<!有)(?:没有|沒有)|唔要|唔好|唔食)(?:带|帶|有|含|加)?\s*$",
    re.IGNORECASE,
)
_REFUSED_AFTER: Final = re.compile(
    r"^\s*(?:味|口味|类|款)?(?:的|嘅)?(?:那种|那種|那款)?(?:就|都|我|它|他|她|们|孩子)*"
    r"(?:不要|不想要|不吃|不喝|不爱|除外|免了|别给|別給|别要|別要|不行|去掉|唔要)"
)
_WANTED_BEFORE: Final = re.compile(
    r"(?:\b(?:other|another|different|any)|别的|別的|其他|其它|另外的?)\s*$", re.IGNORECASE
)
_RANGE_BEFORE: Final = re.compile(
    r"(\d+(?:\.\d+)?|[一二两三四五六七八九十百]+|\b(?:one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|fifteen|twenty|thirty|forty|fifty)\b)"
    r"\s*(?:块钱?|元|美元|刀|蚊|dollars?|bucks?|quid)?(?:左右|上下)?\s*"
    r"(?:到|至|-|–|~|to|and)\s*\$?$",
    re.IGNORECASE,
)
_TO: Final = re.compile(r"^\s*(?:左右|上下)?\s*(?:到|至|-|–|~|to|and)\s*$", re.IGNORECASE)
_NOT_REFUSED: Final = re.compile(r"不要(?:太|只)|not (?:only|just)", re.IGNORECASE)
_AT_MOST_BEFORE: Final = re.compile(
    r"(?:\bunder|\bbelow|\bless than|\bat most|\bmax(?:imum)?(?: of)?|\bup to|\bwithin"
    r"|\bn(?:ot|o|othing|one) (?:more than|over|above)|\bn(?:ot|o) higher than|\bcheaper than"
    r"|\b(?:not|\w+n'?t|never|nothing|without)\b[^.,!?]{0,20}"
    r"\b(?:more than|over|above|past|exceed\w*)"
    r"|不能超过|不要超过|不可超过|不可以超过|不得超过|別超過|唔好超過|最多|最高|不超过|不超過|别超过|別超過|不要超过|不要超過|不高于|不高於|低于|低於|少于|少於|小于)\s*\$?\s*$",
    re.IGNORECASE,
)
_AT_LEAST_BEFORE: Final = re.compile(
    r"(?:\bover|\babove|\bmore than|\bat least|\bmin(?:imum)?(?: of)?|\bstarting (?:at|from)"
    r"|至少|最少|最低|不低于|不低於|高于|高於|超过|超過|多于|多於)\s*\$?\s*$",
    re.IGNORECASE,
)
_UNIT: Final = r"\s*(?:dollars?|bucks?|usd|美元|美金|块钱?|塊錢?|元|刀)?\s*"
_AT_MOST_AFTER: Final = re.compile(
    rf"^{_UNIT}(?:max\b|maximum|tops\b|or (?:less|under|below|cheaper)|at (?:the )?most"
    r"|以下|以内|以內|之内|之內|内|封顶|封頂)",
    re.IGNORECASE,
)
_AT_LEAST_AFTER: Final = re.compile(
    rf"^{_UNIT}(?:min\b|minimum|or (?:more|over|up)|and (?:up|over|above)|at least|以上|起|往上)",
    re.IGNORECASE,
)
_REFUSABLE: Final = frozenset(
    {SlotKind.CATEGORY, SlotKind.TAG, SlotKind.BRAND, SlotKind.FOR_WHOM, SlotKind.OCCASION}
)
_NUMBERS: Final = frozenset({SlotKind.MAX_PRICE, SlotKind.MIN_PRICE, SlotKind.QUANTITY})
_REFUSALS: Final = (Aspect.CATEGORY, Relation.IS_NOT)


def stated_wishes(slots: Sequence[Slot], utterance: str) -> tuple[Wish, ...]:
    """The wishes of the slots; what was taken back in the same breath is refused instead."""
    slots = _with_floor([_read_again(slot, slots, utterance) for slot in slots], utterance)
    cut = _last_turn(slots, utterance)
    early_wishes = _wishes([slot for slot in slots if slot.start < cut])
    late_wishes = _wishes([slot for slot in slots if slot.start >= cut])
    renewed = {(wish.aspect, wish.relation) for wish in late_wishes} - {_REFUSALS}
    gone = [wish for wish in early_wishes if (wish.aspect, wish.relation) in renewed]
    kept = tuple(wish for wish in early_wishes if wish not in gone)
    taken_back = [_refusal(wish) for wish in gone if wish.is_on(Aspect.CATEGORY)]
    refusals = tuple(left for one in taken_back if (left := without_wanted(one, late_wishes)))
    return _possible(merged((*kept, *refusals), late_wishes))


def _last_turn(slots: Sequence[Slot], utterance: str) -> int:
    """Where the shopper last takes something back and says what instead; 0 for nowhere."""
    for found in reversed(list(_TAKEN_BACK.finditer(utterance))):
        late = [slot for slot in slots if slot.start >= found.start()]
        if len(late) < len(slots) and any(slot.kind in _REFUSABLE | _NUMBERS for slot in late):
            return found.start()
    return 0


def _refused(slot: Slot) -> Slot:
    value = slot.value if isinstance(slot.value, Meaning) else Meaning((str(slot.value),))
    return replace(slot, kind=SlotKind.WITHOUT, value=value)


def _is_refused_after(slot: Slot, slots: Sequence[Slot], after: str) -> bool:
    """Whether the words after a slot refuse it, and not the slot that follows them."""
    found = _REFUSED_AFTER.search(after)
    if found is None:
        return False
    end = slot.end + found.end()
    return not any(end <= other.start <= end + 2 for other in slots)


def _read_again(slot: Slot, slots: Sequence[Slot], utterance: str) -> Slot:
    """The slot of the kind that the words beside it leave no doubt about."""
    before = utterance[max(0, slot.start - NUM_BESIDE) : slot.start]
    after = utterance[slot.end : slot.end + NUM_BESIDE]
    if slot.kind is SlotKind.WITHOUT and _WANTED_BEFORE.search(before):
        return replace(slot, kind=SlotKind.CATEGORY)
    if slot.kind in _REFUSABLE:
        is_refused = _REFUSED_BEFORE.search(before) or _is_refused_after(slot, slots, after)
        is_meant = _NOT_REFUSED.search(before[-8:] + after[:2])
        return _refused(slot) if is_refused and not is_meant else slot
    if slot.kind in _NUMBERS and isinstance(slot.value, Decimal | int):
        kind = _limit(before, after)
        return slot if kind is None else replace(slot, kind=kind, value=Decimal(slot.value))
    return slot


def _with_floor(slots: list[Slot], utterance: str) -> list[Slot]:
    """The slots with the lower end of a range of which only the upper end was found."""
    ceilings = [slot for slot in slots if slot.kind is SlotKind.MAX_PRICE]
    if len(ceilings) == 2 and _TO.search(utterance[ceilings[0].end : ceilings[1].start]):
        floor = replace(ceilings[0], kind=SlotKind.MIN_PRICE)
        return [floor if slot is ceilings[0] else slot for slot in slots]
    if len(ceilings) != 1 or any(slot.kind is SlotKind.MIN_PRICE for slot in slots):
        return slots
    found = _RANGE_BEFORE.search(utterance[: ceilings[0].start])
    amount = price_of(found[1]) if found else None
    if found is None or amount is None:
        return slots
    floor = Slot(SlotKind.MIN_PRICE, found[1], amount, found.start(1), found.end(1))
    return [floor, *(slot for slot in slots if slot.end <= floor.start or slot.start >= floor.end)]


def _limit(before: str, after: str) -> SlotKind | None:
    """Whether a number between these words is a ceiling or a floor; None where they say neither."""
    if _AT_MOST_BEFORE.search(before) or _AT_MOST_AFTER.search(after):
        return SlotKind.MAX_PRICE
    if _AT_LEAST_BEFORE.search(before) or _AT_LEAST_AFTER.search(after):
        return SlotKind.MIN_PRICE
    return None


def _wishes(slots: Sequence[Slot]) -> tuple[Wish, ...]:
    return tuple(wish for slot in slots if (wish := wish_of(slot)) is not None)


def _refusal(wish: Wish) -> Wish:
    words = tuple(value for value in wish.values if value == value.lower())
    return Wish(Aspect.CATEGORY, Relation.IS_NOT, words or wish.values, wish.text)


def _possible(wishes: Sequence[Wish]) -> tuple[Wish, ...]:
    """The wishes but for those that are refused in the same breath: "sick of cereal, no cereal"."""
    refused = [wish for wish in wishes if wish.relation is Relation.IS_NOT]
    wanted = [wish for wish in wishes if wish.relation is not Relation.IS_NOT]
    wanted = [wish for wish in wanted if not any(contradicts(wish, one) for one in refused)]
    return (*wanted, *less_wanted(refused, wanted))


def less_wanted(refused: Sequence[Wish], wanted: Sequence[Wish]) -> tuple[Wish, ...]:
    """The refusals less what is wanted itself: a name may stand for pasta and macaroni."""
    wanted = [wish for wish in wanted if wish.relation is Relation.IS]
    return tuple(left for wish in refused if (left := without_wanted(wish, wanted)) is not None)
