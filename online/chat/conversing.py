"""The chatbot: one turn of a conversation in, cards and words out.

Cards decide and the text follows: whatever the wording, a text that says more than its cards is
not sent. It never fails for what a shopper says. It knows no message; what is learned of language
is behind a seam.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from feature_store.errors import StoreError
from feature_store.language.labels import Intent, SlotKind
from feature_store.schema import Corpus, EventKind
from online.catalog import Catalog
from online.chat.choosing import HELP_KINDS, chosen_intent, reply_to, second_look
from online.chat.dialogue import (
    MAX_REJECTED,
    MAX_SEEN,
    Dialogue,
    Kept,
    Said,
    checked,
)
from online.chat.facts import Shown, Vocabulary, open_vocabulary, shown_of
from online.chat.finding import Finder, Found
from online.chat.following import counted, follow, has_any
from online.chat.helping import Helper
from online.chat.memory import Memory
from online.chat.plain import plain
from online.chat.policy import (
    MAX_FAILED,
    REPEATED_FAILURE,
    TOPICS,
    Mood,
    Treatment,
    asks_for_products,
    treatment,
)
from online.chat.replies import Replies, Reply
from online.chat.summary import summary
from online.chat.truth import untruths
from online.chat.turn import Ask, Escalation, Kind, Turn
from online.chat.understanding import Before, Understander, Understood
from online.chat.wishes import Aspect, Relation
from online.chat.wording import Wording, joined, names, say, suggestions
from online.engine import NO_DEADLINE, Engine
from online.errors import UnbuiltError
from online.snapshot import Snapshot
from online.types import Cause, Degraded

logger = logging.getLogger(__name__)

MEMORY_STAGE: Final = "conversation"
WORDING_STAGE: Final = "wording"
_FINAL_PARTICLE: Final = re.compile(r"[吧啊呀啦嘛呗](?=[，。！？,.!?\s]|$)")
"""At the end it says "let us"; the same character makes a bar of coffee."""

_COMPLAINTS: Final = {"en": "how do I make a complaint", "zh": "怎么投诉"}


@dataclass(slots=True)
class Chat:
    """Answers turns from an engine and a store.

    `topics` are those that a person answers, of `online.chat.policy.TOPICS`, `goodwill` the
    coupons that may be offered for the trouble, by their own rules and budgets. `wording` may put
    answers in other words. Threads may share it.
    """

    engine: Engine
    memory: Memory
    currency: str = ""
    topics: Sequence[str] = tuple(TOPICS)
    goodwill: Sequence[str] = ()
    wording: Wording | None = None
    _vocabulary: tuple[str, Vocabulary] | None = field(default=None)

    def converse(
        self, ask: Ask, deadline_s: float = NO_DEADLINE, snapshot: Snapshot | None = None
    ) -> Turn:
        """One turn; `deadline_s` is an instant of `time.perf_counter`.

        All of it is answered from `snapshot`, by default the current one. Raises UnbuiltError when
        the bundle has no models of language.
        """
        snapshot = snapshot or self.engine.snapshot
        understander, vocabulary = self._language(snapshot)
        degraded: list[Degraded] = []
        kept = self._recall(ask, snapshot.catalog, degraded)
        if not ask.utterance.strip():
            turn = _noted(ask, kept)
        else:
            utterance = _FINAL_PARTICLE.sub("，", ask.utterance)
            before = Before(kept.intent, bool(kept.dialogue.shown))
            understood = understander.understand(utterance, ask.request.locale, before)
            finder = Finder(self.engine, snapshot, ask.request, deadline_s)
            turn = self._answer(ask, kept, second_look(understood, kept), finder)
        turn = self._worded(turn, snapshot.catalog, vocabulary, degraded)
        self._keep(ask, kept, turn, degraded)
        return replace(turn, degraded=tuple(dict.fromkeys((*turn.degraded, *degraded))))

    def _language(self, snapshot: Snapshot) -> tuple[Understander, Vocabulary]:
        """The models of language, and the shop's names, of a snapshot's bundle.

        Only names are held on to: the arrays of a bundle must not outlive a swap.
        """
        known = self._vocabulary
        if known is None or known[0] != snapshot.model_version:
            opened = open_vocabulary(snapshot.bundle)
            known = None if opened is None else (snapshot.model_version, opened)
            self._vocabulary = known
        if snapshot.understander is None or known is None:
            raise UnbuiltError("utterance", "this bundle has no models of language; train again")
        return snapshot.understander, known[1]

    def _recall(self, ask: Ask, catalog: Catalog, degraded: list[Degraded]) -> Kept:
        """What the conversation has come to; what the caller sent back wins."""
        owner = ask.request.user or ask.request.session
        try:
            kept = self.memory.recall(ask.conversation, owner, ask.now_time)
        except StoreError as error:
            logger.error("a conversation cannot be read: %s", error)
            degraded.append(Degraded(MEMORY_STAGE, Cause.UNAVAILABLE))
            kept = Kept(owner=owner)
        dialogue = kept.dialogue if ask.given is None else ask.given

        def are_items(ids: Sequence[str]) -> list[bool]:
            found: list[bool] = (catalog.indexes_of(ids) >= 0).tolist()
            return found

        return replace(kept, dialogue=checked(dialogue, are_items), owner=owner)

    def _answer(self, ask: Ask, kept: Kept, understood: Understood, finder: Finder) -> Turn:
        asks = asks_for_products(understood) or has_any(understood, SlotKind.OTHER_BRAND)
        treated = treatment(understood, ask.utterance, self.topics, asks=asks)
        intent = understood.intent
        if treated.sells:
            intent = chosen_intent(understood, kept, asks=asks)
        followed = follow(kept.dialogue, intent, understood, ask.utterance, finder.fits)
        replies = Replies(finder, Helper(finder), kept, understood, followed, self.currency)
        person = say("person", replies.language)
        if treated.sells and not treated.reason:
            reply = reply_to(replies, intent)
            if reply.has_failed and kept.dialogue.num_failed >= MAX_FAILED:
                treated = replace(treated, reason=REPEATED_FAILURE)
                reply = replace(reply, text=joined([reply.text, person], replies.language))
        else:
            reply = self._consolation(replies, treated, ask)
        turn = _turn(reply, replies)
        if treated.reason:
            told = kept.noted(Said(True, plain(ask.utterance)))
            turn = replace(
                turn,
                escalation=Escalation(treated.reason, summary(told, treated, understood)),
                kinds=turn.kinds | {Kind.ESCALATION},
            )
        return turn

    def _consolation(self, replies: Replies, treated: Treatment, ask: Ask) -> Reply:
        """An apology, help and at most a coupon for the trouble; a person where one is needed."""
        language, understood = replies.language, replies.understood
        rejected = _complained_of(replies) if treated.mood is not Mood.CALM else ()
        person = say("person", language) if treated.reason else ""
        if understood.intent is Intent.HUMAN and treated.mood is Mood.CALM:
            hints = suggestions("person", language)
            return Reply(person, frozenset({Kind.ESCALATION}), suggestions=hints)
        if treated.mood is Mood.CALM:
            reply = (
                reply_to(replies, understood.intent)
                if understood.intent in HELP_KINDS
                else replies.unsure()
            )
            return replace(reply, text=joined([reply.text, person], language))
        sorry = say("very_sorry" if treated.mood is Mood.ANGRY else "sorry", language)
        help_reply = replies.help(("help",), _COMPLAINTS[language])
        has_help = Kind.HELP in help_reply.kinds
        parts, found = [sorry], Found()
        if has_help:
            parts.append(help_reply.text)
            found = help_reply.found
        may_give = self.goodwill and not treated.reason
        gift = replies.finder.coupons(self.goodwill) if may_give else Found()
        if gift.items:
            catalog = replies.finder.snapshot.catalog
            cards = shown_of(gift.items, catalog, language)
            parts.append(say("goodwill", language, cards=names(cards, language, self.currency)))
            found = replace(gift, items=(*found.items, *gift.items))
        kinds = {Kind.HELP} if has_help else set() if treated.reason else {Kind.NONE}
        kinds |= {Kind.COUPONS} if gift.items else set()
        return Reply(
            joined([*parts, person], language),
            frozenset(kinds),
            found,
            suggestions("person" if treated.reason else "help", language),
            rejected=rejected,
        )

    def _worded(
        self, turn: Turn, catalog: Catalog, vocabulary: Vocabulary, degraded: list[Degraded]
    ) -> Turn:
        """The turn with its cards read, and in the words of the seam where they are true."""
        language = turn.understood.language if turn.understood else "en"
        shown = tuple(shown_of(turn.items, catalog, language))
        text = turn.text
        if self.wording is not None:
            text = _put(self.wording, turn.text, shown, language, vocabulary, degraded)
        return replace(turn, text=text, shown=shown)

    def _keep(self, ask: Ask, kept: Kept, turn: Turn, degraded: list[Degraded]) -> None:
        reasons = {item.item: item.reason for item in turn.items if item.corpus is Corpus.PRODUCT}
        known = {**kept.reasons, **reasons}
        shown = turn.dialogue.shown
        kept = replace(
            kept.noted(Said(True, plain(ask.utterance)), Said(False, plain(turn.text))),
            dialogue=turn.dialogue,
            reasons={item: known[item] for item in shown if item in known},
            seen=_seen(kept, turn),
            base=turn.base or kept.base,
            intent=turn.understood.intent if turn.understood else kept.intent,
            is_passed_on=turn.escalation is not None or kept.is_passed_on,
        )
        try:
            self.memory.keep(ask.conversation, kept, ask.now_time)
        except StoreError as error:
            logger.error("a conversation cannot be kept: %s", error)
            degraded.append(Degraded(MEMORY_STAGE, Cause.UNAVAILABLE))


def _turn(reply: Reply, replies: Replies) -> Turn:
    """The turn of a reply, with what the dialogue has come to."""
    before, found = replies.dialogue, reply.found
    shown = tuple(item.item for item in found.items if item.corpus is Corpus.PRODUCT)
    rejected = tuple(dict.fromkeys((*before.rejected, *reply.rejected)))[-MAX_REJECTED:]
    dialogue = Dialogue(
        num_turns=before.num_turns,
        wishes=replies.followed.wishes if reply.wishes is None else reply.wishes,
        shown=shown or before.shown,
        rejected=rejected,
        asked=reply.asked,
        num_failed=before.num_failed + 1 if reply.has_failed else 0,
    )
    return Turn(
        text=reply.text,
        kinds=reply.kinds,
        dialogue=counted(dialogue),
        understood=replies.understood,
        stated=replies.followed.stated,
        items=found.items,
        suggestions=reply.suggestions,
        request=found.request,
        signals=reply.signals,
        degraded=found.degraded,
        missing=found.missing,
        base=reply.base,
    )


def _seen(kept: Kept, turn: Turn) -> tuple[str, ...]:
    """The products shown since the shopper last named a kind of product."""
    before = () if any(wish.is_on(Aspect.CATEGORY) for wish in turn.stated) else kept.seen
    return tuple(dict.fromkeys((*before, *turn.dialogue.shown)))[-MAX_SEEN:]


def _complained_of(replies: Replies) -> tuple[str, ...]:
    """The products that a complaint is about: those pointed at, and those named and bought."""
    named = [
        wish for wish in replies.followed.stated if wish.aspect in (Aspect.CATEGORY, Aspect.BRAND)
    ]
    named = [wish for wish in named if wish.relation is Relation.IS]
    if not named:
        return replies.pointed()
    bought = replies.finder.again(named, ()).items
    return (*replies.pointed(), *(item.item for item in bought))


def _noted(ask: Ask, kept: Kept) -> Turn:
    """The answer to a mark or to buttons without words."""
    language = "zh" if ask.request.locale.lower().startswith("zh") else "en"
    disliked = tuple(item for item, kind in ask.feedback if kind is not EventKind.LIKE)
    rejected = tuple(dict.fromkeys((*kept.dialogue.rejected, *disliked)))[-MAX_REJECTED:]
    return Turn(
        text=say("noted", language),
        kinds=frozenset({Kind.SMALLTALK}),
        dialogue=counted(replace(kept.dialogue, rejected=rejected)),
    )


def _put(
    wording: Wording,
    draft: str,
    shown: Sequence[Shown],
    language: str,
    vocabulary: Vocabulary,
    degraded: list[Degraded],
) -> str:
    """The draft in other words, if they are true of the cards; else the draft."""
    try:
        text = wording.word(draft, shown, language)
    except Exception as error:
        logger.error("the wording fails", exc_info=error)
        degraded.append(Degraded(WORDING_STAGE, Cause.FAILED))
        return draft
    if not text.strip() or (found := untruths(text, shown, vocabulary)):
        logger.warning("a wording was refused for what is on no card: %s", found)
        return draft
    return text
