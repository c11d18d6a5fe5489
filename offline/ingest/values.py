"""Given values become typed ones; what cannot be read becomes null.

Times and numbers come in a few common forms, told apart row by row, so that a file in which
they are mixed is read all the same. Knows no table and no rule.
"""

from typing import Final

import polars as pl

from feature_store.schema import Column
from offline.ingest.mapping import ColumnMapping
from offline.ingest.tables import POLARS_DTYPES, TIME

# Tried in order on what the ones before could not read. An offset wins over the timezone.
_NAIVE_FORMATS: Final = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y%m%d",
)
_OFFSET_FORMATS: Final = ("%+", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z")
_OFFSET_MARKS: Final = ("%z", "%:z", "%#z", "%+")
_MICROSECONDS: Final = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
# A number since 1970 below this many of its unit's microseconds is taken as that unit: seconds
# up to the year 5138, milliseconds from 1973, and so on; the plausible years never overlap.
_UNIT_LIMITS: Final = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
_LAST_WRITTEN_DATE: Final = 99_991_231  # as in 20170131, which is no number of seconds
_TRUE: Final = ("true", "t", "yes", "y", "1")
_FALSE: Final = ("false", "f", "no", "n", "0")


def parse(given: pl.Series, column: Column, mapping: ColumnMapping) -> pl.Series:
    """The column's values in its canonical dtype; null where there is none or none readable."""
    match column.dtype:
        case "string":
            parsed = given.cast(pl.String)
            return parsed.str.to_lowercase() if column.choices else parsed
        case "float32" | "float64":
            return _floats(given, mapping.decimal).cast(POLARS_DTYPES[column.dtype])
        case "bool":
            return _bools(given)
        case "strings":
            return _lists(given, mapping.split)
        case "time":
            return _times(given, mapping)
    return given.cast(POLARS_DTYPES[column.dtype], strict=False)


def _floats(given: pl.Series, decimal: str) -> pl.Series:
    if given.dtype == pl.String and decimal != ".":
        given = given.str.replace(decimal, ".", literal=True)
    values = given.cast(pl.Float64, strict=False)
    return values.set(~values.cast(pl.Float32, strict=False).is_finite(), None)


def _bools(given: pl.Series) -> pl.Series:
    if given.dtype == pl.Boolean:
        return given
    if given.dtype.is_numeric():
        return given != 0
    words = given.cast(pl.String).str.to_lowercase()
    truth = [True] * len(_TRUE) + [False] * len(_FALSE)
    return words.replace_strict([*_TRUE, *_FALSE], truth, default=None, return_dtype=pl.Boolean)


def _lists(given: pl.Series, separator: str | None) -> pl.Series:
    if isinstance(given.dtype, pl.List):
        return given.cast(pl.List(pl.String), strict=False)
    parts = given.cast(pl.String).str.split(separator or "").list
    stripped = parts.eval(pl.element().str.strip_chars())
    return stripped.list.eval(pl.element().filter(pl.element() != ""))


def _times(given: pl.Series, mapping: ColumnMapping) -> pl.Series:
    if given.dtype.is_temporal():
        return _dates(given, mapping.timezone)
    if given.dtype.is_numeric() and mapping.format is None:
        return _epochs(given, mapping.unit)
    text = given.cast(pl.String)
    if mapping.format is not None:
        return _formatted(text, mapping.format, mapping.timezone)
    return _common_times(text, mapping)


def _dates(given: pl.Series, timezone: str) -> pl.Series:
    """Dates and date-times; durations and times of the day are no instants."""
    if given.dtype in (pl.Duration, pl.Time):
        return pl.Series(given.name, [None] * len(given), TIME)
    is_date = given.dtype == pl.Date
    times = given.cast(pl.Datetime("us")) if is_date else given.dt.cast_time_unit("us")
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None:
        return times.dt.convert_time_zone("UTC")
    return _localized(times, timezone)


def _localized(naive: pl.Series, timezone: str) -> pl.Series:
    """Local times in UTC: the first of an hour that occurs twice; null for one that never was."""
    if timezone == "UTC":
        return naive.dt.replace_time_zone("UTC")
    local = naive.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _epochs(given: pl.Series, unit: str | None) -> pl.Series:
    """Numbers since 1970 in a unit, or in the one that their size tells."""
    number = pl.col("number")
    scaled = number * _MICROSECONDS["ns"]
    for limit, name in reversed(_UNIT_LIMITS):
        scaled = pl.when(number.abs() < limit).then(number * _MICROSECONDS[name]).otherwise(scaled)
    if unit is not None:
        scaled = number * _MICROSECONDS[unit]
    frame = pl.DataFrame({"number": given.cast(pl.Float64, strict=False)})
    micros = frame.select(scaled.round().cast(pl.Int64, strict=False)).to_series()
    return micros.cast(TIME).alias(given.name)


def _formatted(text: pl.Series, form: str, timezone: str) -> pl.Series:
    if any(mark in form for mark in _OFFSET_MARKS):
        return text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
    return _localized(text.str.to_datetime(form, time_unit="us", strict=False), timezone)


def _common_times(text: pl.Series, mapping: ColumnMapping) -> pl.Series:
    numbers = text.cast(pl.Int64, strict=False)
    times = _epochs(numbers.set(numbers.abs() <= _LAST_WRITTEN_DATE, None), mapping.unit)
    for form in (*_NAIVE_FORMATS, *_OFFSET_FORMATS):
        unread = text.is_not_null() & times.is_null()
        if not unread.any():
            return times
        times = times.zip_with(~unread, _formatted(text, form, mapping.timezone))
    return times
