"""The rules for keys and values that all stores share, so that they refuse the same things."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

Record: TypeAlias = tuple[bytes, bytes]
Values: TypeAlias = list[bytes | None]
Change: TypeAlias = Callable[[Values], Values]

MAX_KEY_BYTES: Final = 511
"""LMDB's limit, kept by every store so that data can move between them."""

BATCH_RECORDS: Final = 10_000
BATCH_BYTES: Final = 16 << 20


def check_keys(keys: Sequence[bytes]) -> None:
    """Raises ValueError when a key is empty or too long for some store."""
    for key in keys:
        if not 0 < len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a key must have 1 to {MAX_KEY_BYTES} bytes, not {len(key)}")


def check_distinct(keys: Sequence[bytes]) -> None:
    """Raises ValueError when a key is given twice, or cannot be kept."""
    check_keys(keys)
    if len(set(keys)) != len(keys):
        raise ValueError("the keys of one update must be distinct")


def differences(keys: Sequence[bytes], old: Values, new: Values) -> dict[bytes, bytes | None]:
    """What must be written so that `new` replaces `old`; None: delete.

    Raises ValueError when the change returned another number of values than it was given.
    """
    if len(new) != len(keys):
        raise ValueError(f"change must return {len(keys)} values, not {len(new)}")
    pairs = zip(keys, old, new, strict=True)
    return {key: after for key, before, after in pairs if after is not before and after != before}


def batches(
    records: Iterable[Record],
    max_records: int = BATCH_RECORDS,
    max_bytes: int = BATCH_BYTES,
) -> Iterator[list[Record]]:
    """Lists of at most `max_records` records that end once they hold `max_bytes`."""
    batch: list[Record] = []
    num_bytes = 0
    for key, value in records:
        check_keys((key,))
        batch.append((key, value))
        num_bytes += len(key) + len(value)
        if len(batch) >= max_records or num_bytes >= max_bytes:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
