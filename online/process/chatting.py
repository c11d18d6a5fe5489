"""The chat of one serving process, put together from what the process has opened.

It knows how the parts of the chat fit together and none from inside.
"""

from collections.abc import Callable
from typing import Final

import grpc

from aisle.v1 import chat_pb2_grpc
from feature_store.store import OnlineStore
from online.chat.conversing import Chat
from online.chat.memory import Memory
from online.engine import Engine
from online.feedback.intake import Feedback
from online.feedback.showing import Showing
from online.service.chat import ChatService
from online.service.chat_edge import ChatEdge
from online.service.edge import Edge
from online.settings import Settings

MAX_TURN_S: Final = 5.0
"""The longest time of a turn, whatever the client allows."""


def add_chat(
    server: grpc.aio.Server,
    settings: Settings,
    engine: Engine,
    store: OnlineStore,
    edge: Edge,
    key: bytes,
    feedback: Feedback,
    showing: Showing,
    clocks: tuple[Callable[[], int], Callable[[], int]],
) -> None:
    """Have the server answer ChatService; `clocks` are that of the answers and that of the wall."""
    goodwill = tuple(one for one in settings.chat_goodwill.split(",") if one)
    topics = settings.chat_topics.split(",")
    chat = Chat(engine, Memory(store), settings.currency, topics, goodwill)
    service = ChatService(chat, ChatEdge(edge, key), feedback, showing, *clocks, MAX_TURN_S)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(service, server)
