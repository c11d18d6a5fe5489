"""ChatService over gRPC: turns, streams, states that come back, feedback that counts at once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest

from aisle.bundle.v1 import bundle_pb2
from aisle.v1 import chat_pb2, chat_pb2_grpc, event_pb2
from feature_store.event_log import EventLog
from feature_store.schema import EventKind
from online.chat.memory import PREFIX
from online.feedback.attribution import TokenSigner
from online.process.server import Parts
from online.service.chat import pieces
from online.service.chat_edge import read_state, write_state
from tests.online.chats import Swapping, with_marks
from tests.online.serving import TIMEOUT_S, Caller, refused, serving, settings_of
from tests.worlds import World

FIND = "find_product: an [even](category) thing"


@dataclass
class Chatter:
    """Talks to a served chat."""

    caller: Caller
    parts: Parts

    @property
    def stub(self) -> chat_pb2_grpc.ChatServiceStub:
        return chat_pb2_grpc.ChatServiceStub(self.caller.channel)

    def say(self, utterance: str, **fields: Any) -> chat_pb2.ConverseResponse:
        request = chat_pb2.ConverseRequest(utterance=utterance, **{"user_id": "u02", **fields})
        return self.stub.Converse(request, timeout=TIMEOUT_S)


@pytest.fixture
def chatter(world: World) -> Iterator[Chatter]:
    with serving(settings_of(world, currency="USD")) as (caller, parts):
        parts.engine.snapshot = with_marks(parts.engine.snapshot)
        yield Chatter(caller, parts)


def ids(response: chat_pb2.ConverseResponse) -> list[str]:
    return [card.item_id for card in response.cards]


def test_a_turn_has_cards_words_and_what_was_understood(chatter: Chatter) -> None:
    answer = chatter.say(FIND)
    assert len(answer.cards) == 5
    assert answer.cards[0].display.title in answer.reply_text
    assert answer.cards[0].display.price.currency_code == "USD"
    assert answer.understanding.intent == "find_product"
    assert answer.understanding.slots[0].value == "even"
    assert answer.suggested_replies
    assert answer.conversation_id
    assert answer.attribution_token
    assert list(answer.state.shown_ids) == ids(answer)


def test_a_turn_is_signed_with_the_version_that_answered(chatter: Chatter) -> None:
    engine = chatter.parts.engine
    served = engine.snapshot
    manifest = bundle_pb2.Manifest()
    manifest.CopyFrom(served.bundle.manifest)
    manifest.bundle_id = "another"
    other = replace(served, bundle=replace(served.bundle, manifest=manifest))
    engine.snapshot = replace(served, understander=Swapping(engine, other))
    answer = chatter.say(FIND)
    assert engine.snapshot.model_version == "another"
    assert answer.model_version == served.model_version
    signed = TokenSigner(chatter.parts.key).read(answer.attribution_token)
    assert signed is not None
    assert signed.model_version == served.model_version


def test_a_conversation_goes_on(chatter: Chatter) -> None:
    first = chatter.say(FIND)
    second = chatter.say("refine: under [$4](max_price)", conversation_id=first.conversation_id)
    assert second.state.num_turns == 2
    assert all(card.display.title.startswith("Even") for card in second.cards)
    anew = chatter.say("refine: under [$4](max_price)")
    assert anew.conversation_id != first.conversation_id
    assert anew.state.num_turns == 1


def test_a_state_comes_back_as_it_went(chatter: Chatter) -> None:
    first = chatter.say(f"{FIND} under [$9](max_price), no [aisle 2](without)")
    assert write_state(read_state(first.state)) == first.state
    elsewhere = chatter.say("refine: [cheaper](cheaper)", state=first.state)
    assert elsewhere.state.num_turns == 2
    assert all(card.display.title.startswith("Even") for card in elsewhere.cards)


def test_the_largest_numbers_do_no_harm(chatter: Chatter) -> None:
    state = chat_pb2.ConversationState(num_turns=2**31 - 1, num_failed_turns=2**31 - 1)
    answer = chatter.say("deals: any coupons?", state=state)
    assert answer.reply_text
    assert answer.escalation.reason == "repeated_failure"
    assert answer.state.num_failed_turns == 10_001


def test_a_stream_is_the_answer_in_parts(chatter: Chatter) -> None:
    turn = chat_pb2.ConverseRequest(utterance=FIND, user_id="u02")
    request = chat_pb2.StreamConverseRequest(turn=turn)
    parts = list(chatter.stub.StreamConverse(request, timeout=TIMEOUT_S))
    kinds = [part.WhichOneof("part") for part in parts]
    assert kinds[:2] == ["understanding", "cards"]
    assert kinds[-1] == "answer"
    text = "".join(part.reply_text_piece for part in parts)
    assert text == parts[-1].answer.reply_text
    assert pieces("One. Two! 三。四？") == ["One. ", "Two! ", "三。", "四？"]


def test_buttons_words_and_marks_become_events(chatter: Chatter) -> None:
    first = chatter.say(FIND)
    disliked, rejected = ids(first)[:2]
    button = chat_pb2.CardFeedback(item_id=disliked, kind=event_pb2.EVENT_KIND_NOT_INTERESTED)
    noted = chatter.say(
        "", conversation_id=first.conversation_id, feedback=[button], satisfaction=4
    )
    assert noted.reply_text
    chatter.say("not_this: not [the second one](ordinal)", conversation_id=first.conversation_id)
    anew = chatter.say(FIND)
    assert not {disliked, rejected} & set(ids(anew)), "it counts in the very next answer"
    logged = [row.event for row in logged_events(chatter.parts)]
    kinds = [(event.kind, event.item, event.quantity) for event in logged]
    assert (EventKind.SATISFACTION, "", 4.0) in kinds
    assert (EventKind.NOT_INTERESTED, disliked, 1.0) in kinds
    assert (EventKind.NOT_INTERESTED, rejected, 1.0) in kinds


def logged_events(parts: Parts) -> list[Any]:
    log = parts.eraser.own_log
    assert isinstance(log, EventLog)
    return list(log.read())


def test_who_is_erased_leaves_no_conversation(chatter: Chatter) -> None:
    chatter.say(FIND)
    chatter.say(FIND, user_id="u04")
    assert len(list(chatter.parts.store.scan(PREFIX))) == 2
    chatter.caller.erase(user_id="u02")
    assert len(list(chatter.parts.store.scan(PREFIX))) == 1


def test_an_empty_turn_is_refused(chatter: Chatter) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        chatter.say("")


def test_a_bundle_without_language_says_so(read_only_server: Caller) -> None:
    stub = chat_pb2_grpc.ChatServiceStub(read_only_server.channel)
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        stub.Converse(chat_pb2.ConverseRequest(utterance="milk"), timeout=TIMEOUT_S)


def test_the_id_of_a_conversation_is_kept_nowhere(chatter: Chatter) -> None:
    chatter.say(FIND, conversation_id="secret-conversation")
    keys = [key for key, _ in chatter.parts.store.scan(b"")]
    assert not any(b"secret-conversation" in key for key in keys)
