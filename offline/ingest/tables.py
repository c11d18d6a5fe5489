"""The canonical tables on disk, as trainers read them: lazily, with guaranteed dtypes.

A folder of tables, written by `offline.ingest`, looks like this:

    events/day=2017-01-01/hours-00-24.parquet   sorted by event_time, then event_id
    products.parquet  users.parquet  promotions.parquet
    content.parquet  campaigns.parquet  coupons.parquet  audiences.parquet
    quarantine/<table>.parquet                  rows that broke the schema, with the reason
    summary.json                                what the last ingestion counted

A day of very many events is split by hour; the spans of hours never overlap. This module
knows the layout and the dtypes and nothing of how rows get there.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import (
    AUDIENCES,
    CAMPAIGNS,
    CONTENT,
    COUPONS,
    EVENTS,
    PRODUCTS,
    PROMOTIONS,
    USERS,
    DType,
    Table,
)
from offline.errors import TablesMissingError

TIME: Final = pl.Datetime("us", "UTC")
POLARS_DTYPES: Final[dict[DType, pl.DataType]] = {
    "string": pl.String(),
    "time": TIME,
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "strings": pl.List(pl.String()),
}

SUMMARY_FILE: Final = "summary.json"
QUARANTINE_FOLDER: Final = "quarantine"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_FOLDER: Final = re.compile(r"day=(\d{4}-\d{2}-\d{2})")


def instant(time: int) -> pl.Expr:
    """Microseconds UTC as a Polars literal of the tables' time dtype."""
    return pl.lit(time, dtype=pl.Int64).cast(TIME)


def day_of(time: int) -> date:
    """The UTC day of an instant in microseconds."""
    return (_EPOCH + timedelta(microseconds=time)).date()


def polars_schema(table: Table) -> pl.Schema:
    """The canonical Polars dtypes of a table, in its column order."""
    return pl.Schema({column.name: POLARS_DTYPES[column.dtype] for column in table.columns})


def scan_events(
    root: Path, start_time: int | None = None, end_time: int | None = None
) -> pl.LazyFrame:
    """The events with start_time <= event_time < end_time (microseconds UTC, None: open).

    Days outside the range are not even opened. The whole is sorted by event_time. Raises
    TablesMissingError when `root` holds no events table.
    """
    paths = [path for day in days_within(root, start_time, end_time)
             for path in day_files(root, day)]  # fmt: skip
    frame = scan_parts(paths, EVENTS)
    if start_time is not None:
        frame = frame.filter(pl.col("event_time") >= instant(start_time))
    if end_time is not None:
        frame = frame.filter(pl.col("event_time") < instant(end_time))
    return frame


def days_within(root: Path, start_time: int | None, end_time: int | None) -> list[date]:
    """The days that may hold events of this span (None: open), in order.

    Raises TablesMissingError when `root` holds no events table.
    """
    if not (root / EVENTS.name).is_dir():
        raise _missing(root, EVENTS)
    return [day for day in days(root) if _overlaps(day, start_time, end_time)]


def scan_products(root: Path) -> pl.LazyFrame:
    """The products, one row an item, sorted by item. Raises TablesMissingError without a table."""
    return scan_table(root, PRODUCTS)


def scan_users(root: Path) -> pl.LazyFrame:
    """The users, one row a pseudonym, sorted by it; empty when none were ever ingested."""
    return scan_table(root, USERS, optional=True)


def scan_promotions(root: Path) -> pl.LazyFrame:
    """The promotions, sorted by item, kind and start; empty when none were ever ingested."""
    return scan_table(root, PROMOTIONS, optional=True)


def scan_content(root: Path) -> pl.LazyFrame:
    """What there is to read, sorted by item and language; empty when none was ever ingested."""
    return scan_table(root, CONTENT, optional=True)


def scan_campaigns(root: Path) -> pl.LazyFrame:
    """The campaigns, sorted by id; empty when none were ever ingested."""
    return scan_table(root, CAMPAIGNS, optional=True)


def scan_coupons(root: Path) -> pl.LazyFrame:
    """The coupons, one row an item, sorted by it; empty when none were ever ingested."""
    return scan_table(root, COUPONS, optional=True)


def scan_audiences(root: Path) -> pl.LazyFrame:
    """Who was chosen for which campaign, pseudonyms; empty when none were ever ingested."""
    return scan_table(root, AUDIENCES, optional=True)


def scan_table(root: Path, table: Table, *, optional: bool = False) -> pl.LazyFrame:
    """One of the tables that are a single file; an absent `optional` one is empty.

    Raises TablesMissingError when a table that is not optional is absent.
    """
    path = table_path(root, table)
    if path.is_file():
        return scan_parts([path], table)
    if optional:
        return scan_parts([], table)
    raise _missing(root, table)


def scan_parts(paths: list[Path], table: Table) -> pl.LazyFrame:
    """Parquet files of a canonical table as one frame; no files, no rows.

    A column that an older file lacks is null, so that the schema may grow.
    """
    schema = polars_schema(table)
    if not paths:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(
        paths,
        schema=schema,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
    )


def table_path(root: Path, table: Table) -> Path:
    """Where a table that is a single file lies."""
    return root / f"{table.name}.parquet"


def day_folder(root: Path, day: date) -> Path:
    """Where the events of a day lie."""
    return root / EVENTS.name / f"day={day.isoformat()}"


def day_files(root: Path, day: date) -> list[Path]:
    """The files of a day's events, in time order."""
    return sorted(day_folder(root, day).glob("hours-*.parquet"))


def days(root: Path) -> Iterator[date]:
    """The days that have events, in order; none when there is no events table."""
    for folder in sorted((root / EVENTS.name).glob("day=*")):
        if match := _DAY_FOLDER.fullmatch(folder.name):
            yield date.fromisoformat(match[1])


def _overlaps(day: date, start_time: int | None, end_time: int | None) -> bool:
    if start_time is not None and day < day_of(start_time):
        return False
    return end_time is None or day <= day_of(end_time - 1)


def _missing(root: Path, table: Table) -> TablesMissingError:
    return TablesMissingError(
        f"{root} holds no {table.name}; make them with: "
        f"python -m offline ingest --{table.name} PATH --out {root}"
    )
