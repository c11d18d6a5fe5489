"""Keeps the serving processes running, on one port and on the bundle that the pointer names.

It spawns workers, verifies for all of them, once, what they map, replaces those that die or
fall silent, and leads them from one bundle to the next. It answers no request and loads
nothing that does: whatever a worker runs into, this process goes on.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from feature_store.checksums import verify_files
from feature_store.errors import BundleError, SettingsError
from feature_store.pointer import read_pointer
from online.errors import WorkerError
from online.metrics import BUNDLE, RESTARTS, SWAPS, WORKERS, Metrics, sum_of
from online.process.child import Child
from online.settings import Settings, variable

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often the pointer is read."""

NICENESS: Final = 10
"""Of verifying a bundle while requests are answered."""

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
STEADY_S: Final = 30.0
"""A worker that lived so long did not die of its start."""

CLOSE_S: Final = 5.0
"""What a worker may take beyond its drain to close what it has opened."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle whose files are what its manifest says."""

    directory: Path
    bundle_id: str


async def supervise(
    settings: Settings, environment: Mapping[str, str], announce: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then let every worker finish what is in flight.

    `environment` is what the workers read their settings from. `announce` is given one line
    once requests are answered. Raises SettingsError, BundleError or WorkerError when they
    cannot be.
    """
    if settings.workers > 1 and settings.store_url == "memory:":
        raise SettingsError("workers do not share the store memory:; use one, or lmdb: or redis:")
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        port = stack.enter_context(_reserved(settings.address))
        address = f"{settings.host}:{port}"
        supervisor = Supervisor(settings, {**environment, variable("address"): address})
        for number, act in (
            (signal.SIGTERM, supervisor.stop),
            (signal.SIGINT, supervisor.stop),
            (signal.SIGHUP, supervisor.look),
        ):
            loop.add_signal_handler(number, act)
            stack.callback(loop.remove_signal_handler, number)
        await supervisor.run(lambda bundle: announce(f"aisle serves bundle {bundle} on {address}"))


class Supervisor:
    """The policy: when workers start, swap and stop. Lives on one event loop."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.children: dict[int, Child] = {}
        self._settings = settings
        self._environment = environment
        self._stopping = asyncio.Event()
        self._looking = asyncio.Event()
        self._changing = asyncio.Lock()
        self._refused = ""
        self._ended = Metrics()

    def metrics(self) -> Metrics:
        """What all workers counted, also those that have ended. Any thread may ask."""
        children = [child for child in tuple(self.children.values()) if child.is_ready]
        total = sum_of((self._ended.as_json(), *(child.counted for child in children)))
        total.levels[WORKERS,] = len(children)
        total.levels[BUNDLE, self.bundle.bundle_id] = 1
        return total

    def stop(self) -> None:
        """Let every worker drain, and end."""
        self._stopping.set()

    def look(self) -> None:
        """Read the pointer now, also when it names what was refused before."""
        self._refused = ""
        self._looking.set()

    async def run(self, announce: Callable[[str], None]) -> None:
        """Serve until `stop`. `announce` is given the bundle's id once requests are answered."""
        try:
            await self._start_all()
            with self._exposed():
                announce(self.bundle.bundle_id)
                await self._watch()
            logger.info("draining")
        finally:
            await self._stop_all()

    async def _watch(self) -> None:
        """Keep workers and bundle up to date until `stop`."""
        tasks = [asyncio.create_task(self._keep(child)) for child in self.children.values()]
        tasks.append(asyncio.create_task(self._follow()))
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _exposed(self) -> AbstractContextManager[None]:
        """Scrapes are answered inside, if they are wanted."""
        if not self._settings.metrics_address:
            return nullcontext()
        from online.process.exposition import exposed

        return exposed(self._settings.metrics_address, self.metrics)

    async def _start_all(self) -> None:
        """Start the workers, and verify the bundle while they open it."""
        directory = self._settings.bundle or read_pointer(self._settings.home).directory
        verifying = asyncio.create_task(asyncio.to_thread(_verify, directory))
        try:
            numbers = range(self._settings.workers)
            for number in numbers:
                self.children[number] = await self._spawn(number, directory)
        finally:
            self.bundle = await verifying
        await _all(child.opened() for child in self.children.values())
        await _all(map(self._let_serve, self.children.values()))

    async def _spawn(self, number: int, directory: Path) -> Child:
        return await Child.spawn(number, directory, self._environment)

    async def _let_serve(self, child: Child) -> None:
        await child.serve(self._settings.hang_s)

    async def _keep(self, child: Child) -> None:
        """Replace a worker whenever it ends, after a while when it ends again and again."""
        delay_s = FIRST_DELAY_S
        while True:
            started_s = monotonic()
            status = await child.ended()
            if monotonic() - started_s > STEADY_S:
                delay_s = FIRST_DELAY_S
            self._count_end(child, status)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
            child = await self._restart(child.number)

    def _count_end(self, child: Child, status: int) -> None:
        self._ended.add(child.counted, with_levels=False)
        if child.has_hung:
            self._ended.count(RESTARTS, "hung")
            logger.error("worker %d hung: it is replaced", child.number)
        else:
            self._ended.count(RESTARTS, "died")
            logger.error("worker %d ended with %d: it is replaced", child.number, status)

    async def _restart(self, number: int) -> Child:
        async with self._changing:
            child = await self._spawn(number, self.bundle.directory)
            self.children[number] = child
            try:
                await child.opened()
                await self._let_serve(child)
                logger.info("worker %d serves again, as process %d", number, child.pid)
            except WorkerError as error:
                logger.error("worker %d cannot start: %s", number, error)
        return child

    async def _follow(self) -> None:
        """Go over to what the pointer names, whenever it changes or a signal says so."""
        while self._settings.bundle is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looking.wait(), LOOK_S)
            self._looking.clear()
            await self._look()

    async def _look(self) -> None:
        try:
            pointer = read_pointer(self._settings.home)
        except BundleError as error:
            self._refuse(str(error), str(error))
            return
        named = str(pointer.directory)
        if pointer.directory == self.bundle.directory or named == self._refused:
            return
        try:
            await self._swap(await asyncio.to_thread(_verify, pointer.directory, NICENESS))
        except (BundleError, WorkerError) as error:
            self._refuse(named, str(error))

    def _refuse(self, named: str, why: str) -> None:
        if named != self._refused:
            self._refused = named
            self._ended.count(SWAPS, "refused")
            logger.error("refused, bundle %s stays: %s", self.bundle.bundle_id, why)

    async def _swap(self, bundle: Verified) -> None:
        """Lead the workers over, one after the other; back again when one refuses."""
        async with self._changing:
            done: list[Child] = []
            try:
                for child in self._ready():
                    await self._lead(child, bundle, done)
            except WorkerError:
                for child in done:
                    await child.swap(self.bundle.directory)
                raise
            self.bundle = bundle
            self._refused = ""
            self._ended.count(SWAPS, "done")
            logger.info("now serves bundle %s", bundle.bundle_id)

    async def _lead(self, child: Child, bundle: Verified, done: list[Child]) -> None:
        try:
            await child.swap(bundle.directory)
            done.append(child)
        except WorkerError:
            if child.is_ready:
                raise  # one that died meanwhile is started again on the bundle of that day

    def _ready(self) -> list[Child]:
        return [child for child in self.children.values() if child.is_ready]

    async def _stop_all(self) -> None:
        patience_s = self._settings.drain_s + CLOSE_S
        await asyncio.gather(*(child.stop(patience_s) for child in self.children.values()))


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Take every step to its end; raises what the first that failed raised."""
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _verify(directory: Path, niceness: int = 0) -> Verified:
    return Verified(directory, verify_files(directory, niceness))


@contextmanager
def _reserved(address: str) -> Iterator[int]:
    """The port of an address, any free one for port 0, held for the workers to share.

    The socket that holds it does not listen: it gets no connection. Raises SettingsError.
    """
    holder = _bind(address)
    with holder:
        yield int(holder.getsockname()[1])


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, _, _, _, place = found[0]
        with socket.socket(family) as probe:
            # Not shared, so that who has the port already is noticed.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(place)
        return holder
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"cannot listen on {address}: it is in use or not ours; "
            "set another with AISLE_ADDRESS or --address"
        ) from error
