"""What to answer to each intent: cards and words, and how the dialogue goes on.

Each method answers one kind of request. It knows how products are found and how texts are put;
feelings and escalation are settled before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from feature_store.language.labels import Feeling, Intent, SlotKind
from feature_store.schema import Corpus, EventKind
from online.chat.dialogue import Dialogue, Kept
from online.chat.facts import Shown, shown_of
from online.chat.finding import NOTHING, POPULAR, Finder, Found
from online.chat.following import Followed, has_any, with_limit, with_other_brand
from online.chat.helping import Helper
from online.chat.turn import Kind
from online.chat.understanding import Understood
from online.chat.wishes import ANOTHER_BRAND, Aspect, Relation, Wish, price_wish
from online.chat.wording import (
    comparison,
    excerpt,
    joined,
    name,
    names,
    products,
    say,
    suggestions,
)
from online.types import SlateItem

NUM_CONTEXT: Final = 3
"""Of how many cards "that" speaks when nobody says of which."""

CENT: Final = Decimal("0.01")
_CHEAPEST: Final = re.compile(r"cheapest|lowest price|least expensive|最便宜|最低价|最实惠")
_FIRST_TWO: Final = re.compile(r"first two|top two|(?:前|头)(?:面)?(?:两|二|2)")
_ONLY_OTHERS: Final = re.compile(
    r"something else|anything else|what else|other (?:ones|options)|seen (?:those|these|them|that)"
    r"|换一批|换几个|换别的|别的|其他|看过|用过|试过"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is checked and sent."""

    text: str
    kinds: frozenset[Kind]
    found: Found = NOTHING
    suggestions: tuple[str, ...] = ()
    asked: str = ""
    wishes: tuple[Wish, ...] | None = None
    rejected: tuple[str, ...] = ()
    base: Intent | None = None
    signals: tuple[tuple[str, EventKind], ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether the shopper got nothing of what was asked for."""
        return Kind.NONE in self.kinds


@dataclass(frozen=True, slots=True)
class Replies:
    """The answers to one turn."""

    finder: Finder
    helper: Helper
    kept: Kept
    understood: Understood
    followed: Followed
    currency: str

    @property
    def language(self) -> str:
        """The language to answer in."""
        return self.understood.language

    @property
    def dialogue(self) -> Dialogue:
        """What the conversation had come to before."""
        return self.kept.dialogue

    def pointed(self) -> tuple[str, ...]:
        """The cards that the shopper points at, in the order of the words."""
        shown = self.dialogue.shown
        if _FIRST_TWO.search(self.understood.text):
            return shown[:2]
        found = []
        for slot in self.understood.of(SlotKind.ORDINAL):
            if isinstance(slot.value, int):
                place = slot.value - 1 if slot.value > 0 else len(shown) + slot.value
                found += [shown[place]] if 0 <= place < len(shown) else []
        return tuple(dict.fromkeys(found))

    def find(self, intent: Intent) -> Reply:
        """Products that meet the wishes."""
        if self.followed.clashes:
            return self._question("ask_price", "price", Aspect.PRICE)
        wishes, key, exclude = self._sharpened()
        if intent not in _BASES and not any(_narrows(wish) for wish in wishes):
            if intent is Intent.REFINE:  # of what? Anything would be a guess
                return self._question("ask_category", "hello", Aspect.CATEGORY, wishes)
            return self._open(wishes)
        base = intent if intent in _BASES else self._base(intent)
        found = self._listed(base, wishes, exclude)
        if found.items:
            return self._cards(_BASES[base][0] if base in _BASES else key, found, wishes, base)
        return self._nothing(base, wishes, exclude)

    def gift(self) -> Reply:
        """Ideas for a present, and a question where too little is known."""
        wishes = self.followed.wishes
        if any(wish.aspect in (Aspect.CATEGORY, Aspect.TAG) for wish in wishes):
            found = self.finder.products(wishes, self.dialogue.rejected)
            if found.items:
                return self._cards("gift", found, wishes, Intent.FIND_PRODUCT)
            return self._nothing(Intent.FIND_PRODUCT, wishes, ())
        return self._question("ask_recipient", "gift", Aspect.CATEGORY, wishes)

    def not_this(self, *, is_rejection: bool = True) -> Reply:
        """Others in place of what was shown."""
        unwanted = self.pointed() or self.dialogue.shown
        only_others = _ONLY_OTHERS.search(self.understood.text) or not is_rejection
        signals = () if only_others else tuple((one, EventKind.NOT_INTERESTED) for one in unwanted)
        wishes, base = self.followed.wishes, self._base(Intent.NOT_THIS)
        if not any(_narrows(wish) for wish in wishes) and base not in _BASES:
            return replace(self._open(wishes), rejected=unwanted, signals=signals)
        exclude = (*self.dialogue.rejected, *unwanted)
        found = self._listed(base, wishes, (*exclude, *self.kept.seen))
        if not found.items:
            found = self._listed(base, wishes, exclude)
        if found.items:
            reply = self._cards("others", found, wishes, base)
        else:
            reply = self._loosened(self._none("no_more", wishes))
        return replace(reply, rejected=unwanted, signals=signals)

    def together(self) -> Reply:
        """What goes with the cards pointed at, or with what was named."""
        named = [wish for wish in self.followed.stated if wish.is_on(Aspect.CATEGORY)]
        items = self.pointed()
        if not items and named:
            items = _ids(self.finder.products(named, (), POPULAR).items)
        items = (items or self.dialogue.shown or self.finder.asked.context_items)[:NUM_CONTEXT]
        if not items:
            return self._question("ask_category", "hello", Aspect.CATEGORY)
        refusals = [one for one in self.followed.wishes if one.relation is Relation.IS_NOT]
        exclude = (*self.dialogue.rejected, *items)
        found = self.finder.together(items, refusals, exclude)
        if found.items:
            return self._cards("together", found, None, None)
        return self._none("no_products")

    def again(self) -> Reply:
        """What the shopper bought before."""
        asked = self.finder.asked
        if not asked.user and not asked.session:
            return Reply(
                say("unknown_you", self.language),
                frozenset({Kind.NONE}),
                suggestions=suggestions("hello", self.language),
            )
        found = self.finder.again(self.followed.wishes, self.dialogue.rejected)
        if found.items:
            return self._cards("again", found, self.followed.wishes, Intent.BUY_AGAIN)
        return self._none("no_purchases", self.followed.wishes)

    def compare(self) -> Reply:
        """How two cards differ; a guide where kinds are compared, not cards."""
        two = self.pointed()
        named = [
            wish for wish in self.followed.stated if wish.aspect in (Aspect.CATEGORY, Aspect.TAG)
        ]
        if len(two) < 2 and named:
            guide = self.help(("guide", "tip", "help"))
            if Kind.HELP in guide.kinds:
                return guide
        two = (
            two if len(two) > 1 else (*two, *(one for one in self.dialogue.shown if one not in two))
        )
        if len(two) < 2 and named:
            return self.find(Intent.FIND_PRODUCT)
        if len(two) < 2:
            return self._question("ask_which", "cards", Aspect.CATEGORY)
        return self._about(two[:2])

    def why(self) -> Reply:
        """Why the cards were shown, from what really moved them."""
        cards = (self.pointed() or self.dialogue.shown)[:NUM_CONTEXT]
        found = self._again_shown(cards)
        if not found.items:
            return self._smalltalk("hello", "hello")
        shown = self._read(found.items)
        parts = [
            say(
                "why",
                self.language,
                card=name(one, self.language, with_price=False),
                reason=one.reason,
            )
            for one in shown
        ]
        text = joined(parts, self.language)
        return Reply(text, frozenset({Kind.CARDS}), found, suggestions("cards", self.language))

    def help(self, kinds: tuple[str, ...], at_least: str = "") -> Reply:
        """What the shop's own texts say, with the source; honestly nothing where they do not.

        `at_least` is a plainer question, for where the shopper's own is not answered.
        """
        found = self.helper.help(self._asked_text(), kinds, self.language)
        if not found.items and at_least:
            found = self.helper.help(at_least, kinds, self.language)
        shown = self._read(found.items)
        if not shown:
            return Reply(
                say("no_help", self.language),
                frozenset({Kind.NONE}),
                suggestions=suggestions("help", self.language),
            )
        text = say("help", self.language, summary=excerpt(shown[0]), title=shown[0].title)
        return Reply(text, frozenset({Kind.HELP}), found, suggestions("help", self.language))

    def deals(self) -> Reply:
        """Coupons that the shopper may use."""
        found = self.finder.coupons()
        if not found.items:
            return self._none("no_coupons")
        text = say("coupons", self.language, cards=self._names(self._read(found.items)))
        return Reply(text, frozenset({Kind.COUPONS}), found)

    def smalltalk(self, intent: Intent) -> Reply:
        """Manners."""
        pleased = self.understood.feeling is Feeling.POSITIVE
        signals = tuple((one, EventKind.LIKE) for one in self.pointed()) if pleased else ()
        if intent is Intent.THANKS:
            return replace(self._smalltalk("welcome", ""), signals=signals)
        return self._smalltalk("hello", "hello")

    def out_of_scope(self) -> Reply:
        """Nothing that a shop can help with."""
        text = say("scope", self.language)
        hints = suggestions("hello", self.language)
        return Reply(text, frozenset({Kind.SMALLTALK}), suggestions=hints)

    def unsure(self) -> Reply:
        """Nothing was understood."""
        text = say("unsure", self.language)
        hints = suggestions("hello", self.language)
        return Reply(text, frozenset({Kind.NONE, Kind.QUESTION}), suggestions=hints)

    def _asked_text(self) -> str:
        """The question, with the name of the card that it points at."""
        cards = self._read(self._again_shown(self.pointed()[:1]).items)
        return " ".join((self.understood.text, *(card.title for card in cards)))

    def _base(self, intent: Intent) -> Intent:
        """The list that the cards were of, for what changes it and names nothing new to find."""
        goes_on = intent in (Intent.REFINE, Intent.NOT_THIS)
        names_any = any(wish.is_on(Aspect.CATEGORY) for wish in self.followed.stated)
        return self.kept.base if goes_on and not names_any else Intent.FIND_PRODUCT

    def _sharpened(self) -> tuple[tuple[Wish, ...], str, tuple[str, ...]]:
        """The wishes with `cheaper` and `another brand` spelt out, the text's key, what to omit."""
        wishes, key, rejected = self.followed.wishes, "found", self.dialogue.rejected
        if has_any(self.understood, SlotKind.OTHER_BRAND) and self.dialogue.shown:
            brands = self.finder.brands(self.dialogue.shown)
            if brands:
                refusal = Wish(Aspect.BRAND, Relation.IS_NOT, brands, ANOTHER_BRAND)
                wishes = with_other_brand(wishes, refusal)
            return wishes, "others", (*rejected, *self.dialogue.shown, *self.kept.seen)
        has_price = any(wish.aspect is Aspect.PRICE for wish in self.followed.stated)
        if has_any(self.understood, SlotKind.CHEAPER) and not has_price:
            return self._cheaper(wishes), "cheaper", rejected
        return wishes, key, rejected

    def _cheaper(self, wishes: tuple[Wish, ...]) -> tuple[Wish, ...]:
        """The wishes with a ceiling below what was shown."""
        if _CHEAPEST.search(self.understood.text) or not self.dialogue.shown:
            lowest = self.finder.lowest_prices(wishes, NUM_CONTEXT + 2)
            return (
                with_limit(wishes, price_wish(Relation.AT_MOST, lowest[-1])) if lowest else wishes
            )
        prices = self.finder.prices(self.pointed() or self.dialogue.shown)
        if not prices:
            return wishes
        for limit in dict.fromkeys((sum(prices, Decimal(0)) / len(prices), max(prices) - CENT)):
            lower = with_limit(wishes, price_wish(Relation.AT_MOST, min(limit, max(prices) - CENT)))
            if len(self.finder.lowest_prices(lower, NUM_CONTEXT)) == NUM_CONTEXT:
                return lower
        return with_limit(wishes, price_wish(Relation.AT_MOST, max(prices) - CENT))

    def _listed(self, base: Intent, wishes: Sequence[Wish], exclude: Sequence[str]) -> Found:
        if base is Intent.NEW_ARRIVALS:
            return self.finder.new(wishes, exclude)
        if base is Intent.BEST_SELLERS:
            return self.finder.products(wishes, exclude, POPULAR)
        return self.finder.products(wishes, exclude)

    def _open(self, wishes: tuple[Wish, ...]) -> Reply:
        """Too little to go by: some ideas, and a question."""
        found = self.finder.products(wishes, (*self.dialogue.rejected, *self.dialogue.shown))
        question = say("ask_category", self.language)
        kinds = {Kind.QUESTION, Kind.CARDS} if found.items else {Kind.QUESTION}
        text = say("idea", self.language, cards=self._names(self._read(found.items)))
        return Reply(
            joined([text, question] if found.items else [question], self.language),
            frozenset(kinds),
            found,
            suggestions("hello", self.language),
            Aspect.CATEGORY,
            wishes,
            base=Intent.FIND_PRODUCT,
        )

    def _cards(
        self, key: str, found: Found, wishes: tuple[Wish, ...] | None, base: Intent | None
    ) -> Reply:
        key = "closest" if found.is_close else key
        text = say(key, self.language, cards=self._names(self._read(found.items)))
        hints = suggestions("cards", self.language)
        return Reply(text, frozenset({Kind.CARDS}), found, hints, wishes=wishes, base=base)

    def _nothing(self, base: Intent, wishes: tuple[Wish, ...], exclude: Sequence[str]) -> Reply:
        """Why there are no cards: nothing new, nothing more, or nothing that fits."""
        if base is Intent.NEW_ARRIVALS:
            return self._none("no_new", wishes)
        if len(exclude) > len(self.dialogue.rejected) and self.finder.products(wishes, ()).items:
            return self._none("no_more", wishes)
        return self._loosened(self._none("no_products", wishes))

    def _loosened(self, reply: Reply) -> Reply:
        """The same with the question whether something may be left out."""
        text = joined([reply.text, say("ask_loosen", self.language)], self.language)
        return replace(reply, text=text, kinds=reply.kinds | {Kind.QUESTION})

    def _none(self, key: str, wishes: tuple[Wish, ...] | None = None) -> Reply:
        hints = suggestions("none", self.language)
        return Reply(
            say(key, self.language), frozenset({Kind.NONE}), suggestions=hints, wishes=wishes
        )

    def _question(
        self, key: str, hints: str, asked: Aspect, wishes: tuple[Wish, ...] | None = None
    ) -> Reply:
        return Reply(
            say(key, self.language),
            frozenset({Kind.QUESTION}),
            suggestions=suggestions(hints, self.language),
            asked=asked,
            wishes=wishes,
        )

    def _smalltalk(self, key: str, hints: str) -> Reply:
        suggested = suggestions(hints, self.language) if hints else ()
        return Reply(say(key, self.language), frozenset({Kind.SMALLTALK}), suggestions=suggested)

    def _about(self, items: Sequence[str]) -> Reply:
        found = self._again_shown(items)
        shown = products(self._read(found.items))
        if len(shown) < 2:
            return self._question("ask_which", "cards", Aspect.CATEGORY)
        text = comparison(shown[0], shown[1], self.language, self.currency)
        return Reply(text, frozenset({Kind.CARDS}), found, suggestions("cards", self.language))

    def _again_shown(self, items: Sequence[str]) -> Found:
        """The cards of these products once more."""
        return Found(self.finder.items(items, self.kept.reasons))

    def _read(self, items: Sequence[SlateItem]) -> list[Shown]:
        return shown_of(items, self.finder.snapshot.catalog, self.language)

    def _names(self, shown: Sequence[Shown]) -> str:
        return names(shown, self.language, self.currency)


_BASES: Final = {Intent.NEW_ARRIVALS: ("new",), Intent.BEST_SELLERS: ("best",)}
"""The lists that go on when they are refined, and the text that each is shown with."""


def _narrows(wish: Wish) -> bool:
    """Whether a wish says at all what is looked for."""
    return wish.relation is Relation.IS and wish.aspect is not Aspect.QUANTITY


def _ids(items: Sequence[SlateItem]) -> tuple[str, ...]:
    return tuple(item.item for item in items if item.corpus is Corpus.PRODUCT)
