"""Talks to a server's chat as an app would, and prints what the app would show.

For people: the terminal and the demo. It measures the whole call, and knows nothing of what is
behind it.
"""

from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Final, Self

import grpc
from rich.console import Console
from rich.markup import escape

from aisle.v1 import chat_pb2, chat_pb2_grpc, corpus_pb2, slate_pb2
from online.client import CHANNEL_OPTIONS, TIMEOUT_S, price_text
from online.errors import ClientError

GOODBYES: Final = frozenset({"", "quit", "exit", "bye", "再见", "退出"})
_SIGNS: Final = {
    corpus_pb2.CORPUS_PRODUCT: "•",
    corpus_pb2.CORPUS_CONTENT: "¶",
    corpus_pb2.CORPUS_COUPON: "%",
}


_RELATIONS: Final = {
    chat_pb2.Slot.RELATION_IS_NOT: "not ",
    chat_pb2.Slot.RELATION_AT_MOST: "at most ",
    chat_pb2.Slot.RELATION_AT_LEAST: "at least ",
}


@dataclass(slots=True)
class Talker:
    """One conversation with the chat at an address. Use it as a context manager."""

    address: str
    user: str = ""
    locale: str = ""
    conversation_id: str = ""
    _channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        """Connect when first used."""
        self._channel = grpc.insecure_channel(self.address, CHANNEL_OPTIONS)

    def __enter__(self) -> Self:
        """The talker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._channel.close()

    def say(self, utterance: str) -> tuple[chat_pb2.ConverseResponse, float]:
        """The answer to an utterance, and milliseconds of the whole call.

        Raises ClientError when no server answers or it refuses the turn.
        """
        request = chat_pb2.ConverseRequest(
            conversation_id=self.conversation_id, user_id=self.user, utterance=utterance
        )
        request.context.locale = self.locale
        started_s = perf_counter()
        try:
            answer = chat_pb2_grpc.ChatServiceStub(self._channel).Converse(
                request, timeout=TIMEOUT_S
            )
        except grpc.RpcError as error:
            why = f"the chat at {self.address} does not answer: {_told(error)}"
            raise ClientError(why) from error
        self.conversation_id = answer.conversation_id
        return answer, 1000 * (perf_counter() - started_s)


def _told(error: grpc.RpcError) -> str:
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else str(error)


def converse(talker: Talker, console: Console) -> None:
    """Read what somebody types, line by line, and print the answers, until they say goodbye."""
    console.print("Say something in English or Chinese; an empty line ends it.", style="dim")
    while True:
        try:
            utterance = console.input("[bold]you[/bold]   ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if utterance.lower() in GOODBYES:
            return
        print_answer(*talker.say(utterance), console)


def print_answer(answer: chat_pb2.ConverseResponse, elapsed_ms: float, console: Console) -> None:
    """What an app would show of an answer, and below it what was understood."""
    console.print(f"[bold]aisle[/bold] {escape(answer.reply_text)}")
    for card in answer.cards:
        console.print(f"      {_SIGNS[card.corpus]} {escape(card_text(card))}")
    if answer.HasField("escalation"):
        console.print(f"      → a person is called: {answer.escalation.reason}", style="yellow")
    if answer.suggested_replies:
        console.print(f"      [dim]{escape(' · '.join(answer.suggested_replies))}[/dim]")
    console.print(f"      [dim]{escape(understood_text(answer))}, {elapsed_ms:.1f} ms[/dim]")


def card_text(card: slate_pb2.RecommendedItem) -> str:
    """A card in one line: title, price, and why it is there."""
    parts = (card.display.title or card.item_id, price_text(card.display), card.reason.text)
    return "   ".join(part for part in parts if part)


def understood_text(answer: chat_pb2.ConverseResponse) -> str:
    """What was understood, in one line."""
    understood = answer.understanding
    slots = ", ".join(
        dict.fromkeys(
            f"{slot.name} {_RELATIONS.get(slot.relation, '')}{slot.text}"
            for slot in understood.slots
        )
    )
    return (
        f"{understood.intent} ({understood.intent_confidence:.2f}){f': {slots}' if slots else ''}"
    )
