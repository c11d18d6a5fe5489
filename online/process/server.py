"""One serving process: opens what it needs, answers until it is told to stop, drains.

A supervisor runs one or several of these on one port, each with a number of its own. It knows
how the parts fit together and no part from inside.
"""

import asyncio
import fcntl
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aisle.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    chat_pb2,
    content_pb2,
    content_pb2_grpc,
    coupon_pb2,
    event_pb2,
    event_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)
from feature_store.bundle import open_bundle
from feature_store.catalog_log import open_catalog_log
from feature_store.errors import SettingsError
from feature_store.event_log import EventLog
from feature_store.event_log.seam import WorkerLog
from feature_store.ids import KEY_VARIABLE, Pseudonymizer, load_key
from feature_store.language.encoder import embedded_encoder
from feature_store.pointer import read_pointer
from feature_store.store import OnlineStore, open_store
from feature_store.tombstones import (
    MARK_PREFIX,
    TOMBSTONE_VARIABLE,
    Tombstones,
    load_tombstone_key,
)
from online.coupons.claiming import Claiming
from online.delta.following import NUM_ROOM
from online.delta.intake import CatalogIntake
from online.engine import Engine
from online.feedback.attribution import TokenSigner
from online.feedback.erasing import Eraser
from online.feedback.identities import Identities
from online.feedback.intake import Feedback
from online.feedback.showing import Showing
from online.metrics import EXPOSURES_DROPPED, Metrics
from online.process.chatting import add_chat
from online.process.coupons import (
    COUPONS,
    add_coupons,
    following_use,
    keep_expiring,
    open_claiming,
)
from online.process.parity import sampling
from online.process.watchdog import Watchdog
from online.service.catalog import CatalogService
from online.service.catalog_edge import CatalogEdge
from online.service.checks import Checks, violations_of
from online.service.content import ContentService
from online.service.edge import Edge
from online.service.event import EventService
from online.service.event_edge import EventEdge
from online.service.recommendation import RecommendationService
from online.service.user import UserService
from online.settings import Clock, Settings
from online.snapshot import Snapshot, open_snapshot
from online.types import Request

logger = logging.getLogger(__name__)

EVENT_LOG: Final = "event_log"
WARM_UPS: Final = 20
RECOMMENDATIONS: Final = "aisle.v1.RecommendationService"
EVENTS: Final = "aisle.v1.EventService"
USERS: Final = "aisle.v1.UserService"
CHAT: Final = "aisle.v1.ChatService"
CATALOG: Final = "aisle.v1.CatalogService"

