"""Files that survive a power cut: whole and new, or whole and old, never between.

A rename is atomic, but says nothing of what reached the disk before it: so everything is
flushed first. It knows files, not what they hold.
"""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, readable by everybody, so that a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o644)
            file.flush()
            os.fsync(descriptor)
        Path(draft).rename(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    flush(path.parent)


def move_tree(source: Path, target: Path) -> None:
    """Rename a directory to `target`, on the same disk and free, once all its files are flushed."""
    for path in source.rglob("*"):
        flush(path)
    flush(source)
    source.rename(target)
    flush(target.parent)


def flush(path: Path) -> None:
    """Force a file's content, or a directory's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
