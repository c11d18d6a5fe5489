"""UserService: who becomes whom, and who is forgotten."""

import asyncio
from asyncio import to_thread
from collections.abc import Callable
from typing import Any, Final

import grpc

from aisle.v1 import user_pb2, user_pb2_grpc
from feature_store import audit
from feature_store.audit import Audit
from feature_store.events import Merge, Source
from feature_store.ledger import Ledger
from online.errors import MergedElsewhereError
from online.feedback.erasing import Eraser, Subject
from online.feedback.identities import Identities
from online.feedback.intake import Feedback
from online.known import user_name, visit_name
from online.service.refusals import RefusedError, Violation, bad_request

_STATES: Final = {
    audit.ERASED: user_pb2.EraseUserResponse.Place.STATE_ERASED,
    audit.SCHEDULED: user_pb2.EraseUserResponse.Place.STATE_SCHEDULED,
}


class UserService(user_pb2_grpc.UserServiceServicer):
    """Answers once what it did is durable and in force for the very next answer."""

    def __init__(
        self,
        feedback: Feedback,
        eraser: Eraser,
        identities: Identities,
        ledger: Ledger,
        read_wall_clock: Callable[[], int],
    ) -> None:
        """`read_wall_clock` gives the time now, microseconds UTC."""
        self._feedback = feedback
        self._eraser = eraser
        self._identities = identities
        self._ledger = ledger
        self._read_wall_clock = read_wall_clock

    async def MergeUsers(  # noqa: N802  # the contract's name
        self,
        request: user_pb2.MergeUsersRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> user_pb2.MergeUsersResponse:
        """See the contract."""
        users = (request.source_user_id, request.target_user_id)
        now_time = self._read_wall_clock()
        await self._identities.follow(*users, now_time=now_time)
        merge = self._merge(request, now_time)
        try:
            merged = await asyncio.wrap_future(self._feedback.merge(merge))
        except MergedElsewhereError as error:
            raise _impossible("MERGED_ELSEWHERE", str(error)) from None
        await to_thread(self._move_claims, merge)
        response = user_pb2.MergeUsersResponse(
            num_events=merged.num_events, already_merged=merged.was_merged
        )
        response.merge_time.FromMicroseconds(merged.merge_time)
        return response

    async def EraseUser(  # noqa: N802  # the contract's name
        self,
        request: user_pb2.EraseUserRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> user_pb2.EraseUserResponse:
        """See the contract."""
        raw = request.user_id or request.session_id
        subject = Subject(bool(request.user_id), raw, self._identities.pseudonyms(raw))
        now_time = self._read_wall_clock()
        erased = self._feedback.run(lambda: self._eraser.erase(subject, now_time))
        return _response(await asyncio.wrap_future(erased))

    def _move_claims(self, merge: Merge) -> None:
        """What the source has claimed is the target's, and counts against their caps."""
        source, target = bytes.fromhex(merge.source), bytes.fromhex(merge.target)
        name = user_name(source) if merge.kind == Source.USER else visit_name(source)
        self._ledger.move(name, user_name(target))

    def _merge(self, request: user_pb2.MergeUsersRequest, now_time: int) -> Merge:
        source = request.source_user_id or request.source_session_id
        if request.source_user_id == request.target_user_id:
            raise bad_request((Violation("source_user_id", "is the target; name another"),))
        if any(map(self._identities.is_erased, (source, request.target_user_id))):
            raise _impossible("ERASED", "source or target was erased and stays out")
        return Merge(
            kind=Source.USER if request.source_user_id else Source.SESSION,
            source=self._identities.hexdigest(source),
            target=self._identities.hexdigest(request.target_user_id),
            merge_time=now_time,
        )


def _impossible(reason: str, message: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.FAILED_PRECONDITION, reason, message)


def _response(record: Audit) -> user_pb2.EraseUserResponse:
    response = user_pb2.EraseUserResponse(audit_id=record.audit_id)
    response.erase_time.FromMicroseconds(record.erase_time)
    for name, place in record.places.items():
        response.places.add(name=name, num_records=place.num_records, state=_STATES[place.state])
    return response
