"""EventService: what users did."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc

from aisle.v1 import event_pb2, event_pb2_grpc
from feature_store.event_log import Outcome
from online.feedback.intake import Feedback
from online.service.event_edge import ERASED_VIOLATION, EventEdge, ReadEvent
from online.service.refusals import field_violation

EVENTS_PER_TURN: Final = 50
"""How many events are checked before other calls get their turn, a millisecond or two."""

_STATUSES: Final = {
    Outcome.ACCEPTED: event_pb2.EventOutcome.STATUS_ACCEPTED,
    Outcome.DUPLICATE: event_pb2.EventOutcome.STATUS_DUPLICATE,
}


class EventService(event_pb2_grpc.EventServiceServicer):
    """Acknowledges events once they are durable and in the next answer."""

    def __init__(
        self,
        feedback: Feedback,
        edge: EventEdge,
        read_clock: Callable[[], int],
        read_wall_clock: Callable[[], int],
    ) -> None:
        """`read_clock` is the clock of the answers, which may stand still in the past."""
        self._feedback = feedback
        self._edge = edge
        self._read_clock = read_clock
        self._read_wall_clock = read_wall_clock

    async def WriteEvents(  # noqa: N802  # the contract's name
        self,
        request: event_pb2.WriteEventsRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> event_pb2.WriteEventsResponse:
        """See the contract."""
        return event_pb2.WriteEventsResponse(outcomes=await self._write(request.events))

    async def StreamEvents(  # noqa: N802  # the contract's name
        self,
        request_iterator: AsyncIterator[event_pb2.StreamEventsRequest],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> AsyncIterator[event_pb2.StreamEventsResponse]:
        """See the contract."""
        async for request in request_iterator:
            yield event_pb2.StreamEventsResponse(outcomes=await self._write(request.events))

    async def _write(self, messages: Sequence[event_pb2.Event]) -> list[event_pb2.EventOutcome]:
        now_time, wall_time = self._read_clock(), self._read_wall_clock()
        latest_time = max(now_time, wall_time)
        users = dict.fromkeys(message.user_id for message in messages)
        await self._edge.identities.follow(*users, now_time=wall_time)
        events = []
        for position, message in enumerate(messages, start=1):
            events.append(self._edge.read(message, now_time, latest_time))
            if not position % EVENTS_PER_TURN:
                await asyncio.sleep(0)  # let other calls have their turn
        taken = [one.event for one in events if not one.violations]
        refused = [
            (one.event, one.reason) for one in events if one.violations and not one.is_erased
        ]
        written = self._feedback.write(taken, refused, wall_time)
        outcomes: list[Outcome] = await asyncio.wrap_future(written)
        left = iter(outcomes)
        return [_rejected(one) if one.violations else _taken(one, next(left)) for one in events]


def _taken(read: ReadEvent, outcome: Outcome) -> event_pb2.EventOutcome:
    if outcome is Outcome.ERASED:
        return _rejected(ReadEvent(read.event, (ERASED_VIOLATION,), is_erased=True))
    return event_pb2.EventOutcome(event_id=read.event.event_id, status=_STATUSES[outcome])


def _rejected(read: ReadEvent) -> event_pb2.EventOutcome:
    return event_pb2.EventOutcome(
        event_id=read.event.event_id,
        status=event_pb2.EventOutcome.STATUS_REJECTED,
        violations=map(field_violation, read.violations),
    )
