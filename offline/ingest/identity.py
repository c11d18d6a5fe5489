"""Who and which: pseudonyms for raw user and session ids, and ids for events without one.

The only module that turns a raw id into a pseudonym for the tables. Work is done once for
each distinct id of a batch, so that memory stays bounded by the batch.
"""

import hashlib
from typing import Final

import polars as pl

from feature_store.ids import Pseudonymizer
from feature_store.schema import EVENTS

PERSONAL_COLUMNS: Final = ("user", "session")

_ID_BYTES: Final = 16
_ROWS_AT_ONCE: Final = 50_000
_FIELD_SEPARATOR: Final = "\x1f"


def pseudonymized(frame: pl.DataFrame, pseudonymizer: Pseudonymizer | None) -> pl.DataFrame:
    """The frame with raw ids replaced by pseudonyms of 64 hexadecimal digits; null stays null.

    Without a pseudonymizer the ids are pseudonyms already, and stay.
    """
    if pseudonymizer is None:
        return frame
    for name in PERSONAL_COLUMNS:
        if name in frame.columns:
            raw = frame[name].drop_nulls().unique()
            digests = [pseudonymizer.hexdigest(each) for each in raw]
            pseudonyms = pl.Series(digests, dtype=pl.String)
            frame = frame.with_columns(pl.col(name).replace_strict(raw, pseudonyms))
    return frame


def with_event_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Canonical events with an id for each that has none; rows may change places.

    The id is the BLAKE2b of the row's values and, from the second of identical rows on, a
    running number. It is the same in every run as long as all identical rows are in `events`.
    It covers the pseudonym, not the raw id: an unkeyed hash of a raw id could be guessed.
    """
    absent = pl.col("event_id").is_null()
    made = [_identified(rows) for rows in events.filter(absent).iter_slices(_ROWS_AT_ONCE)]
    if not made:
        return events
    return pl.concat([events.filter(~absent), _numbered(pl.concat(made))])


def _identified(events: pl.DataFrame) -> pl.DataFrame:
    contents = events.select(_content().cast(pl.Binary)).to_series()
    blake2b = hashlib.blake2b
    digests = [blake2b(content, digest_size=_ID_BYTES).hexdigest() for content in contents]
    return events.with_columns(pl.Series("event_id", digests))


def _numbered(events: pl.DataFrame) -> pl.DataFrame:
    """Identical ids told apart: the second gets the suffix -1, and so on."""
    twins = events["event_id"].is_duplicated()
    if not twins.any():
        return events
    number = pl.int_range(pl.len()).over("event_id")
    suffix = pl.when(number > 0).then(pl.concat_str(pl.lit("-"), number)).otherwise(pl.lit(""))
    numbered = events.filter(twins).with_columns(pl.col("event_id") + suffix)
    return pl.concat([events.filter(~twins), numbered])


def _content() -> pl.Expr:
    """A row as text: name=value of what it holds, so that new optional columns change no id."""
    fields = []
    for column in EVENTS.columns:
        value = pl.col(column.name)
        if column.dtype == "time":
            value = value.cast(pl.Int64)
        if column.dtype == "float32":
            value = value.reinterpret(dtype=pl.UInt32)
        fields.append(pl.lit(f"{column.name}=") + value.cast(pl.String))
    return pl.concat_str(fields, separator=_FIELD_SEPARATOR, ignore_nulls=True)
