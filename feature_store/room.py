"""Columns of a file with room for more rows behind them, in one piece of memory.

What is learned lies in files that never change, and a shop adds items between two trainings. Here
the file's pages are mapped first, shared by all processes, and private memory follows directly
after them: one ordinary array, whose rows are read as fast as before. A row of the room costs no
memory before it is written. It knows bytes and rows, and not what they mean.
"""

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import BundleError

MAP_FIXED: Final = 0x10
"""The same number on every processor that Linux runs on, but for four that are not made any more;
`mmap` does not name it."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
)


class Room:
    """The columns of one bundle that have room for `num_rows` more items.

    Rows of the room are written before anybody is told their index, and read by many threads.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self._columns: dict[str, NDArray[Any]] = {}
        self._tails: dict[str, NDArray[Any]] = {}

    def __contains__(self, name: object) -> bool:
        """Whether that column was opened."""
        return name in self._columns

    def column(self, name: str, path: Path) -> NDArray[Any]:
        """The rows of a .npy file and after them the room, not to be written to.

        Raises BundleError when the memory cannot be mapped.
        """
        if name not in self._columns:
            everything, num_kept = _with_room(path, self.num_rows)
            self._tails[name] = everything[num_kept:]
            everything = everything.view()
            everything.flags.writeable = False
            self._columns[name] = everything
        return self._columns[name]

    def tail(self, name: str) -> NDArray[Any]:
        """The room of an opened column, to be written to; zeros at first."""
        return self._tails[name]


def _with_room(path: Path, num_rows: int) -> tuple[NDArray[Any], int]:
    """The array of a file with as many rows more, and how many rows the file has."""
    kept = np.load(path, mmap_mode="r", allow_pickle=False)
    shape = (len(kept) + num_rows, *kept.shape[1:])
    num_bytes = kept.offset + kept.itemsize * int(np.prod(shape))
    num_file_bytes = kept.offset + kept.nbytes
    region = mmap.mmap(-1, max(num_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(region, np.uint8)
    num_mapped = num_file_bytes // mmap.PAGESIZE * mmap.PAGESIZE
    with path.open("rb") as file:
        if num_mapped:
            _lay_over(memory.ctypes.data, num_mapped, file.fileno())
        rest = os.pread(file.fileno(), num_file_bytes - num_mapped, num_mapped)
    memory[num_mapped:num_file_bytes] = np.frombuffer(rest, np.uint8)
    count = int(np.prod(shape))
    flat = np.frombuffer(region, kept.dtype, offset=kept.offset, count=count)
    return flat.reshape(shape), len(kept)


def _lay_over(address: int, num_bytes: int, descriptor: int) -> None:
    """Map a file's first pages over memory that is ours; it goes when that memory goes."""
    flags = mmap.MAP_PRIVATE | MAP_FIXED
    got = _LIBC.mmap(address, num_bytes, mmap.PROT_READ, flags, descriptor, 0)
    if got != address:
        raise BundleError(f"cannot map a bundle's file: {os.strerror(ctypes.get_errno())}")
