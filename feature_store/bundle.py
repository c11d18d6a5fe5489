"""The bundle: the only thing that passes from offline to online.

A directory of data, never code and never pickle: `manifest.json` (`aisle.bundle.v1.Manifest`)
beside `.npy` arrays, FAISS indexes, ONNX models and text. It is written to a temporary
directory, verified, then renamed: whole or absent, and immutable afterwards. This module is
the one writer and the one reader. It knows files and checksums, not what a model means.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from aisle.bundle.v1 import bundle_pb2
from feature_store.checksums import MANIFEST, sha256, verify_files
from feature_store.errors import BundleCorruptError, UnknownFormatError
from feature_store.room import Room
from feature_store.state import STATE_LAYOUT

FORMAT_VERSION: Final = 2
"""One more with every part that this code cannot do without and an older bundle lacks."""


class StringTable:
    """Immutable strings as one memory-mapped blob, so that millions cost no Python objects."""

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """`blob` holds the UTF-8 bytes end to end, `ends[i]` is where string i ends."""
        self._blob = memoryview(np.ascontiguousarray(blob).data).cast("B")
        self._ends = np.ascontiguousarray(ends, np.int64).data

    def __len__(self) -> int:
        """The number of strings."""
        return len(self._ends)

    def __getitem__(self, position: int) -> str:
        """String number `position`, counted from 0."""
        start = self._ends[position - 1] if position else 0
        return str(self._blob[start : self._ends[position]], "utf-8")

    def tolist(self) -> list[str]:
        """All strings, for work that is not on a request's path."""
        return [self[position] for position in range(len(self))]


def string_table(values: Iterable[str]) -> StringTable:
    """A string table that lies in memory alone."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
    return StringTable(np.frombuffer(b"".join(encoded), np.uint8), ends)


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle. Arrays are memory-mapped and read-only.

    With a `room` its columns have rows for items that come after it was made.
    """

    directory: Path
    manifest: bundle_pb2.Manifest
    room: Room | None = None

    @property
    def bundle_id(self) -> str:
        """Names the content: two bundles of one role, horizon and content have the same."""
        return self.manifest.bundle_id

    @property
    def horizon_time(self) -> int:
        """The instant up to which the bundle has seen data, microseconds UTC."""
        return self.manifest.horizon_time.ToMicroseconds()

    def __contains__(self, name: object) -> bool:
        """Whether the bundle holds an array of that name."""
        return f"{name}.npy" in self.manifest.files

    def array(self, name: str) -> NDArray[Any]:
        """The array called `name`; BundleCorruptError when the bundle has none."""
        # A plain view of the map: indexing np.memmap itself costs 2.5 us each time.
        return np.asarray(np.load(self.path(f"{name}.npy"), mmap_mode="r", allow_pickle=False))

    def column(self, name: str) -> NDArray[Any]:
        """The array called `name`, which has one row a product, and the rows of the room."""
        if self.room is None:
            return self.array(name)
        return self.room.column(name, self.path(f"{name}.npy"))

    def strings(self, name: str) -> StringTable:
        """The string table called `name`."""
        return StringTable(self.array(f"{name}.blob"), self.array(f"{name}.ends"))

    def path(self, file: str) -> Path:
        """Where a file of the bundle lies; BundleCorruptError when the manifest lacks it."""
        if file not in self.manifest.files:
            raise BundleCorruptError(f"bundle {self.directory} has no file {file}; train it again")
        return self.directory / file

    def json(self, file: str) -> Any:
        """The parsed content of a JSON file."""
        return json.loads(self.path(file).read_bytes())


def open_bundle(directory: Path, *, verify: bool = True, num_room: int = 0) -> Bundle:
    """Open a bundle; with `verify`, compare every file's size and SHA-256 with the manifest.

    `num_room` is how many rows its columns have for items that are not in it.

    Raises UnknownFormatError for a format that this code does not read, BundleCorruptError for
    a missing, altered or unreadable file.
    """
    manifest = _read_manifest(directory)
    if manifest.format_version != FORMAT_VERSION:
        raise UnknownFormatError(
            f"bundle {directory} has format {manifest.format_version}, this code reads "
            f"{FORMAT_VERSION}; train again, or deploy the code that wrote it"
        )
    if verify:
        verify_files(directory)
    return Bundle(directory, manifest, Room(num_room) if num_room else None)


