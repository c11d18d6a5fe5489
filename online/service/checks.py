"""What every call passes before its method: room for it, a valid message, and after it: errors.

One interceptor, which wraps each method once and then costs a dictionary's look-up. Health
checks and reflection pass untouched, so that a busy server is not taken for a dead one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import isasyncgenfunction, iscoroutinefunction
from time import perf_counter
from typing import Any, Final, TypeAlias, cast

import grpc
import protovalidate
from google.protobuf.message import Message

from online.metrics import REQUEST_SECONDS, REQUESTS, Metrics
from online.placements import PLACEMENTS
from online.service.refusals import (
    Violation,
    bad_request,
    overloaded,
    refusal_of,
    stopping,
    unbuilt,
)

OURS: Final = "/aisle.v1."
OK: Final = grpc.StatusCode.OK.name
CANCELLED: Final = grpc.StatusCode.CANCELLED.name
DEFAULT_LIMIT: Final = 16
QUIET_S: Final = 0.2
MAX_WAITS: Final = 5

_validator: Final = protovalidate.Validator()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Method: TypeAlias = Callable[[Any, Context], Any]


def violations_of(message: Message) -> list[Violation]:
    """Every rule of the contract that a message breaks."""
    return [
        Violation(_path(found.proto), found.proto.message or found.proto.rule_id)
        for found in _validator.collect_violations(message)
    ]


def _path(violation: Any) -> str:
    """The field's path as it is written in code: `context.item_ids[0]`."""
    elements = violation.field.elements if violation.field is not None else ()
    return ".".join(
        f"{element.field_name}[{element.subscript.value}]"
        if element.subscript is not None
        else element.field_name
        for element in elements
    )


@dataclass(slots=True)
class _Door:
    """Whether new calls are let in, and how many came in vain."""

    is_closed: bool = False
    num_refused: int = 0


@dataclass(slots=True)
class _Slots:
    """How many calls of a method there may be at a time."""

    method: str
    limit: int
    door: _Door
    metrics: Metrics
    num_taken: int = 0

    def __enter__(self) -> None:
        if self.door.is_closed:
            self.door.num_refused += 1
            raise stopping()
        if self.num_taken >= self.limit:
            raise overloaded(f"too many calls of {self.method} at a time")
        self.num_taken += 1

    def __exit__(self, *error: object) -> None:
        self.num_taken -= 1

    def done(self, request: object, code: str, started_s: float) -> None:
        """Count a call that has ended; a placement that nobody built has no name of its own."""
        placement = getattr(request, "placement", "")
        if placement and placement not in PLACEMENTS:
            placement = "unknown"
        name = self.method.rpartition("/")[2]
        self.metrics.count(REQUESTS, name, placement, code)
        self.metrics.observe(perf_counter() - started_s, REQUEST_SECONDS, name, placement)


class Checks(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """The interceptor. `limits` maps methods, as in `/aisle.v1.EventService/WriteEvents`."""

    def __init__(self, limits: Mapping[str, int], metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._handlers: dict[str, Handler] = {}
        self._door = _Door()

    async def close(self) -> None:
        """Refuse new calls, and wait a moment until those on their way have been told so.

        A call that reaches gRPC while it shuts down is broken off as if it had been begun;
        one that is refused may be sent again elsewhere.
        """
        self._door.is_closed = True
        for _ in range(MAX_WAITS):
            num_refused = self._door.num_refused
            await asyncio.sleep(QUIET_S)
            if self._door.num_refused == num_refused:
                return

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler, wrapped when it is one of ours."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            handler = await continuation(handler_call_details)
            if handler and method.startswith(OURS):
                limit = self._limits.get(method, DEFAULT_LIMIT)
                slots = _Slots(method, limit, self._door, self._metrics)
                handler = self._handlers[method] = _checked(handler, slots)
        return handler


def _checked(handler: Any, slots: _Slots) -> Handler:
    """The handler with its method wrapped."""
    for kind, make in _KINDS.items():
        if (method := getattr(handler, kind)) is not None:
            coders = (handler.request_deserializer, handler.response_serializer)
            return cast(Handler, make(_wrapped(method, slots), *coders))
    raise TypeError(f"{slots.method} is no method")


_KINDS: Final[Mapping[str, Callable[..., object]]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


def _wrapped(method: Method, slots: _Slots) -> Method:
    if iscoroutinefunction(method):
        return _answering(method, slots)
    if isasyncgenfunction(method):
        return _streaming(method, slots)
    return _unbuilt(slots.method)  # the generated base classes have neither


def _unbuilt(name: str) -> Method:
    async def refuse(_request: Any, context: Context) -> None:
        await unbuilt(f"{name} is not built yet").abort(context)

    return refuse


def _answering(method: Method, slots: _Slots) -> Method:
    """A method that gives one answer."""

    async def checked(request: Any, context: Context) -> Any:
        started_s, code = perf_counter(), CANCELLED
        try:
            with slots:
                answer = await method(_valid(request), context)
            code = OK
            return answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            refusal = refusal_of(error)
            code = refusal.code.name
            await refusal.abort(context)
        finally:
            slots.done(request, code, started_s)

    return checked


def _streaming(method: Method, slots: _Slots) -> Method:
    """A method that gives a stream of answers."""

    async def checked(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            with slots:
                async for answer in method(_valid(request), context):
                    yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await refusal_of(error).abort(context)

    return checked


def _valid(request: Any) -> Any:
    """The request, or the stream of requests that are checked as they come."""
    if not isinstance(request, Message):
        return _each_valid(request)
    if violations := violations_of(request):
        raise bad_request(violations)
    return request


async def _each_valid(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        yield _valid(request)
