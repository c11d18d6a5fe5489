"""ChatService: a conversation in, cards and words out."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import grpc

from aisle.v1 import chat_pb2, chat_pb2_grpc
from online.chat.conversing import Chat
from online.chat.turn import Ask, Turn
from online.feedback.attribution import REQUEST_ID_BYTES
from online.feedback.intake import Feedback
from online.feedback.showing import Showing
from online.service.chat_edge import ChatEdge, new_conversation_id, write_understanding
from online.snapshot import Snapshot

SENDING_SHARE: Final = 0.1
"""What is kept of a turn's time for composing and sending the answer."""

_PIECE: Final = re.compile(r"[^.!?。！？]*(?:[.!?。！？]+[\"”’)）]*\s*|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Answered:
    """A turn and its answer."""

    turn: Turn
    response: chat_pb2.ConverseResponse


class ChatService(chat_pb2_grpc.ChatServiceServicer):
    """Answers turns one after the other on a thread of its own, beside the event loop."""

    def __init__(
        self,
        chat: Chat,
        edge: ChatEdge,
        feedback: Feedback,
        showing: Showing,
        read_clock: Callable[[], int],
        read_wall_clock: Callable[[], int],
        max_seconds: float,
    ) -> None:
        """`read_clock` is the clock of the answers, `read_wall_clock` that of expiry."""
        self._chat = chat
        self._edge = edge
        self._feedback = feedback
        self._showing = showing
        self._read_clock = read_clock
        self._read_wall_clock = read_wall_clock
        self._max_seconds = max_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chat")

    async def Converse(  # noqa: N802  # the contract's name
        self,
        request: chat_pb2.ConverseRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> chat_pb2.ConverseResponse:
        """See the contract."""
        return (await self._answer(request, context)).response

    async def StreamConverse(  # noqa: N802  # the contract's name
        self,
        request: chat_pb2.StreamConverseRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> AsyncIterator[chat_pb2.StreamConverseResponse]:
        """See the contract."""
        answered = await self._answer(request.turn, context)
        response, understood = answered.response, answered.turn.understood
        if understood is not None:
            understanding = write_understanding(understood, answered.turn.stated)
            yield chat_pb2.StreamConverseResponse(understanding=understanding)
        cards = chat_pb2.StreamConverseResponse.Cards(cards=response.cards)
        yield chat_pb2.StreamConverseResponse(cards=cards)
        for piece in pieces(response.reply_text):
            yield chat_pb2.StreamConverseResponse(reply_text_piece=piece)
        yield chat_pb2.StreamConverseResponse(answer=response)

    async def _answer(
        self,
        request: chat_pb2.ConverseRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> _Answered:
        """Answer, keep what the turn says, and note what it shows."""
        now_time, wall_time = self._read_clock(), self._read_wall_clock()
        await self._edge.identities.follow(request.user_id, now_time=wall_time)
        conversation_id = request.conversation_id or new_conversation_id()
        ask = self._edge.read(request, conversation_id, now_time, wall_time)
        deadline_s = perf_counter() + self._budget_s(context)
        loop = asyncio.get_running_loop()
        turn, snapshot = await loop.run_in_executor(self._thread, self._converse, ask, deadline_s)
        if events := self._edge.events(ask, turn, conversation_id):
            await asyncio.wrap_future(self._feedback.write(events, (), wall_time))
        return _Answered(turn, self._respond(ask, turn, snapshot, conversation_id))

    def _converse(self, ask: Ask, deadline_s: float) -> tuple[Turn, Snapshot]:
        """A turn, and the snapshot that all of it comes from; on the chat's thread."""
        snapshot = self._chat.engine.snapshot
        return self._chat.converse(ask, deadline_s, snapshot), snapshot

    def _respond(
        self, ask: Ask, turn: Turn, snapshot: Snapshot, conversation_id: str
    ) -> chat_pb2.ConverseResponse:
        cards, slate, asked = self._edge.slate(
            ask, turn, os.urandom(REQUEST_ID_BYTES), snapshot.model_version, snapshot.catalog
        )
        if slate.items and turn.request is not None:
            # The conversation itself knows what it has shown: nobody need tire of it.
            self._showing.note(self._edge.edge.exposure(slate, asked, cards), tires=False)
        return self._edge.write(turn, conversation_id, cards)

    def _budget_s(self, context: "grpc.aio.ServicerContext[Any, Any]") -> float:
        client_s = context.time_remaining() or self._max_seconds  # None without a deadline
        return (1 - SENDING_SHARE) * min(client_s, self._max_seconds)


def pieces(text: str) -> list[str]:
    """A text in sentences, which together are the text."""
    return [found[0] for found in _PIECE.finditer(text) if found[0]]
