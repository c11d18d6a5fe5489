"""Features as they were served, kept in files so that they can be computed again and compared.

Each worker appends to a file of its own, from a thread of its own: an answer waits for nothing.
When the thread cannot keep up or the file is full, samples are dropped, never answers. It knows
bytes and arrays, not what the features mean.
"""

import json
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_store.alone import alone_with
from feature_store.errors import FeatureStoreError

PARITY_FOLDER: Final = "parity"
"""Below the home."""

SUFFIX: Final = ".served"
MAX_WAITING: Final = 1_000
MAX_FILE_BYTES: Final = 1 << 30

_LENGTHS: Final = struct.Struct("<4sIII")
_MAGIC: Final = b"srv1"


@dataclass(frozen=True, slots=True)
class Served:
    """One answer's features, and what they were computed from.

    `request` is the request as JSON values. `last_event` is the key of the event that the
    user's state took in last (0: none), `num_events` how many it had taken in: they say what
    was known, whatever the clocks say. `read_time` is the wall clock's, microseconds UTC.
    `items` are indexes of the bundle `model_version`, shape (n,); `features` has shape
    (n, features).
    """

    request: Mapping[str, Any]
    read_time: int
    last_event: int
    num_events: int
    model_version: str
    items: NDArray[np.int32]
    features: NDArray[np.float32]

    def encode(self) -> bytes:
        """The record as it is kept."""
        about = {
            "request": self.request,
            "read_time": self.read_time,
            "last_event": self.last_event,
            "num_events": self.num_events,
            "model_version": self.model_version,
        }
        text = json.dumps(about).encode()
        head = _LENGTHS.pack(_MAGIC, len(text), *self.features.shape)
        return b"".join((head, text, self.items.tobytes(), self.features.tobytes()))


class ServedLog:
    """The file of one worker. `keep` may be called by any thread and never waits."""

    def __init__(self, directory: Path, worker: int) -> None:
        """Open the worker's file, making it when absent."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"worker-{worker:03}{SUFFIX}"
        _drop_cut_record(path)
        self._file: BinaryIO = path.open("ab")
        self._waiting: Queue[Served | None] = Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="served", daemon=True)
        self._thread.start()

    def keep(self, served: Served) -> None:
        """Write this soon, or drop it."""
        try:
            self._waiting.put_nowait(served)
        except Full:
            return

    def close(self) -> None:
        """Write what waits and let go of the file."""
        self._waiting.put(None)
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        while (served := self._waiting.get()) is not None:
            if self._file.tell() < MAX_FILE_BYTES:
                with alone_with(self._file):
                    self._file.write(served.encode())
                    self._file.flush()


def read_served(directory: Path) -> Iterator[Served]:
    """All records in a folder; one that a crash cut short ends its file.

    Raises FeatureStoreError for a file that is something else.
    """
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with path.open("rb") as file:
            yield from (served for served, _ in _records(file))


class Place(NamedTuple):
    """Where a record lies, and of whom and of which bundle it is."""

    user: str
    model_version: str
    path: Path
    offset: int

    def read(self) -> Served:
        """The record."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return next(_records(file))[0]


def places(directory: Path) -> list[Place]:
    """Where all records in a folder lie; features are larger than what can be held at once.

    Raises FeatureStoreError for a file that is something else.
    """
    found = []
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        start = 0
        with path.open("rb") as file:
            for served, end in _records(file):
                user, version = served.request["user"], served.model_version
                found.append(Place(user, version, path, start))
                start = end
    return found


def forget(directory: Path, is_erased: Callable[[bytes], bool]) -> int:
    """Remove what was served to these users, given by pseudonym; how many records it was.

    Servers may go on writing: a record of a file is either there before or comes after.
    """
    num_removed = 0
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with path.open("r+b") as file, alone_with(file):
            records = [served for served, _ in _records(file)]
            kept = [one for one in records if not is_erased(bytes.fromhex(one.request["user"]))]
            if len(kept) < len(records):
                num_removed += len(records) - len(kept)
                file.seek(0)
                file.write(b"".join(one.encode() for one in kept))
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
    return num_removed


def _records(file: BinaryIO) -> Iterator[tuple[Served, int]]:
    """Records and where each ends."""
    while len(head := file.read(_LENGTHS.size)) == _LENGTHS.size:
        magic, num_text, num_items, num_features = _LENGTHS.unpack(head)
        if magic != _MAGIC:
            raise FeatureStoreError(f"{file.name} holds no served features; move it away")
        body = file.read(num_text + 4 * num_items * (1 + num_features))
        if len(body) < num_text + 4 * num_items * (1 + num_features):
            return
        items = np.frombuffer(body, np.int32, num_items, num_text)
        values = np.frombuffer(body, np.float32, -1, num_text + 4 * num_items)
        about = json.loads(body[:num_text])
        yield Served(**about, items=items, features=values.reshape(-1, num_features)), file.tell()


def _drop_cut_record(path: Path) -> None:
    """Cut off what a crash left half written, so that what is appended can be read."""
    if path.exists():
        with path.open("r+b") as file:
            ends = [end for _, end in _records(file)]
            file.truncate(ends[-1] if ends else 0)