def _read_manifest(directory: Path) -> bundle_pb2.Manifest:
    try:
        text = (directory / MANIFEST).read_text()
        return json_format.Parse(text, bundle_pb2.Manifest(), ignore_unknown_fields=True)
    except FileNotFoundError:
        raise BundleCorruptError(f"{directory} is not a bundle: it has no {MANIFEST}") from None
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise BundleCorruptError(f"{directory / MANIFEST} is damaged: {error}") from error


@dataclass(slots=True)
class BundleWriter:
    """Collects files in a temporary directory; `commit` makes them a bundle.

    Use it as a context manager: leaving without `commit` removes what was written.
    """

    parent: Path
    _draft: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the draft directory beside the final one, so that the rename is atomic."""
        self.parent.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.parent))

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the draft if it was not committed."""
        shutil.rmtree(self._draft, ignore_errors=True)

    def array(self, name: str, values: NDArray[Any]) -> None:
        """Write an array; object arrays are refused by NumPy (ValueError)."""
        np.save(self._file(f"{name}.npy"), np.ascontiguousarray(values), allow_pickle=False)

    def strings(self, name: str, values: Iterable[str]) -> None:
        """Write a string table."""
        encoded = [value.encode() for value in values]
        self.array(f"{name}.blob", np.frombuffer(b"".join(encoded), np.uint8))
        self.array(f"{name}.ends", np.cumsum([len(value) for value in encoded], dtype=np.int64))

    def data(self, file: str, content: bytes) -> None:
        """Write a file as it is."""
        self._file(file).write_bytes(content)

    def json(self, file: str, value: Any) -> None:
        """Write a JSON file."""
        self.data(file, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode())

    def file(self, file: str) -> Path:
        """A path to which a library writes a file of its own."""
        return self._file(file)

    def commit(
        self,
        *,
        horizon_time: int,
        seed: int,
        recipe: Mapping[str, Any],
        role: bundle_pb2.Role.ValueType,
        num_items: Mapping[str, int],
        code_revision: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> Bundle:
        """Write the manifest, flush all files to disk and rename the draft to its id.

        `metrics` are what the run measured; they are no part of the id.
        """
        manifest = bundle_pb2.Manifest(
            format_version=FORMAT_VERSION,
            feature_schema_version=STATE_LAYOUT,
            seed=seed,
            role=role,
            num_items=num_items,
            code_revision=code_revision,
            metrics=metrics,
        )
        manifest.create_time.FromDatetime(datetime.now(UTC))
        manifest.horizon_time.FromMicroseconds(horizon_time)
        manifest.recipe.update(recipe)
        self._describe_files(manifest)
        (self._draft / MANIFEST).write_text(json_format.MessageToJson(manifest, indent=2))
        return self._publish(manifest)

    def _file(self, name: str) -> Path:
        path = self._draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _describe_files(self, manifest: bundle_pb2.Manifest) -> None:
        digest = hashlib.sha256(f"{manifest.role} {manifest.horizon_time.seconds}\n".encode())
        for path in sorted(path for path in self._draft.rglob("*") if path.is_file()):
            name, checksum = path.relative_to(self._draft).as_posix(), sha256(path)
            manifest.files[name].sha256 = checksum
            manifest.files[name].size_bytes = path.stat().st_size
            digest.update(f"{name} {checksum}\n".encode())
        manifest.bundle_id = digest.hexdigest()[:16]

    def _publish(self, manifest: bundle_pb2.Manifest) -> Bundle:
        for path in self._draft.rglob("*"):
            _flush(path)
        _flush(self._draft)
        target = self.parent / manifest.bundle_id
        if target.exists():
            return open_bundle(target)  # the same content is there already
        self._draft.chmod(0o755)
        self._draft.rename(target)
        _flush(self.parent)
        return Bundle(target, manifest)


def _flush(path: Path) -> None:
    """Force a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
