"""What an utterance itself asks for: the wishes of its slots, seen among the words around them.

A slot is read again where the words beside it leave no doubt: "forget the beans" refuses beans,
"10 dollars max" is no floor. What is taken back in the same breath is refused. It knows nothing of
what was said before.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Final

from feature_store.language.labels import SlotKind
from feature_store.language.normal import normal_text
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
    r"|\b(?:anything|everything|all) but(?: the)?|\b(?:other|rather) than|\bapart from"
    r"|\bstay(?:ing)? away from|\bavoid(?:ing)?|\bsteer clear of|\bsans|\bhold the|\bnix the"
    r"|\binstead of(?: the)?|\bdrop the|\blose the|\bditch the|\bnothing (?:too |that'?s )?"
    r"|\b(?:can'?t stand|can'?t have|can'?t eat|don'?t (?:want|like|eat|need|do)|do not want|hates?"
    r"|won'?t (?:touch|eat|have)|allergic to)(?: the| any)?|\bno more"
    r"|不要|别要|別要|别给我|別給我|不想要|不想吃|不吃|不喝|去掉|除了|排除|不含|不带|不帶|别带|別帶|别放|别加|不放"
    r"|不加|别是|(?<!是)不是|不能有|不能吃|(?<!有)(?:没有|沒有)|唔要|唔好|唔食)(?:带|帶|有|含|加)?\s*$",
    re.IGNORECASE,
)
_REFUSED_AFTER: Final = re.compile(
    r"^\s*(?:味儿?|口味|类|款|配方|做的|制的|成分|含量)?(?:的|嘅)?"
    r"(?:那种|这种|那款|这款|那些|这些|那个|东西|口味)?(?:就|都|更|也|统统|通通|全都?|一律|还是|先|可"
    r"|我|它|他|她|们|家里?|孩子|娃)*"
    r"(?:不要|不想要|不吃|不喝|不爱|不用|不行|不可以|不考虑|不需要|除外|免了|免谈|算了|别给|别要|别来|别放"
    r"|去掉|拿掉|pass\b|吃不了|喝不了|过敏|吃腻|腻了|不能吃|不能喝|不能有)"
    r"|^\s*(?:flavou?r(?:ed)? |ones? )?(?:is |are )?"
    r"(?:(?:too )?(?:a )?(?:no|nope|no-no|not for me|out)(?:[.,!]|$)"
    r"|(?:gives?|makes?) (?:me|him|her|us) (?:a )?(?:rash|hives|sick)"
    r"|(?:is|are) off the table|need not apply)",
    re.IGNORECASE,
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
_OR: Final = re.compile(
    r"^\s*(?:,?\s*\b(?:or|nor)\b|/|、|或者?|或是|还有|還有|以及|和|跟|同埋?|与)\s*(?:any |the )?$",
    re.IGNORECASE,
)
"""What stands between things that are refused together."""

_COMMAS: Final = frozenset({",", "，"})

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
    slots = _as_marks([_read_again(slot, slots, utterance) for slot in slots])
    slots = _with_floor(_all_refused(slots, utterance), utterance)
    cut = _last_turn(slots, utterance)
    early_wishes = _wishes([slot for slot in slots if slot.start < cut])
    late_wishes = _wishes([slot for slot in slots if slot.start >= cut])
    renewed = {(wish.aspect, wish.relation) for wish in late_wishes} - {_REFUSALS}
    gone = [wish for wish in early_wishes if (wish.aspect, wish.relation) in renewed]
    kept = tuple(wish for wish in early_wishes if wish not in gone)
    taken_back = [_refusal(wish) for wish in gone if wish.is_on(Aspect.CATEGORY)]
    refusals = tuple(left for one in taken_back if (left := without_wanted(one, late_wishes)))
    return _possible(merged((*kept, *refusals), late_wishes))


def _as_marks(slots: list[Slot]) -> list[Slot]:
    """The slots with brands as such, where a kind is named beside them: tide detergent."""
    if not any(slot.kind is SlotKind.CATEGORY for slot in slots):
        return slots
    return [
        replace(slot, value=replace(slot.value, paths=()))
        if slot.kind is SlotKind.BRAND and isinstance(slot.value, Meaning)
        else slot
        for slot in slots
    ]


def _all_refused(slots: list[Slot], utterance: str) -> list[Slot]:
    """The slots with all of a list refused where its first is: no nuts, dairy or soy."""
    gaps = [utterance[one.end : two.start] for one, two in pairwise(slots)]
    joined = [False] * (len(gaps) + 1)
    for place in range(len(gaps) - 1, -1, -1):
        is_listed = gaps[place].strip() in _COMMAS and joined[place + 1]
        joined[place] = is_listed or _OR.search(gaps[place]) is not None
    found = slots[:1]
    for slot, is_joined in zip(slots[1:], joined, strict=False):
        is_refused = found[-1].kind is SlotKind.WITHOUT and slot.kind in _REFUSABLE and is_joined
        found.append(_refused(slot) if is_refused else slot)
    return found


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
    is_listed = after[found.end() : found.end() + 1] in _COMMAS
    return is_listed or not any(end <= other.start <= end + 2 for other in slots)


def _read_again(slot: Slot, slots: Sequence[Slot], utterance: str) -> Slot:
    """The slot of the kind that the words beside it leave no doubt about."""
    before = normal_text(utterance[max(0, slot.start - NUM_BESIDE) : slot.start])
    after = normal_text(utterance[slot.end : slot.end + NUM_BESIDE])
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
