"""Bring the bundle behind an alias to where the server reads it, once or again and again.

Resolves the alias in the registry, fetches the bundle into HOME/serving/bundles, verifies it,
and only then moves the pointer file that the server watches. Whatever fails, the pointer and
what it names stay. Bundles of the past are removed, but for the latest few: going back to one
of those needs no download.
"""

import argparse
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Final

from feature_store.errors import BundleError, FeatureStoreError, PointerError
from feature_store.pointer import (
    CHAMPION,
    Pointer,
    read_pointer,
    read_pointers,
    serving_folder,
    write_pointer,
)
from feature_store.registry import Registry, Version
from offline.errors import BundleRefusedError, SyncError
from offline.home import Home

NUM_KEPT: Final = 3
MAX_PERIOD_S: Final = 86_400


def sync(
    registry: Registry, home: Path, alias: str = CHAMPION, num_kept: int = NUM_KEPT
) -> Pointer:
    """Make `alias` on this machine what it is in the registry; returns the pointer to it.

    Keeps `num_kept` bundles, and every one that a pointer names. Raises RegistryError when the
    registry has no answer, BundleRefusedError when its bundle is broken, and SyncError when
    the folder cannot be written.
    """
    try:
        with _alone(home):
            pointer = _bring(registry, home, alias)
            _forget(home, num_kept)
            return pointer
    except OSError as error:
        raise SyncError(f"{serving_folder(home)} cannot be written: {error}") from error


def bundles_folder(home: Path) -> Path:
    """Where the bundles lie that pointers name."""
    return serving_folder(home) / "bundles"


@dataclass(slots=True)
class Follower:
    """Keeps a machine on an alias that moves."""

    registry: Registry
    home: Path
    alias: str = CHAMPION
    num_kept: int = NUM_KEPT
    _settled: Version | None = field(default=None, init=False)
    _said: str = field(default="", init=False)

    def follow(self, period_s: float, stop: Event) -> None:
        """Look every `period_s` seconds until `stop` is set; say what changed, once."""
        while not stop.is_set():
            try:
                self._look()
            except (FeatureStoreError, SyncError) as error:
                self._say(f"error: {error}")
            stop.wait(period_s)

    def _look(self) -> None:
        """Sync when the alias has moved. A broken bundle is not fetched twice."""
        version = self.registry.resolve(self.alias)
        if version == self._settled:
            return
        try:
            self._say(_report(sync(self.registry, self.home, self.alias, self.num_kept)))
        except BundleRefusedError:
            self._settled = version
            raise
        self._settled = version

    def _say(self, line: str) -> None:
        if line != self._said:
            print(line, file=sys.stderr if line.startswith("error") else sys.stdout, flush=True)
        self._said = line


def _bring(registry: Registry, home: Path, alias: str) -> Pointer:
    version = registry.resolve(alias)
    try:
        directory = registry.fetch(version, bundles_folder(home))
    except BundleError as error:
        raise BundleRefusedError(
            f"version {version.version} is refused: {error}; {_what_stays(home, alias)}"
        ) from error
    pointer = Pointer(alias, version.version, version.bundle_id, directory)
    if pointer != _current(home, alias):
        os.utime(directory)  # the order in which bundles came to serve
        write_pointer(home, pointer)
    return pointer


def _forget(home: Path, num_kept: int) -> None:
    """Remove what interrupted runs left, and the bundles that served longest ago."""
    folder = bundles_folder(home)
    for draft in folder.glob(".*"):
        shutil.rmtree(draft)
    named = {pointer.directory.name for pointer in read_pointers(home)}
    spare = [path for path in folder.iterdir() if path.name not in named]
    spare.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in spare[max(0, num_kept - len(named)) :]:
        shutil.rmtree(path.rename(path.with_name(f".old-{path.name}")))


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One sync of a home at a time: none removes what another is about to name."""
    folder = bundles_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _current(home: Path, alias: str) -> Pointer | None:
    try:
        return read_pointer(home, alias)
    except PointerError:
        return None


def _what_stays(home: Path, alias: str) -> str:
    current = _current(home, alias)
    return "nothing serves yet" if current is None else f"version {current.version} stays"


def _report(pointer: Pointer) -> str:
    return f"{pointer.alias} is version {pointer.version}, in {pointer.directory}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline sync`."""
    Home.add_arguments(parser)
    parser.add_argument("--alias", default=CHAMPION, help="alias to follow (default: %(default)s)")
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="look again so often, until stopped (default: look once)",
    )
    parser.add_argument(
        "--keep",
        type=_count,
        default=NUM_KEPT,
        metavar="N",
        help="bundles to keep for going back (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Look once, or watch until SIGTERM or SIGINT."""
    home = Home.from_arguments(args)
    registry = Registry(home.path, home.tracking_uri)
    if args.watch is None:
        print(_report(sync(registry, home.path, args.alias, args.keep)))
        return 0
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Follower(registry, home.path, args.alias, args.keep).follow(args.watch, stop)
    return 0


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= MAX_PERIOD_S:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {MAX_PERIOD_S}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
