"""The checkerboard world, built once, and servers over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.online.serving import Caller, ServerProcess, Start, serving, settings_of
from tests.worlds import World, build_world


@pytest.fixture(scope="session")
def pristine_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Never written to after it was built."""
    return build_world(tmp_path_factory.mktemp("world") / "home")


@pytest.fixture
def world(pristine_world: World, tmp_path: Path) -> World:
    """A world of the test's own."""
    return pristine_world.copy(tmp_path / "home")


@pytest.fixture(scope="session")
def read_only_server(
    pristine_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    """A server that no test writes events to."""
    world = pristine_world.copy(tmp_path_factory.mktemp("served") / "home")
    with serving(settings_of(world, currency="USD")) as (caller, _):
        yield caller


@pytest.fixture
def server(world: World) -> Iterator[Caller]:
    """A server of the test's own, in this process."""
    with serving(settings_of(world)) as (caller, _):
        yield caller


@pytest.fixture
def server_process(world: World) -> Iterator[ServerProcess]:
    """A server process of the test's own, not yet ready."""
    started = ServerProcess(world)
    yield started
    if started.process.poll() is None:
        started.kill()


@pytest.fixture
def start(world: World) -> Iterator[Start]:
    """Start a server over the world of the test."""
    started: list[ServerProcess] = []

    def start(*flags: str) -> ServerProcess:
        started.append(ServerProcess(world, *flags))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()
