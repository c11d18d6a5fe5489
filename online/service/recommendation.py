"""RecommendationService: what to show."""

import os
from asyncio import to_thread
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import grpc

from aisle.v1 import recommendation_pb2, recommendation_pb2_grpc, slate_pb2
from online.engine import Engine
from online.feedback.attribution import REQUEST_ID_BYTES
from online.feedback.showing import Showing
from online.process.watchdog import Watchdog
from online.service.displays import write_displays
from online.service.edge import Edge
from online.service.explain_edge import write_explanation

SENDING_SHARE: Final = 0.1
"""What is kept of a request's time for composing and sending the answer."""


class RecommendationService(recommendation_pb2_grpc.RecommendationServiceServicer):
    """Answers from the engine's current snapshot, within the caller's deadline and ours."""

    def __init__(
        self,
        engine: Engine,
        watchdog: Watchdog,
        edge: Edge,
        read_clock: Callable[[], int],
        max_seconds: float,
        showing: Showing,
    ) -> None:
        """`read_clock` gives the instant that requests are answered for, microseconds UTC."""
        self._showing = showing
        self._engine = engine
        self._watchdog = watchdog
        self._edge = edge
        self._read_clock = read_clock
        self._max_seconds = max_seconds

    async def Recommend(  # noqa: N802  # the contract's name
        self,
        request: recommendation_pb2.RecommendRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> recommendation_pb2.RecommendResponse:
        """See the contract."""
        now_time = self._read_clock()
        await self._edge.identities.follow(request.user_id, now_time=now_time)
        asked = self._edge.read(request, now_time)
        if request.validate_only:
            await to_thread(self._engine.check, asked)
            return recommendation_pb2.RecommendResponse()
        slate = await self._watchdog.recommend(asked, self._budget_s(context))
        response = self._edge.write(slate, asked, os.urandom(REQUEST_ID_BYTES))
        if request.view == slate_pb2.ITEM_VIEW_FULL:
            catalog = self._engine.latest.catalog
            write_displays(response, slate, catalog, self._edge.currency)
        row = self._engine.latest.placements[asked.placement]
        self._showing.note(self._edge.exposure(slate, asked, response), tires=row.tires)
        return response

    async def Explain(  # noqa: N802  # the contract's name
        self,
        request: recommendation_pb2.ExplainRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> recommendation_pb2.ExplainResponse:
        """See the contract. It runs beside the pipeline's thread: nobody's slate waits for it."""
        now_time = self._read_clock()
        await self._edge.identities.follow(request.recommend.user_id, now_time=now_time)
        asked = self._edge.read(request.recommend, now_time)
        deadline_s = perf_counter() + self._budget_s(context)
        explained = await to_thread(self._engine.explain, asked, request.item_id, deadline_s)
        return write_explanation(explained, asked.locale)

    def _budget_s(self, context: "grpc.aio.ServicerContext[Any, Any]") -> float:
        """How long the engine may take."""
        client_s = context.time_remaining() or self._max_seconds  # None without a deadline
        return (1 - SENDING_SHARE) * min(client_s, self._max_seconds)
