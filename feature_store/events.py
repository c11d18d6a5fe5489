"""One event, and what makes it fit to be kept.

What the edge accepts is what ingestion would accept from a file: the same columns, the same
limits. It knows the schema, and neither messages nor storage. Users and sessions are
pseudonyms here, never the shop's ids.
"""

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Final

from feature_store.schema import (
    CORPORA,
    EVENT_KINDS,
    EVENTS,
    ITEM_KINDS,
    MAX_ID_LENGTH,
    Corpus,
)

MAX_TEXT_LENGTH: Final = 1024
MAX_QUANTITY: Final = 1e6
MAX_PRICE: Final = 1e12

EARLIEST_TIME: Final = 631_152_000_000_000
"""1990 began then. An earlier instant was read in the wrong unit, or stands for 'unknown'."""

Row = tuple[str | int | float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The columns of `schema.EVENTS`, '' or None where the event says nothing.

    `event_time` is in microseconds UTC; `user` and `session` are pseudonyms of 64 lowercase
    hexadecimal digits; `price` is per unit.
    """

    event_id: str
    event_time: int
    user: str = ""
    session: str = ""
    kind: str
    corpus: str = Corpus.PRODUCT
    item: str = ""
    quantity: float = 1.0
    price: float | None = None
    basket: str = ""
    placement: str = ""
    query: str = ""
    attribution_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What one answer showed: the items in their order, and how likely each was to be there.

    `items`, `corpora` and `propensities` have the same length. `attribution_token` is the
    answer's, and unique; `arm` is the experiment's, '' outside of one.
    """

    attribution_token: str
    request_time: int
    user: str = ""
    session: str = ""
    placement: str
    items: tuple[str, ...]
    corpora: tuple[str, ...]
    propensities: tuple[float, ...]
    model_version: str
    arm: str = ""


class Source(StrEnum):
    """What is merged into a user."""

    SESSION = "session"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The columns of `schema.MERGES`: from now on all that `source` did is the target's.

    `source` and `target` are pseudonyms of 64 lowercase hexadecimal digits, the target a
    user's; `merge_time` is in microseconds UTC.
    """

    kind: str
    source: str
    target: str
    merge_time: int


_columns_of: Final = attrgetter(*EVENTS.names)
_KINDS: Final = frozenset(kind.value for kind in EVENT_KINDS)
_CORPORA: Final = frozenset(corpus.value for corpus in CORPORA)
_PSEUDONYM: Final = re.compile("[0-9a-f]{64}|")
_MAX_LENGTHS: Final = {
    "event_id": MAX_ID_LENGTH,
    "item": MAX_ID_LENGTH,
    "basket": MAX_ID_LENGTH,
    "placement": MAX_ID_LENGTH,
    "query": MAX_TEXT_LENGTH,
    "attribution_token": MAX_TEXT_LENGTH,
}
_lengths_of: Final = attrgetter(*_MAX_LENGTHS)
_FLOAT32: Final = struct.Struct("<f")
_UINT32: Final = struct.Struct("<I")


def to_row(event: Event) -> Row:
    """The event's values in the order of `schema.EVENTS`."""
    row: Row = _columns_of(event)
    return row


def from_row(row: Row) -> Event:
    """The event that `to_row` took apart."""
    return Event(**dict(zip(EVENTS.names, row, strict=True)))  # type: ignore[arg-type]


def reject_reason(event: Event, now_time: int, tolerance_seconds: float) -> str | None:
    """Why the event must be refused, as 'column: what to do'; None when it is good.

    `now_time`, in microseconds UTC, and `tolerance_seconds` say how far in the future an
    event may lie, since clocks differ. The reason holds no value of the event.
    """
    return next(_reasons(event, now_time, tolerance_seconds), None)


def with_event_id(event: Event) -> Event:
    """The event, with an id made from its content if it has none.

    The same content gives the same id, which is also the one that ingestion would give it.
    """
    if event.event_id:
        return event
    content = "\x1f".join(_content(event))
    digest = hashlib.blake2b(content.encode(), digest_size=16)
    return replace(event, event_id=digest.hexdigest())


def _reasons(event: Event, now_time: int, tolerance_seconds: float) -> Iterator[str]:
    if not event.event_id:
        yield "event_id: is missing"
    if event.event_time < EARLIEST_TIME:
        yield "event_time: lies before 1990; send the time in UTC"
    if event.event_time > now_time + tolerance_seconds * 1e6:
        yield f"event_time: lies more than {tolerance_seconds:g} s in the future; set the clock"
    if not (event.user or event.session):
        yield "user: is missing, and session too; send one of them"
    for name in ("user", "session"):
        if not _PSEUDONYM.fullmatch(getattr(event, name)):
            yield f"{name}: is no pseudonym of 64 hexadecimal digits"
    yield from _item_reasons(event)
    for (name, limit), text in zip(_MAX_LENGTHS.items(), _lengths_of(event), strict=True):
        if len(text) > limit:
            yield f"{name}: is longer than {limit} characters"


def _item_reasons(event: Event) -> Iterator[str]:
    if event.kind not in _KINDS:
        yield "kind: is none of the event kinds"
    if event.corpus not in _CORPORA:
        yield "corpus: is none of the corpora"
    if not event.item and event.kind in ITEM_KINDS:
        yield "item: is missing; this kind of event says nothing without it"
    if not 0 <= event.quantity <= MAX_QUANTITY:
        yield f"quantity: must be from 0 to {MAX_QUANTITY:.0f}"
    if event.price is not None and not 0 <= event.price <= MAX_PRICE:
        yield f"price: must be from 0 to {MAX_PRICE:.0f}"


def _content(event: Event) -> Iterator[str]:
    """The row as text: name=value of what it holds, so that new optional columns change no id."""
    for column in EVENTS.columns:
        value = getattr(event, column.name)
        if value in (None, ""):
            continue
        if column.dtype == "float32":
            (value,) = _UINT32.unpack(_FLOAT32.pack(value))
        yield f"{column.name}={value}"
