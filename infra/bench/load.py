"""Open-loop load, in a process of its own: a schedule fixed in advance, whatever the server does.

Latency counts from the instant at which a request was due, so a server that stalls is charged
for all who had to wait (no coordinated omission), and so is this process when it sends late.
Every reply is parsed; one is whole when it is OK, has all its items and left nothing out.
It knows the contract and no part of the server.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Final, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from aisle.v1 import recommendation_pb2
from infra.bench.processes import ROOT, BenchError, cpu_seconds, environment

RECOMMEND: Final = "/aisle.v1.RecommendationService/Recommend"
USER_EXPONENT: Final = 0.7
TIMEOUT_S: Final = 2.0
HEAD_START_S: Final = 0.3
WARM_UPS_PER_CHANNEL: Final = 25
NUM_PAGE_ITEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `rate` is in requests a second; `cpu_of` are processes to be watched."""

    address: str
    rate: float
    seconds: float
    num_users: int
    num_channels: int = 4
    seed: int = 1
    placement: str = "home"
    cpu_of: tuple[int, ...] = ()

    @property
    def num_requests(self) -> int:
        """How many requests are sent, at least one."""
        return max(1, round(self.rate * self.seconds))

    def due_s(self) -> NDArray[np.float64]:
        """When each request is due, seconds after the start: a Poisson process."""
        rng = np.random.default_rng(self.seed)
        return np.cumsum(rng.exponential(1 / self.rate, self.num_requests))

    def users(self) -> NDArray[np.int64]:
        """Who asks, shape (requests,): a few often and many rarely, by Zipf's law."""
        rng = np.random.default_rng(self.seed + 1_000_003)
        weight = np.arange(1, self.num_users + 1) ** -USER_EXPONENT
        rank = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(self.num_requests))
        by_rank = np.random.default_rng(0).permutation(self.num_users)
        users: NDArray[np.int64] = by_rank[np.minimum(rank, self.num_users - 1)]
        return users


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load. Latencies and delays of sending are in milliseconds.

    `cpu_s` is what the watched processes used from the first request to the last reply.
    """

    num_sent: int
    num_whole: int
    elapsed_s: float
    cpu_s: float
    latency_ms: list[float]
    late_p99_ms: float
    statuses: dict[str, int]
    versions: dict[str, int]

    @property
    def whole_share(self) -> float:
        """The share of requests whose reply was whole."""
        return self.num_whole / self.num_sent

    @property
    def qps(self) -> float:
        """Replies a second."""
        return self.num_sent / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """Microseconds of the watched processes' CPU time for each request."""
        return 1e6 * self.cpu_s / self.num_sent

    @property
    def num_failed(self) -> int:
        """Requests that got an error instead of a reply."""
        return self.num_sent - self.statuses.get("OK", 0)

    def latency(self, percent: float) -> float:
        """A percentile of the latencies, in milliseconds."""
        return float(np.percentile(self.latency_ms, percent))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """What the process printed."""
        return cls(**json.loads(line))


@dataclass(slots=True)
class _Tally:
    """Counts replies as they come."""

    num_whole: int = 0
    latency_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def reply(self, response: recommendation_pb2.RecommendResponse) -> None:
        """An OK reply; whole when nothing is missing from it."""
        self.statuses["OK"] += 1
        self.versions[response.model_version] += 1
        self.num_whole += len(response.items) == NUM_PAGE_ITEMS and not response.degraded


async def drive(load: Load) -> Outcome:
    """Send the load and wait for all replies; each takes TIMEOUT_S at most."""
    requests = list(_requests(load))
    channels = [_channel(load.address, number) for number in range(load.num_channels)]
    calls = [_call(channel) for channel in channels]
    await _warm_up(calls, requests)
    tally = _Tally()
    cpu_before_s = cpu_seconds(load.cpu_of)
    start_s = perf_counter() + HEAD_START_S
    due_s = (start_s + load.due_s()).tolist()
    tasks = []
    for number, (due, request) in enumerate(zip(due_s, requests, strict=True)):
        if (wait_s := due - perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        tally.late_ms.append(1e3 * (perf_counter() - due))
        ask = _ask(calls[number % len(calls)], request, due, tally)
        tasks.append(asyncio.create_task(ask))
    await asyncio.gather(*tasks)
    elapsed_s = perf_counter() - start_s
    cpu_s = cpu_seconds(load.cpu_of) - cpu_before_s
    for channel in channels:
        await channel.close(None)
    return _outcome(tally, elapsed_s, cpu_s)


def _requests(load: Load) -> Iterator[bytes]:
    """The requests as bytes, so that making them takes no time under load."""
    for user in load.users().tolist():
        yield recommendation_pb2.RecommendRequest(
            user_id=f"u{user:07d}", placement=load.placement, page_size=NUM_PAGE_ITEMS
        ).SerializeToString()


def _channel(address: str, number: int) -> grpc.aio.Channel:
    """A connection of its own: channels with equal options would share one."""
    return grpc.aio.insecure_channel(
        address, options=(("grpc.use_local_subchannel_pool", 1), ("aisle.channel", number))
    )


def _call(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        RECOMMEND,
        request_serializer=None,
        response_deserializer=recommendation_pb2.RecommendResponse.FromString,
    )


async def _warm_up(calls: list[Any], requests: list[bytes]) -> None:
    """Open every connection before the clock starts."""
    for call in calls:
        for request in requests[:WARM_UPS_PER_CHANNEL]:
            await call(request, timeout=10 * TIMEOUT_S, wait_for_ready=True)


async def _ask(call: Any, request: bytes, due_s: float, tally: _Tally) -> None:
    try:
        tally.reply(await call(request, timeout=TIMEOUT_S))
    except grpc.aio.AioRpcError as error:
        tally.statuses[error.code().name] += 1
    tally.latency_ms.append(round(1e3 * (perf_counter() - due_s), 3))


def _outcome(tally: _Tally, elapsed_s: float, cpu_s: float) -> Outcome:
    return Outcome(
        num_sent=len(tally.latency_ms),
        num_whole=tally.num_whole,
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
        latency_ms=tally.latency_ms,
        late_p99_ms=round(float(np.percentile(tally.late_ms, 99)), 3),
        statuses=dict(tally.statuses),
        versions=dict(tally.versions),
    )


def send(load: Load) -> Outcome:
    """What came of a load that a process of its own has sent."""
    ended = subprocess.run(
        [sys.executable, "-m", "infra.bench.load"],
        input=json.dumps(asdict(load)),
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise BenchError(f"the load generator failed:\n{ended.stderr[-2000:]}")
    return Outcome.from_json(ended.stdout)


def main() -> None:
    """Read a load as JSON from standard input, drive it, print its outcome as one line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    fields = json.loads(sys.stdin.read())
    load = Load(**{**fields, "cpu_of": tuple(fields.get("cpu_of", ()))})
    print(json.dumps(asdict(asyncio.run(drive(load)))))


if __name__ == "__main__":
    main()
