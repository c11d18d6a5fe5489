"""Converse at the edge: a message becomes a turn to answer, a turn becomes a message.

A dialogue that a caller sends back is taken as it is written; whether it means anything is found
out where it is used. It knows messages and values, and nothing of how a turn is answered.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from aisle.v1 import chat_pb2, recommendation_pb2
from feature_store.events import Event, with_event_id
from feature_store.language.labels import Feeling
from feature_store.schema import EventKind
from online.catalog import Catalog
from online.chat.dialogue import Dialogue
from online.chat.finding import CHAT
from online.chat.turn import Ask, Turn
from online.chat.understanding import Understood
from online.chat.wishes import Aspect, Relation, Wish
from online.feedback.identities import Identities
from online.service.displays import write_displays
from online.service.edge import KIND_OF_MESSAGE, Edge
from online.types import Request, Slate

CONVERSATION_ID_BYTES: Final = 16
MAX_COUNT: Final = 2**31 - 1

_RELATIONS: Final = {
    Relation.IS: chat_pb2.Slot.RELATION_IS,
    Relation.IS_NOT: chat_pb2.Slot.RELATION_IS_NOT,
    Relation.AT_MOST: chat_pb2.Slot.RELATION_AT_MOST,
    Relation.AT_LEAST: chat_pb2.Slot.RELATION_AT_LEAST,
}
_RELATION_OF_MESSAGE: Final = {number: relation for relation, number in _RELATIONS.items()}
_POLARITIES: Final = {
    Feeling.NEGATIVE: chat_pb2.Understanding.POLARITY_NEGATIVE,
    Feeling.NEUTRAL: chat_pb2.Understanding.POLARITY_NEUTRAL,
    Feeling.POSITIVE: chat_pb2.Understanding.POLARITY_POSITIVE,
}


@dataclass(frozen=True, slots=True)
class ChatEdge:
    """What the translation needs; `key` keeps ids of conversations from being guessed."""

    edge: Edge
    key: bytes

    @property
    def identities(self) -> Identities:
        """Who is who."""
        return self.edge.identities

    def read(
        self, message: chat_pb2.ConverseRequest, conversation_id: str, now_time: int, wall_time: int
    ) -> Ask:
        """The turn of a valid message."""
        asked = recommendation_pb2.RecommendRequest(
            placement=CHAT,
            user_id=message.user_id,
            session_id=message.session_id,
            context=message.context,
        )
        return Ask(
            conversation=hashlib.blake2b(
                conversation_id.encode(), digest_size=32, key=self.key[:64], person=b"aisle.chat"
            ).digest(),
            utterance=message.utterance,
            request=replace(self.edge.read(asked, now_time), takes_part=False),
            now_time=wall_time,
            given=read_state(message.state) if message.HasField("state") else None,
            feedback=tuple((one.item_id, KIND_OF_MESSAGE[one.kind]) for one in message.feedback),
            satisfaction=message.satisfaction,
        )

    def events(self, ask: Ask, turn: Turn, conversation_id: str) -> list[Event]:
        """What the turn says of items and of the conversation; nothing of nobody."""
        asked = ask.request
        if not asked.user and not asked.session:
            return []
        said = [(item, kind, 1.0) for item, kind in (*ask.feedback, *turn.signals)]
        if ask.satisfaction:
            said.append(("", EventKind.SATISFACTION, float(ask.satisfaction)))
        return [
            with_event_id(
                Event(
                    event_id="",
                    event_time=asked.request_time,
                    user=asked.user.hex(),
                    session=asked.session.hex(),
                    kind=kind,
                    item=item,
                    quantity=quantity,
                    placement=CHAT,
                    basket=hashlib.blake2b(conversation_id.encode(), digest_size=8).hexdigest()
                    if kind is EventKind.SATISFACTION
                    else "",
                )
            )
            for item, kind, quantity in said
        ]

    def slate(
        self, ask: Ask, turn: Turn, request_id: bytes, model_version: str, catalog: Catalog
    ) -> tuple[recommendation_pb2.RecommendResponse, Slate, Request]:
        """The cards as `Recommend` would answer them, in full view.

        The request is the one that brought them, in the language of the answer.
        """
        asked = turn.request or replace(ask.request, placement=CHAT)
        if turn.understood is not None:
            asked = replace(asked, locale=turn.understood.language)
        slate = Slate(turn.items, model_version, turn.missing, turn.degraded)
        response = self.edge.write(slate, asked, request_id)
        write_displays(response, slate, catalog, self.edge.currency)
        return response, slate, asked

    def write(
        self, turn: Turn, conversation_id: str, cards: recommendation_pb2.RecommendResponse
    ) -> chat_pb2.ConverseResponse:
        """The answer; `cards` are the turn's."""
        response = chat_pb2.ConverseResponse(
            conversation_id=conversation_id,
            cards=cards.items,
            reply_text=turn.text,
            suggested_replies=turn.suggestions,
            state=write_state(turn.dialogue),
            request_id=cards.request_id,
            attribution_token=cards.attribution_token,
            model_version=cards.model_version,
            degraded=cards.degraded,
            missing_ids=turn.missing,
        )
        if turn.understood is not None:
            response.understanding.CopyFrom(write_understanding(turn.understood, turn.stated))
        if turn.escalation is not None:
            response.escalation.reason = turn.escalation.reason
            response.escalation.summary = turn.escalation.summary
        return response


def new_conversation_id() -> str:
    """An id that nobody guesses."""
    return os.urandom(CONVERSATION_ID_BYTES).hex()


def write_understanding(understood: Understood, stated: Sequence[Wish]) -> chat_pb2.Understanding:
    """What was understood, with the wishes of the utterance itself."""
    return chat_pb2.Understanding(
        intent=understood.intent,
        intent_confidence=understood.confidence,
        slots=[slot for wish in stated for slot in _slots(wish)],
        polarity=_POLARITIES[understood.feeling],
        sentiment_strength=min(abs(understood.sentiment), 1.0),
        locale=understood.language,
    )


def write_state(dialogue: Dialogue) -> chat_pb2.ConversationState:
    """The dialogue as the caller may send it back."""
    slots = [slot for wish in reversed(dialogue.wishes) for slot in _slots(wish)]
    return chat_pb2.ConversationState(
        num_turns=dialogue.num_turns,
        slots=list(reversed(slots[:100])),
        shown_ids=dialogue.shown,
        rejected_ids=dialogue.rejected,
        asked_slot=dialogue.asked,
        num_failed_turns=dialogue.num_failed,
    )


def read_state(message: chat_pb2.ConversationState) -> Dialogue:
    """The dialogue of a message; slots with an unknown name say nothing here."""
    rows = [
        (slot.name, slot.relation, slot.text, slot.value)
        for slot in message.slots
        if slot.name in tuple(Aspect)
    ]
    return Dialogue(
        num_turns=message.num_turns,
        wishes=tuple(
            Wish(Aspect(name), _RELATION_OF_MESSAGE[relation], tuple(row[3] for row in group), text)
            for (name, relation, text), group in groupby(rows, key=lambda row: row[:3])
        ),
        shown=tuple(message.shown_ids),
        rejected=tuple(message.rejected_ids),
        asked=message.asked_slot,
        num_failed=message.num_failed_turns,
    )


def _slots(wish: Wish) -> list[chat_pb2.Slot]:
    """One slot for each of a wish's values, all with the same text."""
    return [
        chat_pb2.Slot(
            name=wish.aspect,
            relation=_RELATIONS[wish.relation],
            value=value[:1024],
            text=wish.text[:1024],
        )
        for value in wish.values
        if value
    ]
