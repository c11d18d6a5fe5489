"""CatalogService: what can be recommended, changed between two trainings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc

from aisle.v1 import catalog_pb2, catalog_pb2_grpc
from feature_store.catalog_log import Change, Outcome
from online.delta.intake import CatalogIntake
from online.service.catalog_edge import CatalogEdge, ReadItem, masked_fields
from online.service.refusals import Violation, field_violation

ITEMS_PER_TURN: Final = 50
"""How many items are checked before other calls get their turn, a millisecond or two."""

_STATUSES: Final = {
    Outcome.CREATED: catalog_pb2.ItemOutcome.STATUS_CREATED,
    Outcome.UPDATED: catalog_pb2.ItemOutcome.STATUS_UPDATED,
}
_UNTITLED: Final = Violation(
    "product.title", "there is no such product, and a new one needs a title: send it whole"
)


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Acknowledges changes once they are durable and in the next answer, on every worker."""

    def __init__(
        self, intake: CatalogIntake, edge: CatalogEdge, read_clock: Callable[[], int]
    ) -> None:
        """`read_clock` is the clock of the answers, microseconds UTC."""
        self._intake = intake
        self._edge = edge
        self._read_clock = read_clock

    async def UpsertItems(  # noqa: N802  # the contract's name
        self,
        request_iterator: AsyncIterator[catalog_pb2.UpsertItemsRequest],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> AsyncIterator[catalog_pb2.UpsertItemsResponse]:
        """See the contract."""
        async for request in request_iterator:
            yield catalog_pb2.UpsertItemsResponse(outcomes=await self._upsert(request))

    async def DeleteItems(  # noqa: N802  # the contract's name
        self,
        request: catalog_pb2.DeleteItemsRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> catalog_pb2.DeleteItemsResponse:
        """See the contract."""
        items = list(dict.fromkeys(request.item_ids))
        outcomes = await self._write([Change(item, is_deleted=True) for item in items])
        missing = [
            item
            for item, outcome in zip(items, outcomes, strict=True)
            if outcome is Outcome.MISSING
        ]
        return catalog_pb2.DeleteItemsResponse(
            num_deleted=len(items) - len(missing), missing_ids=missing
        )

    async def _upsert(
        self, request: catalog_pb2.UpsertItemsRequest
    ) -> list[catalog_pb2.ItemOutcome]:
        fields = masked_fields(request.update_mask) if request.HasField("update_mask") else None
        read: list[ReadItem] = []
        for position, item in enumerate(request.items, start=1):
            read.append(self._edge.read(item, fields))
            if not position % ITEMS_PER_TURN:
                await asyncio.sleep(0)  # let other calls have their turn
        taken = [one.change for one in read if not one.violations]
        left = iter(await self._write(taken))
        return [
            _rejected(one.change.item, one.violations)
            if one.violations
            else _outcome(one.change.item, next(left))
            for one in read
        ]

    async def _write(self, changes: Sequence[Change]) -> list[Outcome]:
        if not changes:
            return []
        return await asyncio.wrap_future(self._intake.write(changes, self._read_clock()))


def _outcome(item: str, outcome: Outcome) -> catalog_pb2.ItemOutcome:
    if outcome is Outcome.UNTITLED:
        return _rejected(item, (_UNTITLED,))
    return catalog_pb2.ItemOutcome(item_id=item, status=_STATUSES[outcome])


def _rejected(item: str, violations: Sequence[Violation]) -> catalog_pb2.ItemOutcome:
    return catalog_pb2.ItemOutcome(
        item_id=item,
        status=catalog_pb2.ItemOutcome.STATUS_REJECTED,
        violations=map(field_violation, violations),
    )
