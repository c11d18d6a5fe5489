"""A connection to one JetStream stream for threads that know no event loop.

The client library is asynchronous: it runs on a loop in a thread of its own, and every method
here waits for it. It knows messages and places, and not what they mean.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import nats
from nats.errors import Error as NatsError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    KeyValueConfig,
    PubAck,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NotFoundError

from feature_store.errors import EventLogError

DEFAULT_STREAM: Final = "aisle"
TIMEOUT_S: Final = 10.0
DELETE_S: Final = 600.0
FETCH_S: Final = 0.5
FETCH_MESSAGES: Final = 500
WINDOW: Final = 1_000
"""How many messages are on their way at a time."""

DUPLICATE_S: Final = 3_600.0
ACK_WAIT_S: Final = 600.0
"""After which time what a dead compaction was given is given to the next one."""

MAX_UNACKNOWLEDGED: Final = 100_000
MESSAGE_ID: Final = "Nats-Msg-Id"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message: its place in the stream, its kind (first part of the subject), content."""

    sequence: int
    kind: str
    worker: str
    data: bytes


class Connection:
    """One stream, and the bucket of keys beside it. Every method raises EventLogError."""

    def __init__(self, url: str) -> None:
        """`url` is nats://HOST:PORT/STREAM; without a stream it is called aisle."""
        parts = urlsplit(url)
        self.stream = parts.path.strip("/") or DEFAULT_STREAM
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        self._is_open = True
        try:
            self.wait(self._open(f"{parts.scheme}://{parts.netloc}"))
        except EventLogError:
            self._stop()
            raise

    async def _open(self, server: str) -> None:
        self._client = await nats.connect(
            server, connect_timeout=5, max_reconnect_attempts=3, error_cb=_ignore
        )
        self._jetstream = self._client.jetstream(timeout=TIMEOUT_S)
        try:
            await self._jetstream.stream_info(self.stream)
        except NotFoundError:
            await self._jetstream.add_stream(
                StreamConfig(
                    name=self.stream,
                    subjects=[f"{self.stream}.>"],
                    storage=StorageType.FILE,
                    duplicate_window=DUPLICATE_S,
                )
            )
        bucket = f"{self.stream}-marks"
        try:
            self._marks = await self._jetstream.key_value(bucket)
        except BucketNotFoundError:
            self._marks = await self._jetstream.create_key_value(KeyValueConfig(bucket, history=1))

    def wait(self, work: Coroutine[Any, Any, T], timeout_s: float = 2 * TIMEOUT_S) -> T:
        """What a coroutine on the loop gives."""
        if not self._is_open:
            work.close()
            raise EventLogError("the event log is closed; open it again")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)
        except (NatsError, OSError, TimeoutError) as error:
            kind = type(error).__name__
            raise EventLogError(f"the event log's NATS server failed: {kind}: {error}") from error

    def publish(self, subject: str, messages: Sequence[tuple[str, bytes]]) -> list[PubAck]:
        """Store messages, each with an id ("": none); the acknowledgement of each, in order."""
        return self.wait(self._publish(f"{self.stream}.{subject}", messages))

    async def _publish(self, subject: str, messages: Sequence[tuple[str, bytes]]) -> list[PubAck]:
        acks: list[PubAck] = []
        for start in range(0, len(messages), WINDOW):
            sent = [
                await self._jetstream.publish_async(
                    subject, data, headers={MESSAGE_ID: name} if name else None
                )
                for name, data in messages[start : start + WINDOW]
            ]
            acks += await asyncio.wait_for(asyncio.gather(*sent), TIMEOUT_S)
        return acks

    def messages(self, subject: str, after_sequence: int, limit: int = 2**62) -> Iterator[Message]:
        """Messages on a subject (wildcards allowed) after a place, in order, up to now."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after_sequence + 1,
            ack_policy=AckPolicy.NONE,
            filter_subject=f"{self.stream}.{subject}",
            inactive_threshold=60.0,
        )
        info = self.wait(self._jetstream.add_consumer(self.stream, config))
        left = min(info.num_pending or 0, limit)
        reader = self.wait(self._jetstream.pull_subscribe_bind(info.name, self.stream))
        while left:
            found = self.wait(reader.fetch(min(left, FETCH_MESSAGES), timeout=TIMEOUT_S))
            left -= len(found)
            yield from (message_of(one) for one in found)
        self.wait(reader.unsubscribe())
        self.wait(self._jetstream.delete_consumer(self.stream, info.name))

    def consumer(self, name: str) -> Any:
        """A reader that goes on, after a crash too, where messages were acknowledged last."""
        config = ConsumerConfig(
            durable_name=name,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=MAX_UNACKNOWLEDGED,
        )
        subject = f"{self.stream}.>"
        return self.wait(self._jetstream.pull_subscribe(subject, name, self.stream, config))

    def fetch(self, reader: Any, limit: int) -> list[Any]:
        """The next messages for a reader; none when there are none."""
        try:
            return list(self.wait(self._fetch(reader, limit)))
        except EventLogError as error:
            if isinstance(error.__cause__, TimeoutError):
                return []
            raise

    async def _fetch(self, reader: Any, limit: int) -> list[Any]:
        found: list[Any] = await reader.fetch(limit, timeout=FETCH_S)
        return found

    def acknowledge(self, messages: Sequence[Any]) -> None:
        """Tell the server that these need not be delivered again, and wait until it knows."""
        self.wait(self._acknowledge(messages))

    async def _acknowledge(self, messages: Sequence[Any]) -> None:
        for message in messages[:-1]:
            await message.ack()
        if messages:
            await messages[-1].ack_sync()

    def delete(self, *sequences: int) -> None:
        """Overwrite messages; one that is gone already is no error."""
        self.wait(self._delete(sequences), DELETE_S)

    async def _delete(self, sequences: Sequence[int]) -> None:
        for start in range(0, len(sequences), WINDOW):
            some = sequences[start : start + WINDOW]
            await asyncio.gather(*(self._delete_one(sequence) for sequence in some))

    async def _delete_one(self, sequence: int) -> None:
        try:
            await self._jetstream.delete_msg(self.stream, sequence)
        except NatsError as error:
            if "not found" not in str(error) and "no message found" not in str(error):
                raise

    def purge(self, subject: str, up_to_sequence: int) -> int:
        """Delete the messages on a subject up to a place; how many there were."""
        if up_to_sequence < 1:
            return 0  # the server would take it for no limit
        return self.wait(self._purge(f"{self.stream}.{subject}", up_to_sequence))

    async def _purge(self, subject: str, up_to_sequence: int) -> int:
        before = await self._jetstream.stream_info(self.stream)
        await self._jetstream.purge_stream(self.stream, seq=up_to_sequence + 1, subject=subject)
        after = await self._jetstream.stream_info(self.stream)
        return before.state.messages - after.state.messages

    def mark(self, key: str) -> int:
        """The number noted under a key, 0 for none."""

        async def get() -> int:
            try:
                entry = await self._marks.get(key)
            except KeyNotFoundError:
                return 0
            return int(entry.value or b"0")

        return self.wait(get())

    def set_mark(self, key: str, number: int) -> None:
        """Note a number under a key."""
        self.wait(self._marks.put(key, b"%d" % number))

    def remove(self) -> None:
        """Delete the stream and its marks for good."""

        async def remove() -> None:
            await self._jetstream.delete_stream(self.stream)
            await self._jetstream.delete_key_value(f"{self.stream}-marks")

        self.wait(remove())

    def close(self) -> None:
        """Let go of the connection; twice does no harm."""
        if self._is_open:
            self.wait(self._client.close())
            self._stop()

    def _stop(self) -> None:
        self._is_open = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def message_of(message: Any) -> Message:
    """A message of the client library as a value."""
    kind, _, worker = message.subject.partition(".")[2].partition(".")
    return Message(message.metadata.sequence.stream, kind, worker, message.data)


async def _ignore(error: Exception) -> None:
    """What goes wrong is told to who waits for it; the library would print it, too."""
