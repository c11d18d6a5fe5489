"""One serving process: opens a verified bundle, answers, says that it lives, swaps, drains.

Started by the supervisor, never by hand: `python -m online.process.worker NUMBER SOCKET BUNDLE`.
When the supervisor is gone it drains too, so that none is left behind.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from feature_store.errors import FeatureStoreError
from online.errors import OnlineError
from online.process import channel
from online.process.channel import Channel
from online.process.server import Parts, Server, open_parts, warm_up
from online.process.swapping import swap
from online.settings import Settings, read_settings

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 0.5
SWITCH_S: Final = 0.001
"""How long a thread may keep the others waiting; Python's own 5 ms are as long as an answer."""


def main(arguments: list[str]) -> int:
    """Serve until told to stop; 2 when it cannot start, which the supervisor is told why."""
    number, descriptor, bundle = int(arguments[0]), int(arguments[1]), Path(arguments[2])
    settings = read_settings(os.environ, {})
    logging.basicConfig(
        level=settings.log_level.upper(),
        format=f"%(asctime)s %(levelname)s worker {number} %(name)s: %(message)s",
    )
    sys.setswitchinterval(SWITCH_S)
    with socket.socket(fileno=descriptor) as end:
        return asyncio.run(_work(settings, number, bundle, end))


async def _work(settings: Settings, number: int, bundle: Path, end: socket.socket) -> int:
    line = await Channel.connect(end)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor's to act on
    try:
        with open_parts(settings, number, bundle) as parts:
            warm_up(parts.engine, parts.read_clock())
            gc.collect()
            gc.freeze()  # what is there now stays: no collection needs to look at it again
            line.send(channel.OPENED)
            await _Worker(parts, line, stopping).run()
    except (FeatureStoreError, OnlineError) as error:
        line.send(channel.FAILED, reason=str(error))
        return 2
    finally:
        await line.close()
    return 0


class _Worker:
    """Serves over opened parts, as the supervisor says."""

    def __init__(self, parts: Parts, line: Channel, stopping: asyncio.Event) -> None:
        self._parts = parts
        self._line = line
        self._stopping = stopping

    async def run(self) -> None:
        """Wait for the word, serve, drain."""
        message = await self._line.receive()
        if message is None or message["kind"] != channel.SERVE:
            return
        server = Server(self._parts, shares_port=True)
        await server.start()
        self._line.send(channel.READY)
        tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._obey())]
        await self._stopping.wait()
        await server.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self) -> None:
        """Say that the event loop runs, and what was counted.

        Once the pipeline is lost that is no life: the supervisor hears nothing and replaces it.
        """
        while not self._parts.watchdog.is_lost:
            self._line.send(channel.HEARTBEAT, counted=self._parts.metrics.as_json())
            await asyncio.sleep(HEARTBEAT_S)

    async def _obey(self) -> None:
        """Swap when told to; stop when the supervisor is gone."""
        while (message := await self._line.receive()) is not None:
            if message["kind"] == channel.SWAP:
                await self._swap(Path(message["bundle"]))
        self._stopping.set()

    async def _swap(self, bundle: Path) -> None:
        try:
            await swap(self._parts, bundle)
        except Exception as error:  # whatever it is, the old bundle goes on
            logger.error("bundle %s is refused", bundle, exc_info=error)
            self._line.send(channel.REFUSED, reason=f"worker {self._parts.number}: {error}")
        else:
            self._line.send(channel.SWAPPED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
