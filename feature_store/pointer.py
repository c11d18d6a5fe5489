"""The pointer: which bundle this machine serves under an alias.

`python -m offline sync` writes it after it has verified a bundle, the serving supervisor
watches it: so the service follows the registry without ever loading MLflow. One small JSON
file an alias, `HOME/serving/ALIAS.json`, beside the bundles, which it names relative to
itself: the folder may be mounted anywhere. It knows no registry and opens no bundle.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from feature_store.durable import replace_file
from feature_store.errors import PointerError

CHAMPION: Final = "champion"
SERVING: Final = "serving"
_ALIAS: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Pointer:
    """The bundle behind an alias: where it lies, its id and its version in the registry."""

    alias: str
    version: int
    bundle_id: str
    directory: Path


def serving_folder(home: Path) -> Path:
    """Where the pointers lie, and below it the bundles that they name."""
    return home / SERVING


def pointer_path(home: Path, alias: str = CHAMPION) -> Path:
    """The pointer file of an alias; PointerError when the alias cannot be a file's name."""
    if not _ALIAS.fullmatch(alias):
        raise PointerError(f"{alias!r} is no alias: use letters, digits, - and _ only")
    return serving_folder(home) / f"{alias}.json"


def read_pointer(home: Path, alias: str = CHAMPION) -> Pointer:
    """The bundle to serve under `alias`; PointerError when the file is absent or damaged."""
    path = pointer_path(home, alias)
    try:
        fields = json.loads(path.read_bytes())
        return Pointer(
            alias=str(fields["alias"]),
            version=int(fields["version"]),
            bundle_id=str(fields["bundle_id"]),
            directory=path.parent / fields["directory"],
        )
    except FileNotFoundError:
        raise PointerError(
            f"there is no {path}: run python -m offline sync --alias {alias}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise PointerError(
            f"{path} is damaged: run python -m offline sync --alias {alias}"
        ) from error


def read_pointers(home: Path) -> list[Pointer]:
    """Every readable pointer, by alias."""
    pointers = []
    for path in sorted(serving_folder(home).glob("*.json")):
        try:
            pointers.append(read_pointer(home, path.stem))
        except PointerError:
            continue  # it names no bundle that anybody could open
    return pointers


def write_pointer(home: Path, pointer: Pointer) -> Path:
    """Make `pointer` the one of its alias, atomically; the bundle lies below the pointers.

    Raises PointerError when it lies elsewhere.
    """
    path = pointer_path(home, pointer.alias)
    try:
        directory = pointer.directory.resolve().relative_to(path.parent.resolve())
    except ValueError:
        raise PointerError(f"{pointer.directory} does not lie in {path.parent}") from None
    fields = {
        "alias": pointer.alias,
        "version": pointer.version,
        "bundle_id": pointer.bundle_id,
        "directory": directory.as_posix(),
    }
    replace_file(path, json.dumps(fields, indent=2).encode() + b"\n")
    return path
