"""The tables of a spool, as SQL made from the columns that the schema spells.

A spool is one SQLite file. It knows columns and statements, not connections. Names of tables
and columns are our own constants; what comes from outside is always a parameter.
"""
# ruff: noqa: S608

import json
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from feature_store.events import Event, Exposure, Merge, to_row
from feature_store.ids import hash64
from feature_store.schema import EVENTS, MERGES, DType

APPLICATION_ID: Final = int.from_bytes(b"aisl", "big")
FORMAT_VERSION: Final = 1

EVENTS_TABLE: Final = "events"
EXPOSURES_TABLE: Final = "exposures"
QUARANTINE_TABLE: Final = "quarantine"
MERGES_TABLE: Final = MERGES.name

APPLIED: Final = "applied"
COMPACTED: Final = "compacted"
MERGED: Final = "merged"

Row = tuple[Any, ...]

_SQL_TYPES: Final[dict[DType, str]] = {
    "string": "TEXT DEFAULT ''",
    "time": "INTEGER",
    "float32": "REAL",
}
_LISTS: Final = frozenset({"items", "corpora", "propensities"})

EVENT_COLUMNS: Final = EVENTS.names
REFUSED_COLUMNS: Final = ("received_time", "reason", *EVENT_COLUMNS)
EXPOSURE_COLUMNS: Final = tuple(field.name for field in fields(Exposure))

MERGE_COLUMNS: Final = MERGES.names

_OF_EVENT: Final = {c.name: f"{c.name} {_SQL_TYPES[c.dtype]}" for c in EVENTS.columns}
_OF_EXPOSURE: Final = {name: name for name in EXPOSURE_COLUMNS}
_OF_MERGE: Final = {c.name: f"{c.name} {_SQL_TYPES[c.dtype]}" for c in MERGES.columns}

COLUMNS: Final = {
    EVENTS_TABLE: _OF_EVENT,
    EXPOSURES_TABLE: _OF_EXPOSURE,
    QUARANTINE_TABLE: _OF_EVENT,
    MERGES_TABLE: _OF_MERGE,
}
"""The definition of each column that may be added to an older file, by table."""


def _create(table: str, *own: str) -> str:
    definitions = ("sequence INTEGER PRIMARY KEY AUTOINCREMENT", *own, *COLUMNS[table].values())
    return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(definitions)})"


_RECEIVED: Final = "received_time INTEGER NOT NULL"

PEOPLE: Final = {
    EVENTS_TABLE: ("user", "session"),
    EXPOSURES_TABLE: ("user", "session"),
    QUARANTINE_TABLE: ("user", "session"),
    MERGES_TABLE: ("source", "target"),
}
"""The columns that hold pseudonyms, by table."""

CREATE: Final = (
    _create(EVENTS_TABLE, _RECEIVED, "event_key INTEGER NOT NULL"),
    _create(EXPOSURES_TABLE),
    _create(QUARANTINE_TABLE, _RECEIVED, "reason TEXT NOT NULL"),
    _create(MERGES_TABLE),
    f"CREATE UNIQUE INDEX IF NOT EXISTS events_once ON {EVENTS_TABLE} (event_key)",
    f"CREATE UNIQUE INDEX IF NOT EXISTS exposures_once ON {EXPOSURES_TABLE} (attribution_token)",
    f"CREATE UNIQUE INDEX IF NOT EXISTS merges_once ON {MERGES_TABLE} (kind, source)",
    "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL)",
    f"INSERT OR IGNORE INTO marks VALUES ('{APPLIED}', 0), ('{COMPACTED}', 0), ('{MERGED}', 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)


def _insert(table: str, columns: tuple[str, ...], unique: str = "") -> str:
    marks = ", ".join("?" * len(columns))
    otherwise = f"ON CONFLICT ({unique}) DO NOTHING" if unique else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {otherwise}"


INSERT_EVENT: Final = _insert(
    EVENTS_TABLE, ("received_time", "event_key", *EVENT_COLUMNS), "event_key"
)
INSERT_EXPOSURE: Final = _insert(EXPOSURES_TABLE, EXPOSURE_COLUMNS, "attribution_token")
INSERT_MERGE: Final = _insert(MERGES_TABLE, MERGE_COLUMNS, "kind, source")
FIND_MERGE: Final = f"SELECT sequence FROM {MERGES_TABLE} WHERE kind = ? AND source = ?"
INSERT_REFUSED: Final = _insert(QUARANTINE_TABLE, REFUSED_COLUMNS)
LAST_EVENT: Final = f"SELECT ifnull(max(sequence), 0) FROM {EVENTS_TABLE}"


def select(table: str, columns: tuple[str, ...]) -> str:
    """Sequences and columns of the rows after a sequence; parameters (sequence, limit)."""
    return (
        f"SELECT sequence, {', '.join(columns)} FROM {table} "
        "WHERE sequence > ? ORDER BY sequence LIMIT ?"
    )


def distinct(table: str, columns: tuple[str, ...]) -> str:
    """Every text that one of these columns holds, once."""
    return " UNION ".join(f"SELECT {name} FROM {table}" for name in columns)


def find(table: str, condition: str) -> str:
    """The sequences of the rows that meet a condition."""
    return f"SELECT sequence FROM {table} WHERE {condition}"


def delete(table: str) -> str:
    """Delete one row; parameter (sequence)."""
    return f"DELETE FROM {table} WHERE sequence = ?"


def event_row(event: Event, received_time: int) -> Row:
    """The parameters of INSERT_EVENT.

    An event is known again by a 64-bit hash of its id, since the index on it is most of what
    an append writes. Among ten million events, two ids share one with probability 3e-6.
    """
    unsigned = hash64(event.event_id)
    return received_time, unsigned - (unsigned >> 63 << 64), *to_row(event)


def merge_row(merge: Merge) -> Row:
    """The parameters of INSERT_MERGE."""
    return tuple(getattr(merge, name) for name in MERGE_COLUMNS)


def merge_of(row: Row) -> Merge:
    """The merge that `merge_row` took apart."""
    return Merge(**dict(zip(MERGE_COLUMNS, row, strict=True)))


_exposure_values: Final = attrgetter(*EXPOSURE_COLUMNS)


def exposure_row(exposure: Exposure) -> Row:
    """The parameters of INSERT_EXPOSURE; lists are kept as JSON."""
    values = zip(EXPOSURE_COLUMNS, _exposure_values(exposure), strict=True)
    return tuple(json.dumps(value) if name in _LISTS else value for name, value in values)


def exposure_of(row: Row) -> Exposure:
    """The exposure that `exposure_row` took apart."""
    values = dict(zip(EXPOSURE_COLUMNS, row, strict=True))
    return Exposure(**values | {name: tuple(json.loads(values[name])) for name in _LISTS})
