"""One worker as its supervisor sees it: a process, what it says, and its silence.

A worker that says nothing for too long is killed: it cannot be asked to stop. What comes
after that is the supervisor's to decide.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from online.errors import WorkerError
from online.process import channel
from online.process.channel import Channel, Message

logger = logging.getLogger(__name__)

START_S: Final = 120.0
"""How long a worker may take to open a bundle, and to swap to another."""

Answer = asyncio.Future[Message]


class Child:
    """A worker process. Made by `spawn`; `attend` runs as long as the process does."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, line: Channel) -> None:
        self.number = number
        self.is_ready = False
        self.has_hung = False
        self.counted: Mapping[str, Any] = {}
        self._process = process
        self._line = line
        self._awaited: dict[str, Answer] = {}
        self._said = f"worker {number} ended; its log says why"
        self._ended = asyncio.create_task(self._attend())
        self._patience_s = START_S

    @classmethod
    async def spawn(cls, number: int, bundle: Path, environment: Mapping[str, str]) -> "Child":
        """Start worker `number` on a verified bundle; it opens it and waits."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "online.process.worker", str(number), str(theirs.fileno()), str(bundle)),
                pass_fds=(theirs.fileno(),),
                env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        return cls(number, process, await Channel.connect(ours))

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def opened(self) -> None:
        """Wait until it has opened its bundle; WorkerError when it cannot."""
        await self._answer(channel.OPENED)

    async def serve(self, hang_s: float) -> None:
        """Let it answer requests; from then on silence of `hang_s` seconds kills it."""
        self._patience_s = hang_s  # before it answers: the very next silence counts
        self._line.send(channel.SERVE)
        await self._answer(channel.READY)
        self.is_ready = True

    async def swap(self, bundle: Path) -> None:
        """Let it go over to another bundle; WorkerError, with its reason, when it refuses."""
        self._line.send(channel.SWAP, bundle=str(bundle))
        await self._answer(channel.SWAPPED)

    async def ended(self) -> int:
        """Wait for its end; its exit status."""
        return await asyncio.shield(self._ended)

    async def stop(self, patience_s: float) -> None:
        """Let it drain; kill it after `patience_s` seconds, or at once if it does not serve."""
        self._patience_s = patience_s
        self.signal(signal.SIGTERM if self.is_ready else signal.SIGKILL)
        try:
            await asyncio.wait_for(self.ended(), patience_s)
        except TimeoutError:
            logger.error("worker %d does not stop: it is killed", self.number)
            self.signal(signal.SIGKILL)
            await self.ended()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def _attend(self) -> int:
        try:
            while (message := await self._line.receive(self._patience_s)) is not None:
                self._take(message)
        except TimeoutError:
            self.has_hung = True
            self._said = f"worker {self.number} said nothing for {self._patience_s:.0f} s"
            self.signal(signal.SIGKILL)
        self.is_ready = False
        await self._line.close()
        status = await self._process.wait()
        for answer in self._awaited.values():
            if not answer.done():
                answer.set_exception(self._failure())
        return status

    def _take(self, message: Message) -> None:
        kind = message["kind"]
        if kind == channel.HEARTBEAT:
            self.counted = message["counted"]
        elif kind == channel.FAILED:
            self._said = message["reason"]
        elif kind == channel.REFUSED:
            self._future(channel.SWAPPED).set_exception(WorkerError(message["reason"]))
        else:
            self._future(kind).set_result(message)

    async def _answer(self, kind: str) -> None:
        """Wait until it says `kind`."""
        if self._ended.done():
            raise self._failure()
        try:
            await asyncio.wait_for(asyncio.shield(self._future(kind)), START_S)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            raise WorkerError(f"worker {self.number} took too long and was killed") from None
        finally:
            self._awaited.pop(kind, None)

    def _future(self, kind: str) -> Answer:
        return self._awaited.setdefault(kind, asyncio.get_running_loop().create_future())

    def _failure(self) -> WorkerError:
        return WorkerError(self._said)
