"""Whether a bundle's files are what its manifest says, told without loading any of them.

Verifying is hashing: who only does that, such as the process that supervises the serving ones,
needs neither NumPy nor protobuf. It knows the manifest as JSON, and no file from inside.
"""

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from feature_store.errors import BundleCorruptError

MANIFEST: Final = "manifest.json"
NUM_THREADS: Final = 2


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_files(directory: Path, niceness: int = 0) -> str:
    """Compare every file's size and SHA-256 with the manifest; the bundle's id.

    `niceness` above 0 lets other work go first. Raises BundleCorruptError for a missing,
    altered or unreadable file.
    """
    manifest = _read(directory)
    try:
        files = [
            (directory / name, int(entry.get("sizeBytes", 0)), entry.get("sha256", ""))
            for name, entry in manifest.get("files", {}).items()
        ]
        files.sort(key=lambda file: -file[1])
        with ThreadPoolExecutor(NUM_THREADS, initializer=_yield, initargs=(niceness,)) as pool:
            list(pool.map(lambda file: _verify(*file), files))
        return str(manifest["bundleId"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleCorruptError(f"{directory / MANIFEST} is damaged: {error}") from error


def _read(directory: Path) -> dict[str, dict[str, dict[str, str]]]:
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise BundleCorruptError(f"{directory} is not a bundle: it has no {MANIFEST}") from None
    except ValueError as error:
        raise BundleCorruptError(f"{directory / MANIFEST} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise BundleCorruptError(f"{directory / MANIFEST} is damaged: it is no JSON object")
    return manifest


def _yield(niceness: int) -> None:
    """Lower the priority of this thread; for good, so it must be one that ends."""
    if niceness:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def _verify(path: Path, size_bytes: int, checksum: str) -> None:
    if not path.is_file() or path.stat().st_size != size_bytes:
        raise BundleCorruptError(f"{path} is missing or cut short; fetch the bundle again")
    if sha256(path) != checksum:
        raise BundleCorruptError(f"{path} does not match its checksum; fetch the bundle again")
