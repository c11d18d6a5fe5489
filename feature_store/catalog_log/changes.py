"""A change of a product as it is kept, and what two changes of one product make together.

Fields are called as in the canonical table of products, with `list_price` and `num_in_stock`
beside them. It knows no storage and no bundle.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NO_KEYS: Final = np.zeros(0, np.uint64)
NO_WEIGHTS: Final = np.zeros(0, np.float32)

TAKEN_IN_FILE: Final = "catalog.json"
"""The file of a bundle that names the newest change it has taken in: `{"sequence": ...}`."""


class Outcome(StrEnum):
    """What became of a change."""

    CREATED = "created"
    UPDATED = "updated"
    UNTITLED = "untitled"
    """A product that is not there was to be changed, and the change has no title for a new one."""
    DELETED = "deleted"
    MISSING = "missing"
    """There was nothing to delete."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a text encoder made of a product, and which products are most like it.

    `vector` has length 1 and belongs to the space called `space`; "" and no entries where there
    was no encoder. `keys` are the 64-bit keys of the neighbours, `weights` add up to 1.
    """

    space: str = ""
    vector: NDArray[np.float32] = field(default_factory=lambda: NO_WEIGHTS)
    keys: NDArray[np.uint64] = field(default_factory=lambda: NO_KEYS)
    weights: NDArray[np.float32] = field(default_factory=lambda: NO_WEIGHTS)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What the shop says of a product.

    `fields` are all that there is to know when `is_whole`, else those to change; None clears one.
    """

    item: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_whole: bool = True
    is_deleted: bool = False
    reading: Reading | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoggedChange:
    """The newest state of a product, its place in the log, and when it was changed.

    `first_time` is when the log first heard of it and `change_time` when last, microseconds UTC.
    `is_new`: no bundle had the product when it was written.
    """

    sequence: int
    first_time: int
    change_time: int
    change: Change
    is_new: bool

    @property
    def item(self) -> str:
        """The product."""
        return self.change.item


def merged(before: Change | None, change: Change) -> Change:
    """What is known of a product after a change, `before` being what the log has of it."""
    if before is None or before.is_deleted or change.is_whole or change.is_deleted:
        return change
    return replace(
        change,
        fields={**before.fields, **change.fields},
        is_whole=before.is_whole,
        reading=change.reading or before.reading,
    )


def after(
    before: LoggedChange | None, change: Change, change_time: int, sequence: int, *, is_new: bool
) -> LoggedChange:
    """The row of a product after a change, `before` being its row until then."""
    return LoggedChange(
        sequence=sequence,
        first_time=change_time if before is None else before.first_time,
        change_time=change_time,
        change=merged(None if before is None else before.change, change),
        is_new=is_new,
    )


def outcome_of(before: Change | None, change: Change, *, is_known: bool) -> Outcome:
    """What the change does to a product; `is_known`: the bundle that serves has it."""
    is_there = is_known if before is None else not before.is_deleted
    if change.is_deleted:
        return Outcome.DELETED if is_there else Outcome.MISSING
    if is_there:
        return Outcome.UPDATED
    return Outcome.CREATED if change.fields.get("title") else Outcome.UNTITLED


def is_kept(outcome: Outcome) -> bool:
    """Whether a change with this outcome belongs into the log."""
    return outcome in (Outcome.CREATED, Outcome.UPDATED, Outcome.DELETED)


def is_done(logged: LoggedChange, before_time: int, is_held: Callable[[str], bool]) -> bool:
    """Whether nobody needs a row that bundles have taken in, see `CatalogLog.trim`."""
    is_over = logged.change.is_deleted or is_held(logged.item)
    return logged.change_time < before_time and is_over


def encode(logged: LoggedChange) -> bytes:
    """A row as bytes."""
    change, reading = logged.change, logged.change.reading
    row: dict[str, Any] = {
        "sequence": logged.sequence,
        "first_time": logged.first_time,
        "change_time": logged.change_time,
        "is_new": logged.is_new,
        "item": change.item,
        "fields": dict(change.fields),
        "is_whole": change.is_whole,
        "is_deleted": change.is_deleted,
    }
    if reading is not None:
        row["reading"] = {
            "space": reading.space,
            "vector": _packed(reading.vector.astype("<f2")),
            "keys": _packed(reading.keys.astype("<u8")),
            "weights": _packed(reading.weights.astype("<f4")),
        }
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def decode(data: bytes | str) -> LoggedChange:
    """What `encode` has written."""
    row = json.loads(data)
    reading = row.get("reading")
    change = Change(
        item=row["item"],
        fields=row["fields"],
        is_whole=row["is_whole"],
        is_deleted=row["is_deleted"],
        reading=None if reading is None else _reading(reading),
    )
    times = row["first_time"], row["change_time"]
    return LoggedChange(row["sequence"], *times, change, row["is_new"])


def _reading(row: Mapping[str, str]) -> Reading:
    return Reading(
        space=row["space"],
        vector=np.frombuffer(b64decode(row["vector"]), "<f2").astype(np.float32),
        keys=np.frombuffer(b64decode(row["keys"]), "<u8").astype(np.uint64),
        weights=np.frombuffer(b64decode(row["weights"]), "<f4").astype(np.float32),
    )


def _packed(values: NDArray[Any]) -> str:
    return b64encode(values.tobytes()).decode()
