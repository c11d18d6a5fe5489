"""Events cut by user into files: how work on all users gets by with the memory for a few.

Rows are spread over files by the first bits of the user's pseudonym, each file is then sorted
by user and read in chunks of users. Pseudonyms are hashes, so the files are of one size, and
the users come in the order of their keys. It knows rows, and no store.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.features import EventBatch
from feature_store.ids import hash64_many
from feature_store.schema import CORPORA, EVENT_KIND_CODE

ROWS_PER_FILE: Final = 2_000_000
USERS_AT_ONCE: Final = 2_000
OWNER: Final = "owner"

ROW_DTYPE: Final = np.dtype(
    [
        ("owner", ">u8", (4,)),  # the 32 bytes of the pseudonym
        ("time", "<i8"),
        ("event", "<u8"),
        ("item", "<u8"),
        ("basket", "<u8"),
        ("quantity", "<f4"),
        ("price", "<f4"),
        ("kind", "<i2"),
        ("corpus", "<i2"),
    ]
)
"""An event of a user, its ids as keys: what `features.EventBatch` holds in columns."""

Rows = NDArray[np.void]


def rows_of(events: pl.DataFrame) -> Rows:
    """Canonical event rows with a column `owner`, a pseudonym in hexadecimal."""
    kinds = pl.col("kind").replace_strict(EVENT_KIND_CODE, return_dtype=pl.Int16)
    corpora = {corpus.value: code for code, corpus in enumerate(CORPORA)}
    corpus = pl.col("corpus").fill_null("product").replace_strict(corpora, return_dtype=pl.Int16)
    owner = pl.col(OWNER).str.decode("hex")
    codes = events.select(kinds, corpus, owner, pl.col("quantity", "price").fill_null(0.0))
    rows = np.empty(len(events), ROW_DTYPE)
    pseudonyms = b"".join(codes[OWNER].to_list())
    rows["owner"] = np.frombuffer(pseudonyms, ">u8").reshape(-1, 4)
    rows["time"] = events["event_time"].dt.epoch("us").to_numpy()
    rows["event"] = hash64_many(events["event_id"].to_list())
    rows["item"] = _keys(events["item"])
    rows["basket"] = _keys(events["basket"])
    for name in ("kind", "corpus", "quantity", "price"):
        rows[name] = codes[name].to_numpy()
    return rows


def _keys(ids: pl.Series) -> NDArray[np.uint64]:
    """The 64-bit key of each id, 0 where there is none; each distinct id is hashed once."""
    if ids.null_count() == len(ids):
        return np.zeros(len(ids), np.uint64)
    distinct = ids.unique()
    keys = hash64_many(distinct.fill_null("").to_list())
    keys[(distinct.fill_null("") == "").to_numpy()] = 0
    table = pl.DataFrame({"id": distinct, "key": keys})
    matched = pl.DataFrame({"id": ids}).join(
        table, on="id", how="left", maintain_order="left", nulls_equal=True
    )
    result: NDArray[np.uint64] = matched["key"].to_numpy().astype(np.uint64)
    return result


def num_files(num_rows: int) -> int:
    """Into how many files so many rows are spread: a power of two."""
    return 1 << max(0, (-(-num_rows // ROWS_PER_FILE) - 1)).bit_length()


def spread(
    parts: Iterable[Rows], folder: Path, number: int, advance: Callable[[int], None]
) -> None:
    """Write rows into `number` files (a power of two) by owner, in the order in which they come."""
    with ExitStack() as stack:
        files = [stack.enter_context(part_path(folder, i).open("wb")) for i in range(number)]
        for rows in parts:
            place = _file_of(rows, number)
            order = np.argsort(place, kind="stable")
            ends = np.searchsorted(place[order], np.arange(number), side="right")
            start = 0
            for file, end in zip(files, ends.tolist(), strict=True):
                rows[order[start:end]].tofile(file)
                start = end
            advance(len(rows))


def part_path(folder: Path, number: int) -> Path:
    """Where the file of that number lies."""
    return folder / f"users-{number:05}.rows"


def users_of(path: Path) -> Iterator[tuple[list[bytes], EventBatch]]:
    """Chunks of a file: the pseudonyms of some users, in order, and all their events there.

    The same file gives the same chunks. The events of a user come in the order in which they
    were written.
    """
    rows = np.fromfile(path, ROW_DTYPE)
    rows = rows[_by_owner(rows["owner"].astype(np.uint64))]
    starts = np.flatnonzero(_begins(rows["owner"]))
    ends = np.append(starts, len(rows))
    for first in range(0, len(starts), USERS_AT_ONCE):
        last = min(first + USERS_AT_ONCE, len(starts))
        part = rows[ends[first] : ends[last]]
        owner = np.repeat(np.arange(last - first), np.diff(ends[first : last + 1]))
        users = rows["owner"][starts[first:last]].tobytes()
        yield [users[i : i + 32] for i in range(0, len(users), 32)], batch_of(part, owner)


def batch_of(rows: Rows, owner: NDArray[np.int64]) -> EventBatch:
    """Rows as columns, `owner` being the position of each one's user."""
    columns: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(rows[name]) for name in ROW_DTYPE.names or () if name != OWNER
    }
    return EventBatch(owner=owner, **columns)


def _file_of(rows: Rows, number: int) -> NDArray[np.int64]:
    bits = number.bit_length() - 1
    first = rows["owner"][:, 0].astype(np.uint64)
    shifted = first >> np.uint64(64 - bits) if bits else np.zeros(len(rows))
    return shifted.astype(np.int64)


def _by_owner(owner: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The order by owner, stable. Two pseudonyms hardly ever agree in their first 64 bits."""
    order = np.argsort(owner[:, 0], kind="stable")
    same = owner[order[1:], 0] == owner[order[:-1], 0]
    if (owner[order[1:]][same] == owner[order[:-1]][same]).all():
        return order
    return np.lexsort(owner.T[::-1])


def _begins(owner: NDArray[np.uint64]) -> NDArray[np.bool_]:
    begins = np.ones(len(owner), bool)
    begins[1:] = (owner[1:] != owner[:-1]).any(axis=1)
    return begins