CONTRACT: Final = (
    recommendation_pb2,
    event_pb2,
    user_pb2,
    catalog_pb2,
    content_pb2,
    coupon_pb2,
    chat_pb2,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What one process has opened."""

    settings: Settings
    engine: Engine
    watchdog: Watchdog
    feedback: Feedback
    showing: Showing
    eraser: Eraser
    identities: Identities
    key: bytes
    store: OnlineStore
    number: int
    metrics: Metrics
    claiming: Claiming
    catalog: CatalogIntake

    def read_clock(self) -> int:
        """The instant that answers are made for, microseconds UTC."""
        if self.settings.clock is Clock.HORIZON:
            return self.engine.latest.bundle.horizon_time
        return read_wall_clock()


def read_wall_clock() -> int:
    """The time now, microseconds UTC."""
    return time.time_ns() // 1_000


@contextmanager
def open_parts(
    settings: Settings, number: int = 0, verified: Path | None = None
) -> Iterator[Parts]:
    """Open what a worker needs, and close it in the reverse order.

    `verified` is the bundle, when somebody has compared its files with their checksums.
    Raises SettingsError when another server has the same home and number, and any error of
    the feature store when something cannot be used.
    """
    with ExitStack() as stack:
        stack.enter_context(_claimed(settings.home / EVENT_LOG / f"worker-{number:03}.lock"))
        store = open_store(settings.store_url)
        stack.callback(store.close)
        log = open_event_log(settings, number)
        stack.callback(log.close)
        key = _key(settings)
        tombstones = open_tombstones(settings, key, store)
        metrics = Metrics()
        feedback = Feedback(log, store, tombstones, metrics)
        stack.callback(feedback.close)
        showing = Showing(feedback, log, store, tombstones)
        stack.callback(showing.close)
        logs = settings.home / EVENT_LOG
        spool = None if settings.event_log else number
        claiming = open_claiming(settings, store, key)
        stack.callback(claiming.ledger.close)
        eraser = Eraser(settings.home, logs, log, spool, store, tombstones, claiming.ledger)
        share = settings.parity_sample
        watch = stack.enter_context(sampling(settings.home, number, share, read_wall_clock))
        metrics.read_from(lambda: showing.num_dropped, EXPOSURES_DROPPED)
        watch = following_use(claiming.ledger, store, watch)
        changes = open_catalog_log(settings.home, store, is_shared=settings.shares_store)
        stack.callback(changes.close)
        engine = Engine(store, _first_snapshot(settings, verified), watch, metrics, changes)
        catalog = CatalogIntake(changes, engine, embedded_encoder())
        stack.callback(catalog.close)
        watchdog = Watchdog(engine, metrics)
        stack.callback(watchdog.close)
        identities = Identities(
            Pseudonymizer(key), tombstones, feedback, claiming.ledger, _former(settings)
        )
        yield Parts(
            *(settings, engine, watchdog, feedback, showing, eraser, identities),
            *(key, store, number, metrics, claiming, catalog),
        )


def _first_snapshot(settings: Settings, verified: Path | None) -> Snapshot:
    # Nobody but the engine holds it, or its arrays would outlive a swap.
    directory = verified or settings.bundle or read_pointer(settings.home).directory
    bundle = open_bundle(directory, verify=verified is None, num_room=NUM_ROOM)
    return open_snapshot(bundle)


class Server:
    """The gRPC server over opened parts. Made, started and drained on one event loop."""

    def __init__(self, parts: Parts, *, shares_port: bool = False) -> None:
        """Bind the address; `shares_port` lets several workers listen on one port.

        Raises SettingsError when the address cannot be had.
        """
        settings = parts.settings
        self._parts = parts
        self._checks = Checks(_limits(settings), parts.metrics)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # stubs lack it
        max_bytes = settings.max_message_kb * 1024
        self._server = grpc.aio.server(
            interceptors=(self._checks,),
            options=(
                ("grpc.so_reuseport", int(shares_port)),
                ("grpc.max_receive_message_length", max_bytes),
                ("grpc.max_send_message_length", max_bytes),
            ),
        )
        _add_services(self._server, parts)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = f"{settings.host}:{_listen(self._server, settings.address)}"
        self._expiring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer calls from now on."""
        await self._server.start()
        ledger = self._parts.claiming.ledger
        self._expiring = asyncio.create_task(keep_expiring(ledger, read_wall_clock))
        for service in (RECOMMENDATIONS, EVENTS, USERS, COUPONS, CATALOG, CHAT):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Refuse new calls, finish those in flight, let go of the address."""
        await self._health.enter_graceful_shutdown()
        await self._checks.close()
        await self._server.stop(self._parts.settings.drain_s)
        if self._expiring is not None:
            self._expiring.cancel()


async def run(parts: Parts, announce: Callable[[str], None], stopping: asyncio.Event) -> None:
    """Serve over opened parts until `stopping` is set, then drain.

    `announce` is given one line once requests are answered.
    """
    warm_up(parts.engine, parts.read_clock())
    server = Server(parts)
    await server.start()
    announce(f"aisle serves bundle {parts.engine.snapshot.model_version} on {server.address}")
    await stopping.wait()
    logger.info("draining")
    await server.drain()


def warm_up(engine: Engine, request_time: int) -> None:
    """Ask for every placement, so that the first caller finds code and pages in memory."""
    for request in WARM_UPS * warm_up_requests(engine.snapshot, request_time):
        engine.recommend(request)
    if engine.snapshot.search is not None:
        engine.snapshot.search.search("delivery", request_time, 1, (), ())
    for message in (recommendation_pb2.RecommendRequest(), event_pb2.WriteEventsRequest()):
        violations_of(message)
    violations_of(event_pb2.Event())


def warm_up_requests(snapshot: Snapshot, request_time: int) -> list[Request]:
    """A request for each placement, which leads through most of the code."""
    items = tuple(snapshot.catalog.ids[i] for i in range(min(3, len(snapshot.catalog))))
    requests = [
        Request(request_time, name, session_items=items, context_items=items)
        for name in snapshot.placements
    ]
    if snapshot.understander is not None or snapshot.search is not None:  # these load the encoder
        requests.append(Request(request_time, "search_empty", query="delivery"))
    return requests


def _listen(server: grpc.aio.Server, address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise SettingsError(
            f"cannot listen on {address}: it is in use or not ours; "
            "set another with AISLE_ADDRESS or --address"
        ) from error


def _limits(settings: Settings) -> dict[str, int]:
    return {
        f"/{RECOMMENDATIONS}/Recommend": settings.max_recommends,
        f"/{EVENTS}/WriteEvents": settings.max_writes,
        f"/{EVENTS}/StreamEvents": settings.max_writes,
    }


def _add_services(server: grpc.aio.Server, parts: Parts) -> None:
    """Every service of the contract."""
    settings = parts.settings
    identities, tokens = parts.identities, TokenSigner(parts.key)
    page = Edge(identities, tokens, settings.locale, settings.currency)
    recommendations = RecommendationService(
        parts.engine,
        parts.watchdog,
        page,
        parts.read_clock,
        settings.deadline_ms / 1_000,
        parts.showing,
    )
    events = EventService(
        parts.feedback,
        EventEdge(identities, tokens, settings.currency, settings.max_future_s),
        parts.read_clock,
        read_wall_clock,
    )
    users = UserService(
        parts.feedback, parts.eraser, identities, parts.claiming.ledger, read_wall_clock
    )
    edge = CatalogEdge(settings.currency)
    catalog = CatalogService(parts.catalog, edge, parts.read_clock)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)
    add_chat(
        *(server, settings, parts.engine, parts.store, page, parts.key, parts.feedback),
        *(parts.showing, (parts.read_clock, read_wall_clock)),
    )
    add_coupons(
        *(server, parts.engine, parts.claiming),
        *(Edge(identities, tokens, settings.locale, settings.currency), parts.feedback),
        (parts.read_clock, read_wall_clock),
    )
    user_pb2_grpc.add_UserServiceServicer_to_server(users, server)
    recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(recommendations, server)
    event_pb2_grpc.add_EventServiceServicer_to_server(events, server)
    content = ContentService(parts.engine, page, parts.read_clock, parts.showing)
    content_pb2_grpc.add_ContentServiceServicer_to_server(content, server)
    names = [
        service.full_name
        for file in CONTRACT
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )


def _key(settings: Settings) -> bytes:
    key = settings.pseudonym_key
    return load_key(settings.home, {KEY_VARIABLE: key.hex()} if key else {})


def open_event_log(settings: Settings, number: int) -> WorkerLog:
    """The event log of a worker: a spool of its own, or its part of a stream.

    In a stream a worker is known by the machine's name and its number, so both must stay.
    """
    if not settings.event_log:
        return EventLog(settings.home / EVENT_LOG, number)
    from feature_store.event_log.stream import StreamLog

    machine = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:48]
    return StreamLog(settings.event_log, f"{machine}-{number:03}")


def _former(settings: Settings) -> Pseudonymizer | None:
    """The pseudonyms before the key was rotated."""
    key = settings.pseudonym_key_previous
    return Pseudonymizer(key) if key else None


def open_tombstones(settings: Settings, pseudonym_key: bytes, store: OnlineStore) -> Tombstones:
    """Who was erased, also on other machines that share the store, until now."""
    given = settings.tombstone_key
    environment = {TOMBSTONE_VARIABLE: given.hex()} if given else {}
    key = load_tombstone_key(settings.home, pseudonym_key, environment)
    tombstones = Tombstones(settings.home, key)
    if marks := [key.removeprefix(MARK_PREFIX) for key, _ in store.scan(MARK_PREFIX)]:
        tombstones.add(marks)
    return tombstones


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """The right to write this worker's event log, held until the process ends or leaves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another server uses {path.parent}: stop it, or give this one a home of its own "
                "with AISLE_HOME or --home"
            ) from None
        yield
