"""What the supervisor and its workers tell each other: one JSON object a line, over a socket.

A worker says that it has `opened` what it serves from, that it is `ready`, its `heartbeat`
with what it has counted, and whether it `swapped` or `refused` a bundle. It is told to
`serve`, to `swap` to another bundle, and to stop by a signal. The end of the
connection is the end of the other process. It knows neither of the two from inside.
"""

import asyncio
import json
import socket
from typing import Any, Final

OPENED: Final = "opened"
READY: Final = "ready"
FAILED: Final = "failed"
HEARTBEAT: Final = "heartbeat"
SWAPPED: Final = "swapped"
REFUSED: Final = "refused"
SERVE: Final = "serve"
SWAP: Final = "swap"

MAX_LINE_BYTES: Final = 1 << 22

Message = dict[str, Any]


class Channel:
    """One end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Made by `connect`."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, end: socket.socket) -> "Channel":
        """The channel over one end of a socket pair, which is the channel's from now on."""
        return cls(*await asyncio.open_connection(sock=end, limit=MAX_LINE_BYTES))

    def send(self, kind: str, **fields: Any) -> None:
        """Tell the other end; nothing happens when it has gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"kind": kind, **fields}).encode() + b"\n")

    async def receive(self, patience_s: float | None = None) -> Message | None:
        """What the other end says next, None when it has gone; TimeoutError for silence."""
        try:
            line = await asyncio.wait_for(self._reader.readline(), patience_s)
        except ConnectionError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    async def close(self) -> None:
        """Send what was said, and hang up."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
