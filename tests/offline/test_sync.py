"""Sync: the server's folder follows the alias, and stays as it is when anything is wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_store.bundle import Bundle, open_bundle
from feature_store.errors import VersionMissingError
from feature_store.pointer import pointer_path, read_pointer
from feature_store.registry import ARTIFACTS, Registry, Version
from offline.__main__ import main
from offline.errors import BundleRefusedError, SyncError
from offline.sync import Follower, bundles_folder, sync
from tests.feature_store.registries import new_home, publish, write_bundle

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30


class World:
    """A home with a registry, to which bundles are published."""

    def __init__(self, folder: Path) -> None:
        self.home = new_home(folder)
        self.registry = Registry(self.home)
        self._written = folder / "written"

    def bundle(self, content: int) -> Bundle:
        return write_bundle(self._written, content)

    def publish(self, content: int, alias: str = "champion") -> Version:
        return publish(self.registry, self.bundle(content), alias)

    def publish_broken(self, content: int) -> Version:
        """A champion of which the registry has lost a file."""
        version = self.publish(content)
        place = self.home / ARTIFACTS / version.run_id / "artifacts/bundles" / version.bundle_id
        (place / "items" / "price.npy").unlink()
        return version

    def sync(self, alias: str = "champion", num_kept: int = 3) -> Bundle:
        """Sync, and open what the server would open."""
        sync(self.registry, self.home, alias, num_kept)
        return self.served(alias)

    def served(self, alias: str = "champion") -> Bundle:
        return open_bundle(read_pointer(self.home, alias).directory)

    def kept(self) -> set[str]:
        return {path.name for path in bundles_folder(self.home).iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_champion_is_brought_to_the_server(world: World) -> None:
    version = world.publish(1)
    pointer = sync(world.registry, world.home)
    assert read_pointer(world.home) == pointer
    assert (pointer.version, pointer.bundle_id) == (version.version, version.bundle_id)
    assert world.served().manifest == world.bundle(1).manifest


def test_nothing_is_written_when_nothing_has_moved(world: World) -> None:
    world.publish(1)
    world.sync()
    before = pointer_path(world.home).stat()
    world.sync()
    assert pointer_path(world.home).stat() == before


def test_the_pointer_follows_the_alias_there_and_back(world: World) -> None:
    first = world.publish(1)
    assert world.sync().bundle_id == first.bundle_id
    second = world.publish(2)
    assert world.sync().bundle_id == second.bundle_id
    world.registry.set_alias("champion", first)
    (world.home / ARTIFACTS).rename(world.home / "out of reach")
    assert world.sync().bundle_id == first.bundle_id


def test_a_broken_bundle_is_refused_and_the_pointer_stays(world: World) -> None:
    first = world.publish(1)
    world.sync()
    before = pointer_path(world.home).stat()
    second = world.publish_broken(2)
    told = f"version {second.version} is refused: .* version {first.version} stays"
    with pytest.raises(BundleRefusedError, match=told):
        world.sync()
    assert pointer_path(world.home).stat() == before
    assert world.kept() == {first.bundle_id}


def test_a_broken_first_bundle_leaves_no_pointer(world: World) -> None:
    world.publish_broken(1)
    with pytest.raises(BundleRefusedError, match="nothing serves yet"):
        world.sync()
    assert not pointer_path(world.home).exists()


def test_an_alias_that_is_gone_leaves_the_pointer(world: World) -> None:
    served = world.publish(1, alias="challenger")
    world.sync("challenger")
    with pytest.raises(VersionMissingError):
        world.sync("champion")
    assert world.served("challenger").bundle_id == served.bundle_id


def test_a_damaged_pointer_is_written_again(world: World) -> None:
    version = world.publish(1)
    world.sync()
    pointer_path(world.home).write_text("{")
    assert world.sync().bundle_id == version.bundle_id


def test_the_bundles_that_served_longest_ago_are_removed(world: World) -> None:
    challenger = world.publish(0, alias="challenger")
    world.sync("challenger")
    ids = []
    for content in (1, 2, 3, 4):
        ids.append(world.publish(content).bundle_id)
        world.sync(num_kept=3)
    assert world.kept() == {challenger.bundle_id, ids[2], ids[3]}
    world.sync("challenger", num_kept=1)
    assert world.kept() == {challenger.bundle_id, ids[3]}


def test_going_back_makes_a_bundle_young_again(world: World) -> None:
    versions = [world.publish(content) for content in (1, 2, 3)]
    for version in (*versions, versions[0]):
        world.registry.set_alias("champion", version)
        world.sync(num_kept=3)
    world.publish(4)
    world.sync(num_kept=2)
    assert world.kept() == {versions[0].bundle_id, world.served().bundle_id}


def test_what_a_killed_sync_left_is_removed(world: World) -> None:
    left = bundles_folder(world.home) / ".fetch-killed" / "bundles"
    left.mkdir(parents=True)
    version = world.publish(1)
    world.sync()
    assert world.kept() == {version.bundle_id}


def test_two_at_a_time_do_not_disturb_each_other(world: World) -> None:
    for number, alias in enumerate(("champion", "challenger")):
        world.publish(number, alias)
    failed: list[BaseException] = []

    def keep_syncing(alias: str) -> None:
        try:
            for _ in range(5):
                sync(Registry(world.home), world.home, alias, num_kept=1)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=keep_syncing, args=(a,)) for a in ("champion", "challenger")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert world.served("champion").bundle_id != world.served("challenger").bundle_id


def test_a_folder_that_cannot_be_written_is_said(world: World) -> None:
    world.publish(1)
    (world.home / "serving").write_text("in the way")
    with pytest.raises(SyncError, match="cannot be written"):
        world.sync()


def test_the_command_says_what_serves(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    version = world.publish(1)
    assert main(["sync", "--home", str(world.home)]) == 0
    assert capsys.readouterr().out.startswith(f"champion is version {version.version}, in ")


def test_the_command_fails_in_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "--home", str(world.home), "--alias", "nobody"]) == 1
    assert capsys.readouterr().err == (
        "error: no model has the alias nobody; train one with python -m offline train\n"
    )


@pytest.mark.parametrize("wrong", [("--watch", "0"), ("--watch", "nan"), ("--keep", "0")])
def test_senseless_options_are_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["sync", *wrong])


@contextmanager
def following(world: World) -> Iterator[None]:
    stop = threading.Event()
    follower = Follower(world.registry, world.home)
    thread = threading.Thread(target=follower.follow, args=(0.02, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def points_to(world: World, version: Version) -> bool:
    path = pointer_path(world.home)
    return path.exists() and read_pointer(world.home).version == version.version


def test_following_goes_where_the_alias_goes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = []

    def said(text: str) -> bool:
        errors.append(capsys.readouterr().err)
        return text in "".join(errors)

    with following(world):
        wait_until(lambda: said("no model has the alias champion"))
        first = world.publish(1)
        wait_until(lambda: points_to(world, first))
        broken = world.publish_broken(2)
        wait_until(lambda: said(f"version {broken.version} is refused"))
        assert points_to(world, first)
        third = world.publish(3)
        wait_until(lambda: points_to(world, third))
    said("")
    assert "".join(errors).count("\n") == 2, "each trouble is said once"


def test_watching_ends_with_sigterm(world: World) -> None:
    version = world.publish(1)
    command = [sys.executable, "-m", "offline", "sync", "--home", str(world.home), "--watch", "60"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert f"version {version.version}".encode() in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    assert points_to(world, version)
