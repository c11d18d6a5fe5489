"""A disk that loses power: keeps of each SQLite file only what SQLite has synced.

SQLite reaches the disk through a table of functions (its VFS, see sqlite.org/vfs.html).
`record_syncs` puts our own `xSync` in front of the real one; after each real sync, the file is
copied to another directory. What lies there is what a power cut would leave at the worst:
nothing that was written without being synced.
"""

import _sqlite3
import ctypes
import shutil
from pathlib import Path
from typing import Any

_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """The beginning of struct sqlite3_vfs; the rest is copied as it is."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("max_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", _OPEN),
        ("delete", _DELETE),
        ("others", ctypes.c_void_p * 14),
    ]


class _Methods(ctypes.Structure):
    """struct sqlite3_io_methods, of which only one function concerns us."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("before", ctypes.c_void_p * 4),
        ("sync", _SYNC),
        ("after", ctypes.c_void_p * 13),
    ]


class _File(ctypes.Structure):
    """struct sqlite3_file."""

    _fields_ = [("methods", ctypes.POINTER(_Methods))]


_alive: list[Any] = []
"""What SQLite points to must never be collected."""


def library() -> ctypes.CDLL | None:
    """The SQLite that Python's sqlite3 uses; None where it shows no functions."""
    found = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    return found if hasattr(found, "sqlite3_vfs_register") else None


def record_syncs(disk: Path) -> None:
    """From now on, copy every file that this process's SQLite syncs to `disk`."""
    sqlite = library()
    assert sqlite is not None
    sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    real = sqlite.sqlite3_vfs_find(None).contents
    here = ctypes.addressof(real)

    def open_file(_: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        status = int(real.open(here, name, file, flags, out))
        if status == 0 and name is not None:
            _intercept(file, _path(name), disk)
        return status

    def delete_file(_: int, name: int, sync_directory: int) -> int:
        status = int(real.delete(here, name, sync_directory))
        (disk / _path(name).name).unlink(missing_ok=True)
        return status

    ours = _Vfs.from_buffer_copy(real)
    ours.name, ours.open, ours.delete = b"recording", _OPEN(open_file), _DELETE(delete_file)
    _alive.append(ours)
    sqlite.sqlite3_vfs_register(ctypes.byref(ours), 1)


def _path(name: int) -> Path:
    return Path(ctypes.string_at(name).decode())


def _intercept(file: int, path: Path, disk: Path) -> None:
    handle = _File.from_address(file)
    real = handle.methods.contents

    def sync(opened: int, flags: int) -> int:
        status = int(real.sync(opened, flags))
        if status == 0:
            shutil.copy(path, disk / path.name)
        return status

    ours = _Methods.from_buffer_copy(real)
    ours.sync = _SYNC(sync)
    _alive.append(ours)
    handle.methods = ctypes.pointer(ours)
