"""Servers for tests: a real process, and one in this process whose parts can be reached."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from grpc_status import rpc_status

from aisle.v1 import (
    event_pb2,
    event_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
    slate_pb2,
    user_pb2,
    user_pb2_grpc,
)
from online.process.server import Parts, open_parts, run
from online.settings import Clock, Settings
from tests.worlds import KEY, World

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 20.0

M = TypeVar("M", bound=Message)


@dataclass
class Caller:
    """Calls a server over one connection."""

    address: str
    options: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def channel(self) -> grpc.Channel:
        # A connection of its own: channels of one process would share one.
        options = (("grpc.use_local_subchannel_pool", 1), *self.options)
        return grpc.insecure_channel(self.address, options)

    @cached_property
    def recommendations(self) -> recommendation_pb2_grpc.RecommendationServiceStub:
        return recommendation_pb2_grpc.RecommendationServiceStub(self.channel)

    @cached_property
    def events(self) -> event_pb2_grpc.EventServiceStub:
        return event_pb2_grpc.EventServiceStub(self.channel)

    @cached_property
    def users(self) -> user_pb2_grpc.UserServiceStub:
        return user_pb2_grpc.UserServiceStub(self.channel)

    def merge(self, user: str, **source: str) -> user_pb2.MergeUsersResponse:
        request = user_pb2.MergeUsersRequest(target_user_id=user, **source)
        return self.users.MergeUsers(request, timeout=TIMEOUT_S)

    def erase(self, **subject: str) -> user_pb2.EraseUserResponse:
        return self.users.EraseUser(user_pb2.EraseUserRequest(**subject), timeout=TIMEOUT_S)

    def recommend(
        self, user: str = "", timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> recommendation_pb2.RecommendResponse:
        everything = {"user_id": user, "placement": "home", **fields}
        request = recommendation_pb2.RecommendRequest(**everything)
        return self.recommendations.Recommend(request, timeout=timeout_s)

    def write(self, *events: event_pb2.Event) -> list[event_pb2.EventOutcome]:
        request = event_pb2.WriteEventsRequest(events=events)
        return list(self.events.WriteEvents(request, timeout=TIMEOUT_S).outcomes)

    def close(self) -> None:
        self.channel.close()


def settings_of(world: World, **changes: Any) -> Settings:
    """A server's settings for a world: any free port, the clock at the horizon."""
    fixed = {"address": "127.0.0.1:0", "clock": Clock.HORIZON, "pseudonym_key": KEY}
    return Settings(home=world.home, **{**fixed, **changes})


def event(item: str = "p00", kind: str = "VIEW", **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(
        item_id=item, kind=event_pb2.EventKind.Value(f"EVENT_KIND_{kind}"), **fields
    )


def ids(response: recommendation_pb2.RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


def statuses(outcomes: list[event_pb2.EventOutcome]) -> list[str]:
    names = event_pb2.EventOutcome.Status.Name
    return [names(outcome.status).removeprefix("STATUS_").lower() for outcome in outcomes]


def degraded(response: recommendation_pb2.RecommendResponse) -> dict[str, str]:
    """The stages that were left out, each with its cause."""
    name = slate_pb2.DegradedStage.Cause.Name
    return {one.stage: name(one.cause).removeprefix("CAUSE_").lower() for one in response.degraded}


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[pytest.ExceptionInfo[grpc.RpcError]]:
    """The call inside must be refused with this code."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    assert caught.value.code() is code, caught.value


def detail(caught: pytest.ExceptionInfo[grpc.RpcError], kind: type[M]) -> M:
    """The detail of a refusal that is of this kind."""
    assert isinstance(caught.value, grpc.Call)
    status = rpc_status.from_call(caught.value)
    message = kind()
    assert any(one.Unpack(message) for one in status.details), status
    return message


def message_of(caught: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    """What a refusal says."""
    assert isinstance(caught.value, grpc.Call)
    return caught.value.details() or ""


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[Caller, Parts]]:
    """A server on a thread of this process, stopped as a signal stops it."""
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    lines: list[str] = []
    is_ready = threading.Event()

    def announce(line: str) -> None:
        lines.append(line)
        is_ready.set()

    with open_parts(settings) as parts:
        thread = threading.Thread(
            target=lambda: loop.run_until_complete(run(parts, announce, stopping))
        )
        thread.start()
        try:
            assert is_ready.wait(TIMEOUT_S)
            caller = Caller(lines[0].rpartition(" ")[2])
            yield caller, parts
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join(TIMEOUT_S)
            loop.close()
        caller.close()


class ServerProcess:
    """`python -m online serve` over a world."""

    def __init__(self, world: World, *flags: str) -> None:
        environment = {name: value for name, value in os.environ.items() if "AISLE" not in name}
        environment |= {
            "AISLE_HOME": str(world.home),
            "AISLE_PSEUDONYM_KEY": KEY.hex(),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}",
        }
        command = [sys.executable, "-m", "online", "serve", "--clock", "horizon"]
        self.process = subprocess.Popen(
            [*command, "--address", "127.0.0.1:0", *flags],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> Caller:
        """A caller, once the server has said that it is ready."""
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        if not self.ready_line:
            raise AssertionError(self.process.communicate()[1])
        return Caller(self.ready_line.split()[-1])

    def terminate(self) -> int:
        """Tell it to stop; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def workers(self) -> list[int]:
        """The processes that answer, in the order in which they were started."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted(int(child) for path in children for child in path.read_text().split())

    def kill(self) -> None:
        """Let all of it die at once, as a crash of the machine would."""
        workers = self.workers()
        self.process.kill()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        self.wait()

    def read_log_until(self, words: str) -> None:
        """Wait until it has logged these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"it ended and had not logged {words!r}")

    def wait(self) -> int:
        """Its exit status, once it has ended; what it logged is in `log`."""
        _, self.log = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode


Start = Callable[..., ServerProcess]
"""Starts a server over the world of a test, with flags, and waits until it is ready."""
