"""Columns with room behind the rows of a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from feature_store.room import Room

ROOM = 100


@pytest.mark.parametrize("num_rows", [0, 1, 31, 1_000, 40_000])
@pytest.mark.parametrize(("dtype", "width"), [(np.float32, (7,)), (np.int64, ()), (np.bool_, ())])
def test_the_rows_of_the_file_come_first(
    tmp_path: Path, num_rows: int, dtype: type, width: tuple[int, ...]
) -> None:
    path = tmp_path / "column.npy"
    kept: NDArray[Any] = (np.random.default_rng(3).random((num_rows, *width)) * 100).astype(dtype)
    np.save(path, kept)
    room = Room(ROOM)
    column = room.column("one", path)
    assert column.shape == (num_rows + ROOM, *width)
    assert column.dtype == dtype
    assert (column[:num_rows] == kept).all()
    assert not column[num_rows:].any()


def test_what_is_written_to_the_room_is_read_in_the_column_and_never_in_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "column.npy"
    kept = np.arange(5_000, dtype=np.int32)
    np.save(path, kept)
    before = path.read_bytes()
    room = Room(ROOM)
    column = room.column("one", path)
    room.tail("one")[:3] = [7, 8, 9]
    assert column[[0, 4_999, 5_000, 5_002, 5_003]].tolist() == [0, 4_999, 7, 9, 0]
    assert room.column("one", path) is column
    assert Room(ROOM).column("one", path)[5_000] == 0
    assert path.read_bytes() == before


def test_the_column_itself_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "column.npy"
    np.save(path, np.zeros(10))
    column = Room(ROOM).column("one", path)
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1.0


def test_the_rows_live_as_long_as_somebody_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "column.npy"
    np.save(path, np.arange(100_000))
    rows = Room(ROOM).column("one", path)[99_990:100_010]
    assert rows.tolist() == [*range(99_990, 100_000), *[0] * 10]
