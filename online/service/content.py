"""ContentService: the piece that answers a question, or none."""

import os
from asyncio import to_thread
from collections.abc import Callable
from typing import Any, Final

import grpc

from aisle.v1 import content_pb2, content_pb2_grpc
from feature_store.events import Exposure
from feature_store.schema import Corpus
from online.content.search import Answer
from online.engine import Engine
from online.explain import reasons
from online.feedback.attribution import REQUEST_ID_BYTES, Attribution
from online.feedback.showing import Showing
from online.service.displays import write_content, write_head
from online.service.edge import CAUSES, Edge
from online.types import Cause, ContentDetail, Degraded

PLACEMENT: Final = "content_search"
"""What exposures and tokens of answers say where they were shown."""

DEFAULT_MATCHES: Final = 3
MAX_MATCHES: Final = 20
NO_CONTENT: Final = Answer((), (Degraded("content", Cause.UNAVAILABLE),))


class ContentService(content_pb2_grpc.ContentServiceServicer):
    """Searches the content of the engine's current snapshot, beside the pipeline's thread."""

    def __init__(
        self, engine: Engine, edge: Edge, read_clock: Callable[[], int], showing: Showing
    ) -> None:
        """`read_clock` gives the instant that questions are answered for, microseconds UTC."""
        self._engine = engine
        self._edge = edge
        self._read_clock = read_clock
        self._showing = showing

    async def SearchContent(  # noqa: N802  # the contract's name
        self,
        request: content_pb2.SearchContentRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> content_pb2.SearchContentResponse:
        """See the contract."""
        now_time = self._read_clock()
        await self._edge.identities.follow(request.user_id, now_time=now_time)
        answer, model_version = await to_thread(self._search, request, now_time)
        request_id = os.urandom(REQUEST_ID_BYTES)
        attribution = Attribution(request_id, PLACEMENT, model_version)
        response = write_answer(answer)
        response.request_id = request_id.hex()
        response.attribution_token = self._edge.tokens.sign(attribution)
        response.model_version = model_version
        if answer.matches:
            self._showing.note(self._exposure(request, response, now_time), tires=False)
        return response

    def _search(
        self, request: content_pb2.SearchContentRequest, now_time: int
    ) -> tuple[Answer, str]:
        """The answer, and the version that gave it; on a thread, as it may wait for changes."""
        snapshot = self._engine.snapshot
        if snapshot.search is None:
            return NO_CONTENT, snapshot.model_version
        num = min(request.page_size or DEFAULT_MATCHES, MAX_MATCHES)
        kinds, wanted = tuple(request.kinds), languages(request)
        answer = snapshot.search.search(request.query, now_time, num, kinds, wanted)
        return answer, snapshot.model_version

    def _exposure(
        self,
        request: content_pb2.SearchContentRequest,
        response: content_pb2.SearchContentResponse,
        now_time: int,
    ) -> Exposure:
        """What the answer shows, as it is kept."""
        shown = len(response.matches)
        digest = self._edge.identities.digest
        return Exposure(
            attribution_token=response.attribution_token,
            request_time=now_time,
            user=digest(request.user_id).hex() if request.user_id else "",
            session=digest(request.session_id).hex() if request.session_id else "",
            placement=PLACEMENT,
            items=tuple(match.item_id for match in response.matches),
            corpora=(Corpus.CONTENT,) * shown,
            propensities=(1.0,) * shown,
            model_version=response.model_version,
            arm="",
        )


def languages(request: content_pb2.SearchContentRequest) -> tuple[str, ...]:
    """The languages asked for, best first; none: that of the question."""
    wanted = (request.context.locale, *request.context.fallback_locales)
    return tuple(dict.fromkeys(reasons.language(one) for one in wanted if one))


def write_answer(answer: Answer) -> content_pb2.SearchContentResponse:
    """The matches, best first, and what was left out."""
    response = content_pb2.SearchContentResponse()
    for match in answer.matches:
        message = response.matches.add(
            item_id=match.item, passage=match.passage, confidence=match.confidence
        )
        write_head(message.display, match.card)
        if isinstance(match.card.detail, ContentDetail):
            write_content(message.content, match.card.detail)
    for left_out in answer.degraded:
        response.degraded.add(stage=left_out.stage, cause=CAUSES[left_out.cause])
    return response
