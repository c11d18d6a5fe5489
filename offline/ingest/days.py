"""The second pass for events: parts become days, merged with what is stored already.

Spans of whole days, or of hours where one day alone is too large, are taken one after the
other, so that memory is bounded by the largest span. In each, rows get their ids, an event id
that was seen before is dropped, and the rest is sorted by time.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import EVENTS, MICROSECONDS_PER_DAY
from offline.ingest.identity import with_event_ids
from offline.ingest.tables import day_files, day_folder, day_of, instant, scan_parts
from offline.ingest.tally import MICROSECONDS_PER_HOUR

_HOURS_PER_DAY: Final = 24
_ID: Final = EVENTS.key[0]
_ROW_GROUP_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Span:
    """Hours since 1970 from `start` up to but not including `end`."""

    start: int
    end: int

    @property
    def days(self) -> range:
        """The days since 1970 that the span touches."""
        return range(self.start // _HOURS_PER_DAY, -(-self.end // _HOURS_PER_DAY))

    def contains(self, column: str) -> pl.Expr:
        """True for the rows whose instant in `column` lies in the span."""
        start, end = (instant(hour * MICROSECONDS_PER_HOUR) for hour in (self.start, self.end))
        return pl.col(column).is_between(start, end, closed="left")

    def within(self, day: int) -> tuple[int, int]:
        """The hours of a day (days since 1970) that the span covers, from 0 to 24."""
        start = day * _HOURS_PER_DAY
        return max(self.start - start, 0), min(self.end - start, _HOURS_PER_DAY)


@dataclass(frozen=True, slots=True)
class MergedDays:
    """Merged events below `folder`, not yet published.

    `num_new` rows of a day were not stored before; a day without any need not be published.
    """

    folder: Path
    num_distinct: int = 0
    num_new: Mapping[date, int] = field(default_factory=dict)

    def plus(self, day: date, num_distinct: int, num_new: int) -> "MergedDays":
        """With another day, or another part of a day."""
        total = self.num_new.get(day, 0) + num_new
        return replace(
            self,
            num_distinct=self.num_distinct + num_distinct,
            num_new={**self.num_new, day: total},
        )


def plan_spans(hours: Mapping[int, int], max_rows: int) -> Iterator[Span]:
    """Cut time into spans of at most `max_rows` rows, as far as single hours allow.

    `hours` counts rows by hour since 1970. Days are kept whole where they fit.
    """
    held, rows_held = Span(0, 0), 0
    for day, group in groupby(sorted(hours.items()), lambda entry: entry[0] // _HOURS_PER_DAY):
        counts = list(group)
        rows = sum(count for _, count in counts)
        whole = Span(day * _HOURS_PER_DAY, (day + 1) * _HOURS_PER_DAY)
        if rows_held and rows_held + rows > max_rows:
            yield held
            rows_held = 0
        if rows > max_rows:
            yield from _split_day(whole, counts, max_rows)
            continue
        held = Span(held.start if rows_held else whole.start, whole.end)
        rows_held += rows
    if rows_held:
        yield held


def _split_day(whole: Span, counts: list[tuple[int, int]], max_rows: int) -> Iterator[Span]:
    """Spans that cover the day without a gap."""
    start, rows_held = whole.start, 0
    for hour, rows in counts:
        if rows_held and rows_held + rows > max_rows:
            yield Span(start, hour)
            start, rows_held = hour, 0
        rows_held += rows
    yield Span(start, whole.end)


def merge_days(
    root: Path,
    parts: list[Path],
    hours: Mapping[int, int],
    folder: Path,
    max_rows: int,
    advance: Callable[[int], None],
) -> MergedDays:
    """Merge accepted parts with the days stored in `root`, into `folder`.

    `hours` counts the rows of the parts by hour since 1970. Of rows with one event id the
    stored one stays, else the first of the input. `advance` is told the rows done.
    """
    touched = {hour // _HOURS_PER_DAY for hour in hours}
    merged = MergedDays(folder)
    for span in plan_spans(Counter(hours) + _stored_hours(root, touched), max_rows):
        given = _given_days(parts, span)
        advance(sum(len(rows) for rows in given.values()))
        for day in sorted(touched.intersection(span.days)):
            merged = merged.plus(*_merge_day(root, day, given.pop(day, None), span, folder))
    return merged


def _given_days(parts: list[Path], span: Span) -> dict[int, pl.DataFrame]:
    """The accepted rows of a span by day since 1970, in the order of the input."""
    day = (pl.col("event_time").cast(pl.Int64) // MICROSECONDS_PER_DAY).alias("day")
    rows = scan_parts(parts, EVENTS).filter(span.contains("event_time")).with_columns(day)
    groups = rows.collect().partition_by("day", as_dict=True, include_key=False)
    return {int(number): group for (number,), group in groups.items()}


def _merge_day(
    root: Path, day: int, given: pl.DataFrame | None, span: Span, folder: Path
) -> tuple[date, int, int]:
    """Write a day, or the span's part of it; the numbers of distinct rows given and of new ones."""
    that_day = _date(day)
    frame = scan_parts(day_files(root, that_day), EVENTS).filter(span.contains("event_time"))
    stored = _distinct(frame.collect())
    distinct = stored.clear() if given is None else _distinct(with_event_ids(given))
    fresh = distinct.join(stored, on=_ID, how="anti")
    start, end = span.within(day)
    path = day_folder(folder, that_day) / f"hours-{start:02}-{end:02}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pl.concat([stored, fresh]).sort("event_time", _ID).rechunk()
    rows.write_parquet(path, row_group_size=_ROW_GROUP_ROWS)
    return that_day, len(distinct), len(fresh)


def _distinct(events: pl.DataFrame) -> pl.DataFrame:
    """The first row of each event id."""
    return events.filter(pl.col(_ID).is_first_distinct())


def publish_days(root: Path, merged: MergedDays) -> None:
    """Put the days with new rows in place, file by file.

    A crash in between loses no row: files that a day no longer needs go last.
    """
    (root / EVENTS.name).mkdir(parents=True, exist_ok=True)
    for day in sorted(day for day, num_new in merged.num_new.items() if num_new):
        target = day_folder(root, day)
        target.mkdir(exist_ok=True)
        outdated = {path.name for path in day_files(root, day)}
        for path in day_files(merged.folder, day):
            path.replace(target / path.name)
            outdated.discard(path.name)
        for name in outdated:
            (target / name).unlink()


def _stored_hours(root: Path, touched: set[int]) -> Counter[int]:
    hour = (pl.col("event_time").cast(pl.Int64) // MICROSECONDS_PER_HOUR).alias("hour")
    files = [path for day in sorted(touched) for path in day_files(root, _date(day))]
    counts = scan_parts(files, EVENTS).group_by(hour).len().collect(engine="streaming")
    return Counter(dict(counts.iter_rows()))


def _date(day: int) -> date:
    return day_of(day * MICROSECONDS_PER_DAY)
