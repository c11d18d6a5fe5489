"""Coupons in a serving process: the ledger that it opens, and snapshots that know what is used."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import grpc

from aisle.v1 import coupon_pb2_grpc
from feature_store.errors import LedgerError
from feature_store.ledger import Ledger, open_ledger
from feature_store.schema import Corpus
from feature_store.store import OnlineStore
from online.coupons.claiming import Claiming
from online.coupons.guard import Guard
from online.coupons.live import LiveCoupons
from online.coupons.shelf import CouponShelf
from online.engine import Engine
from online.feedback.intake import Feedback
from online.service.coupon import CouponService
from online.service.coupon_edge import CouponEdge
from online.service.edge import Edge
from online.settings import Settings
from online.snapshot import Snapshot

logger = logging.getLogger(__name__)

HOUR: Final = 3_600_000_000
COUPONS: Final = "aisle.v1.CouponService"
EXPIRE_EACH_S: Final = 10.0
"""How often each process frees what is due: where a budget is full nobody else would."""


def open_claiming(settings: Settings, store: OnlineStore, key: bytes) -> Claiming:
    """The ledger and what guards it; `key` makes pseudonyms. Raises LedgerError."""
    ledger = open_ledger(settings.ledger_url)
    return Claiming(store, ledger, Guard(store, key), settings.reservation_h * HOUR)


def following_use(
    ledger: Ledger, store: OnlineStore, watch: Callable[[Snapshot], Snapshot] | None
) -> Callable[[Snapshot], Snapshot]:
    """Makes of each snapshot one whose coupons know what is claimed; then `watch` has its turn."""

    def follow(snapshot: Snapshot) -> Snapshot:
        shelf = snapshot.shelves.get(Corpus.COUPON)
        if isinstance(shelf, CouponShelf) and shelf.live is None:
            models = shelf.models
            live = LiveCoupons(shelf.coupons, ledger, store, models.prices, models.usual)
            shelves = {**snapshot.shelves, Corpus.COUPON: shelf.with_live(live)}
            snapshot = replace(snapshot, shelves=shelves)
        return snapshot if watch is None else watch(snapshot)

    return follow


async def keep_expiring(ledger: Ledger, read_wall_clock: Callable[[], int]) -> None:
    """Free what is due in the ledger now and again, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(ledger.expire, read_wall_clock())
        except LedgerError as error:
            logger.warning("what is due in the ledger is not free yet: %s", error)
        await asyncio.sleep(EXPIRE_EACH_S)


def add_coupons(
    server: grpc.aio.Server,
    engine: Engine,
    claiming: Claiming,
    edge: Edge,
    feedback: Feedback,
    clocks: tuple[Callable[[], int], Callable[[], int]],
) -> None:
    """Register the service; `clocks` are that of the answers and the wall's."""
    service = CouponService(engine, claiming, CouponEdge(edge), feedback, *clocks)
    coupon_pb2_grpc.add_CouponServiceServicer_to_server(service, server)
