"""How a call is refused: a status with details that a program can act on (AIP-193).

Every refusal carries an ErrorInfo; a bad request names its fields, and what may work later
says when. It knows the errors of the packages below and nothing of any method.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from feature_store.errors import CatalogLogError, EventLogError, LedgerError, StoreError
from online.errors import OnlineError, OverloadedError, RequestError, UnbuiltError

logger = logging.getLogger(__name__)

DOMAIN: Final = "aisle"
DETAILS_KEY: Final = "grpc-status-details-bin"
RETRY_DELAY_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of a message and what is wrong with it."""

    field: str
    description: str


class RefusedError(OnlineError):
    """A call that gets a status instead of an answer."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, message: str, *details: Message, **metadata: str
    ) -> None:
        """`reason` is a stable code in capitals, `metadata` its parameters."""
        super().__init__(message)
        info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
        self.code = code
        self.message = message
        self.details = (info, *details)

    async def abort(self, context: "grpc.aio.ServicerContext[Any, Any]") -> NoReturn:
        """End the call with this status."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        metadata = ((DETAILS_KEY, status.SerializeToString()),)
        await context.abort(self.code, self.message, metadata)


def refusal_of(error: Exception) -> RefusedError:
    """What a caller is told of an error; what is not theirs to know is logged only."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, UnbuiltError):
        return unbuilt(str(error), field=error.field)
    if isinstance(error, RequestError):
        return bad_request((Violation(error.field, error.description),))
    if isinstance(error, OverloadedError):
        return overloaded(str(error))
    if isinstance(error, (StoreError, LedgerError, EventLogError, CatalogLogError)):
        logger.error("a call fails: %s", error)
        message = "what the server keeps cannot be reached now; sending it again is safe"
        return _later(grpc.StatusCode.UNAVAILABLE, "KEPT_STATE_UNAVAILABLE", message)
    logger.error("a call fails", exc_info=error)
    return RefusedError(grpc.StatusCode.INTERNAL, "INTERNAL", "the server failed; its log says why")


def bad_request(violations: Iterable[Violation]) -> RefusedError:
    """INVALID_ARGUMENT with the fields."""
    found = tuple(violations)
    message = "; ".join(f"{one.field or 'request'}: {one.description}" for one in found)
    detail = error_details_pb2.BadRequest(field_violations=map(field_violation, found))
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST", message, detail)


def field_violation(violation: Violation) -> error_details_pb2.BadRequest.FieldViolation:
    """A violation as a message."""
    return error_details_pb2.BadRequest.FieldViolation(
        field=violation.field, description=violation.description
    )


def unbuilt(message: str, **metadata: str) -> RefusedError:
    """UNIMPLEMENTED, for a part of the contract that this server does not have."""
    return RefusedError(grpc.StatusCode.UNIMPLEMENTED, "NOT_BUILT", message, **metadata)


def overloaded(why: str) -> RefusedError:
    """RESOURCE_EXHAUSTED with the time after which to try again."""
    message = f"{why}; try again in {RETRY_DELAY_MS} ms"
    return _later(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", message)


def stopping() -> RefusedError:
    """UNAVAILABLE: the call was not begun."""
    message = "this server is stopping; send it again, to another one"
    return _later(grpc.StatusCode.UNAVAILABLE, "STOPPING", message)


def _later(code: grpc.StatusCode, reason: str, message: str) -> RefusedError:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(RETRY_DELAY_MS)
    return RefusedError(code, reason, message, retry)
