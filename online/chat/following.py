"""How an utterance changes what is wanted: carried, refined, contradicted, dropped.

It reads the slots and a few turns of phrase that no slot stands for: taking something back
("no wait"), letting something go ("it need not be organic", "不管价格"). It knows no products.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from feature_store.language.labels import Intent, SlotKind
from feature_store.language.words import words_of
from online.chat.dialogue import MAX_WISHES, Dialogue
from online.chat.stating import less_wanted, stated_wishes
from online.chat.understanding import Understood
from online.chat.wishes import (
    Aspect,
    Relation,
    Wish,
    contradicts,
    is_path,
    merged,
    without_wanted,
)

SHOPPING: Final = frozenset(
    {
        Intent.FIND_PRODUCT,
        Intent.REFINE,
        Intent.NEW_ARRIVALS,
        Intent.BEST_SELLERS,
        Intent.BUY_AGAIN,
        Intent.GIFT,
        Intent.NOT_THIS,
    }
)
"""Intents that change what is wanted."""

LISTS: Final = frozenset({Intent.NEW_ARRIVALS, Intent.BEST_SELLERS, Intent.BUY_AGAIN})
"""Intents that ask for a list of their own, whatever was asked before."""

_SAME_PRICE: Final = re.compile(
    r"same (?:budget|price)|(?:价钱|价格|预算|價錢|價格|預算)(?:一样|不变|照旧|一樣|不變|照舊)"
)
_ANY_PRICE: Final = re.compile(
    r"never mind (?:my|the|that)(?: \w+){0,3} (?:rule|limit)"
    r"|(?:规矩|限制|限价)(?:不作数|取消|作废|不算)|不限价"
    r"|(?:never mind|forget|ignore|regardless of|don'?t care about|whatever|no matter)"
    r"(?: about| what)?(?: the)? (?:price|budget|cost)"
    r"|(?:price|budget|cost|money)(?: really)? (?:doesn'?t|does not|don'?t) matter"
    r"|(?:money|price) (?:is|'s) no (?:object|issue|problem)|any price|no (?:budget|price) limit"
    r"|(?:不管|不用管|不看|不考虑|别管|无论)(?:什么)?(?:价|多少钱|预算)|(?:价格|价钱|预算)(?:无所谓|不限|随便|不重要|不是问题)"
    r"|多少钱都(?:行|可以)|贵(?:一?点)?(?:也|都)?(?:没关系|无所谓|行|可以)|不差钱"
)
_ANY_BRAND: Final = re.compile(
    r"any brand|brand (?:doesn'?t|does not) matter|don'?t care (?:about|what|which) (?:the )?brand"
    r"|(?:什么|哪个|任何)牌子都|牌子(?:无所谓|不限|随便)|不(?:管|限)牌子"
)
_ANEW: Final = re.compile(
    r"start (?:over|again|from scratch)|forget (?:all|everything)"
    r"|重新(?:来|开始)|从头(?:来|开始)|重来"
)
_OF_THESE: Final = re.compile(
    r"\b(?:those|these|them|they|ones?|it)\b|哪种|哪个|哪款|这些|那些|这几|那几|其中|里面|它们|它|这种|那种"
)
_ADDS: Final = re.compile(
    r"^(?:(?:oh|ooh|ok|okay|hmm|great|good|thanks|perfect|cool)[,.! ]+)*"
    r"(?:and|also|plus|next|now|then)\b|\b(?:too|also|as well)[.!?]*$"
    r"|^(?:好的?|嗯|行|对了|那)?[,，。 ]*(?:再|还|另外|然后|顺便|接下来|下一个)"
    r"|也(?:来|要|拿|给)|还要|还有"
)
"""Something beside what was wanted, not in its place."""

_ALWAYS: Final = re.compile(
    r"\b(?:each|every|everything|anything|per item|all of (?:it|them))\b"
    r"|每样|每件|每个|每種|每种|样样|什么都|全部|一律"
)
_ALWAYS_TEXT: Final = "always"
"""The text of a limit that was set for whatever is looked for."""

_HERE: Final = "\x00"
_NEED_NOT: Final = re.compile(
    rf"(?:do(?:es)?n'?t|do(?:es)? not|needn'?t|need not)(?: really)?"
    rf"(?: have to| need to)? be {_HERE}"
    rf"|not necessarily {_HERE}|(?:with or without|even with) {_HERE}"
    rf"|{_HERE}(?: is| are|s| would be)?(?: also| totally| just)? (?:fine|ok|okay|all ?right)\b"
    rf"|{_HERE} (?:doesn'?t|does not|don'?t) matter"
    rf"|(?:不一定要?|不一定非得|不用|不必|不需要|无所谓|可以不)(?:是)?{_HERE}"
    rf"|{_HERE}的?(?:也行|也可以|也好|也成|也能|也没事|也没关系|没关系|没问题|都行|都可以|无所谓)"
)
"""Turns of phrase that let go of what stands at the braces, marked in the text."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The wishes after an utterance, those that it states itself, and whether they can be met.

    `clashes`: a floor above the ceiling, both of this utterance, which are left out then.
    """

    wishes: tuple[Wish, ...]
    stated: tuple[Wish, ...]
    clashes: bool = False


def follow(
    dialogue: Dialogue,
    intent: Intent,
    understood: Understood,
    utterance: str,
    fits: Callable[[Sequence[Wish]], bool],
) -> Followed:
    """What is wanted after this utterance, which may be anything.

    `fits` tells whether the shop has anything that meets all of some wishes.
    """
    stated = stated_wishes(understood.slots, utterance)
    if intent is Intent.COMPARE:
        stated = tuple(wish for wish in stated if wish.is_on(Aspect.CATEGORY))
    elif intent not in SHOPPING:
        return Followed(dialogue.wishes, stated)
    stated = _as_properties(stated, dialogue.wishes, intent, understood.text, fits)
    if _ALWAYS.search(understood.text):
        stated = tuple(
            replace(wish, text=_ALWAYS_TEXT) if wish.aspect is Aspect.PRICE else wish
            for wish in stated
        )
    clashes = _clash(stated)
    if clashes:
        stated = tuple(wish for wish in stated if wish.aspect is not Aspect.PRICE)
    text = understood.text
    old = () if _ANEW.search(text) else _released(dialogue.wishes, text)
    stated = _still_stated(stated, text, dialogue.wishes)
    old = _kept_beside(old, stated, intent, text)
    old = _uncontradicted(old, stated)
    refused = [wish for wish in stated if wish.relation is Relation.IS_NOT]
    wanted = [wish for wish in stated if wish.relation is not Relation.IS_NOT]
    wishes = merged(old, (*wanted, *less_wanted(refused, old)))
    return Followed(wishes[-MAX_WISHES:], stated, clashes)


def _as_properties(
    stated: Sequence[Wish],
    before: Sequence[Wish],
    intent: Intent,
    text: str,
    fits: Callable[[Sequence[Wish]], bool],
) -> tuple[Wish, ...]:
    """The wishes; a kind is a property of the kind before it where it has no shelf of its own.

    So it is too where a request is refined and there is something of both: chocolate, of cakes.
    """
    kinds = [wish for wish in before if wish.is_on(Aspect.CATEGORY)]
    found = []
    for wish in stated:
        if kinds and wish.is_on(Aspect.CATEGORY) and not _same(kinds, [wish]):
            words = tuple(value for value in wish.values if not is_path(value))
            as_tag = replace(wish, aspect=Aspect.TAG, values=words or (wish.text,))
            is_both = intent is Intent.REFINE and fits((*kinds, as_tag))
            found.append(as_tag if is_both or _is_property(wish, intent, text) else wish)
        else:
            found.append(wish)
    return tuple(found)


def _is_property(wish: Wish, intent: Intent, text: str) -> bool:
    if any(is_path(value) for value in wish.values):
        return False
    said = re.escape(wish.text.lower())
    return (
        intent is Intent.REFINE or re.search(rf"{said}\s*(?:的|味|款|装|ones?\b)", text) is not None
    )


def _clash(stated: Sequence[Wish]) -> bool:
    floors = [wish.amount for wish in stated if wish.relation is Relation.AT_LEAST]
    ceilings = [wish.amount for wish in stated if wish.relation is Relation.AT_MOST]
    return bool(floors and ceilings) and max(floors) > min(ceilings)


def _released(wishes: Sequence[Wish], text: str) -> tuple[Wish, ...]:
    """The wishes but for those that the text lets go of."""
    gone = set()
    if _ANY_PRICE.search(text):
        gone.add(Aspect.PRICE)
    if _ANY_BRAND.search(text):
        gone.add(Aspect.BRAND)
    return tuple(
        wish
        for wish in wishes
        if wish.aspect not in gone and not any(lets_go(text, name) for name in _names(wish))
    )


def releases(wishes: Sequence[Wish], text: str) -> bool:
    """Whether a text lets go of any of the wishes."""
    return len(_released(wishes, text)) < len(wishes)


def _names(wish: Wish) -> list[str]:
    """How the text may call what a wish is about; a wanted category is not let go of so."""
    if wish.aspect is Aspect.PRICE or wish.is_on(Aspect.CATEGORY):
        return []
    return list(dict.fromkeys(name.lower() for name in (wish.text, *wish.values) if name))


def lets_go(text: str, name: str) -> bool:
    """Whether a text says that something need not be, or may be after all."""
    return name in text and _NEED_NOT.search(text.replace(name, _HERE)) is not None


def _still_stated(stated: Sequence[Wish], text: str, before: Sequence[Wish]) -> tuple[Wish, ...]:
    """The stated wishes but for those that the text lets go of; a wanted category stays."""
    refused = [wish for wish in before if wish.relation is Relation.IS_NOT]
    return tuple(
        wish
        for wish in stated
        if wish.aspect is Aspect.PRICE
        or not lets_go(text, wish.text.lower())
        or (wish.is_on(Aspect.CATEGORY) and not any(contradicts(wish, one) for one in refused))
        or text.count(wish.text.lower()) > 1
    )


def _kept_beside(
    old: Sequence[Wish], stated: Sequence[Wish], intent: Intent, text: str
) -> tuple[Wish, ...]:
    """The old wishes that go together with the new ones."""
    category = [wish for wish in stated if wish.is_on(Aspect.CATEGORY)]
    before = [wish for wish in old if wish.is_on(Aspect.CATEGORY)]
    if category:
        old = [wish for wish in old if not wish.is_on(Aspect.CATEGORY)]
        is_other = bool(before) and not _same(before, category)
        is_new = is_other and (intent is not Intent.REFINE or _ADDS.search(text) is not None)
    else:
        is_new = intent in LISTS and not stated and not _speaks_of(text, before)
        old = [wish for wish in old if not (is_new and wish.is_on(Aspect.CATEGORY))]
    if is_new:
        old = [wish for wish in old if _outlives_category(wish, text)]
    return tuple(wish for wish in old if not _is_replaced(wish, stated))


def _speaks_of(text: str, wishes: Sequence[Wish]) -> bool:
    """Whether a text means what was wanted before: "of those", or by one of its words."""
    words = {word for wish in wishes for phrase in wish.phrases() for word in phrase}
    return _OF_THESE.search(text) is not None or not words.isdisjoint(words_of(text))


def _same(before: Sequence[Wish], after: Sequence[Wish]) -> bool:
    """Whether a category that was wanted is wanted again."""
    values = {value for wish in before for value in wish.values}
    return any(value in values for wish in after for value in wish.values)


def _outlives_category(wish: Wish, text: str) -> bool:
    """What is refused is refused of anything; the rest was said of the category before."""
    if wish.aspect is Aspect.PRICE:
        return wish.text == _ALWAYS_TEXT or _SAME_PRICE.search(text) is not None
    return wish.relation is Relation.IS_NOT and wish.aspect is not Aspect.BRAND


def _is_replaced(old: Wish, stated: Sequence[Wish]) -> bool:
    """Whether a new wish says something else of the same, or makes the old one impossible."""
    for new in stated:
        if old.aspect is Aspect.PRICE and new.aspect is Aspect.PRICE:
            crosses = (new.amount < old.amount) == (new.relation is Relation.AT_MOST)
            if old.relation is new.relation or (crosses and new.amount != old.amount):
                return True
        elif old.aspect is new.aspect is Aspect.BRAND or (
            old.aspect is new.aspect and old.aspect not in (Aspect.CATEGORY, Aspect.TAG)
        ):
            return True
    return False


def _uncontradicted(old: Sequence[Wish], stated: Sequence[Wish]) -> tuple[Wish, ...]:
    """The old wishes that the new ones leave possible: the later word counts."""
    refused = [wish for wish in stated if wish.relation is Relation.IS_NOT]
    wanted = [wish for wish in stated if wish.relation is Relation.IS]
    kept = []
    for wish in old:
        if wish.relation is Relation.IS and any(contradicts(wish, one) for one in refused):
            continue
        if wish.relation is Relation.IS_NOT:
            left = without_wanted(wish, wanted)
            if left is not None:
                kept.append(left)
            continue
        kept.append(wish)
    return tuple(kept)


def with_limit(wishes: Sequence[Wish], limit: Wish) -> tuple[Wish, ...]:
    """The wishes with this ceiling in place of another; a floor above it goes."""
    kept = [
        wish
        for wish in wishes
        if wish.aspect is not Aspect.PRICE
        or (wish.relation is Relation.AT_LEAST and wish.amount <= limit.amount)
    ]
    return (*kept, limit)


def with_other_brand(wishes: Sequence[Wish], refusal: Wish) -> tuple[Wish, ...]:
    """The wishes with no brand but those that the refusal leaves."""
    return (*(wish for wish in wishes if wish.aspect is not Aspect.BRAND), refusal)


def counted(dialogue: Dialogue) -> Dialogue:
    """One turn more."""
    return replace(dialogue, num_turns=dialogue.num_turns + 1)


def has_any(understood: Understood, *kinds: SlotKind) -> bool:
    """Whether it has a slot of any of these kinds."""
    return any(slot.kind in kinds for slot in understood.slots)
