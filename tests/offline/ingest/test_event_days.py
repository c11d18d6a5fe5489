"""Events by day: idempotent, merged by event id, and split where a day is too large."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.schema import EVENTS, MICROSECONDS_PER_DAY
from offline.errors import TablesMissingError
from offline.ingest.days import Span, plan_spans
from offline.ingest.job import Limits
from offline.ingest.tables import day_files, days, polars_schema, scan_events, scan_products
from tests.offline.ingest.conftest import ALL, Shop

Make = Callable[..., dict[str, object]]
START = datetime(2026, 3, 1, tzinfo=UTC)


def hourly(purchase: Make, num_hours: int, **changed: object) -> Iterator[dict[str, object]]:
    for hour in range(num_hours):
        time = (START + timedelta(hours=hour)).strftime("%Y-%m-%d %H:%M:%S")
        yield purchase(event_time=time, item=str(hour), **changed)


def test_a_day_is_a_folder_and_sorted_by_time(shop: Shop, purchase: Make) -> None:
    rows = list(hourly(purchase, 60))
    shop.ingest(rows[::-1])
    assert list(days(shop.out)) == [date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]
    (path,) = day_files(shop.out, date(2026, 3, 2))
    assert path.name == "hours-00-24.parquet"
    assert len(pl.read_parquet(path)) == 24
    events = shop.events()
    assert events["event_time"].is_sorted()
    assert events["item"].to_list() == [str(hour) for hour in range(60)]
    assert events.schema == polars_schema(EVENTS)


def test_the_same_input_again_gives_the_same_files(shop: Shop, purchase: Make) -> None:
    rows = [*hourly(purchase, 30), *hourly(purchase, 30), purchase(kind="stare")]
    first = shop.ingest(rows)
    before = shop.files()
    again = shop.ingest(rows)
    assert shop.files() == before
    assert (first.table("events").num_new, again.table("events").num_new) == (60, 0)
    assert again.table("events").num_accepted == 60


def test_batches_change_nothing(shop: Shop, purchase: Make) -> None:
    rows = [*hourly(purchase, 50), purchase(kind="stare"), *hourly(purchase, 50)]
    shop.ingest(rows)
    before = shop.files()
    shutil.rmtree(shop.out)
    shop.ingest(rows, limits=Limits(max_quarantined=1.0, batch_rows=7, span_rows=48))
    assert shop.files() == before


def test_more_days_are_merged_and_others_left_alone(shop: Shop, purchase: Make) -> None:
    rows = list(hourly(purchase, 96))
    shop.ingest(rows[:60], name="first.csv")
    before = shop.files()
    count = shop.ingest(rows[48:], name="second.csv").table("events")
    assert (count.num_accepted, count.num_new, count.num_stored) == (48, 36, 96)
    assert shop.events()["item"].to_list() == [str(hour) for hour in range(96)]
    changed = {name for name, content in shop.files().items() if before.get(name) != content}
    assert {name.split("/")[1] for name in changed if "/" in name} == {
        "day=2026-03-03",
        "day=2026-03-04",
    }


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_an_event_id_is_kept_once_and_the_first_stays(
    shop: Shop, purchase: Make, batch_rows: int
) -> None:
    rows = [purchase(event_id=str(n), item=item) for n, item in [(1, "a"), (2, "b"), (1, "c")]]
    limits = Limits(batch_rows=batch_rows)
    count = shop.ingest(rows, limits=limits).table("events")
    assert (count.num_read, count.num_accepted, count.num_duplicates) == (3, 2, 1)
    shop.ingest([purchase(event_id="2", item="d"), purchase(event_id="3", item="e")], name="b.csv")
    stored = dict(shop.events().sort("event_id").select("event_id", "item").iter_rows())
    assert stored == {"1": "a", "2": "b", "3": "e"}


def test_a_large_day_is_split_and_grows_without_loss(shop: Shop, purchase: Make) -> None:
    def names() -> list[str]:
        return [path.name for path in day_files(shop.out, date(2026, 3, 1))]

    limits = Limits(max_quarantined=1.0, span_rows=30)
    rows = [row for n in range(3) for row in hourly(purchase, 24, basket=f"b{n}")]
    shop.ingest(rows[:24], limits=limits, name="a.csv")
    assert names() == ["hours-00-24.parquet"]
    shop.ingest(rows[24:25], limits=limits, name="b.csv")
    assert names() == ["hours-00-24.parquet"]
    shop.ingest(rows[25:], limits=limits, name="c.csv")
    assert names() == ["hours-00-10.parquet", "hours-10-20.parquet", "hours-20-24.parquet"]
    assert len(shop.events()) == 72
    shop.ingest(rows, limits=ALL, name="d.csv")
    assert len(names()) == 3, "without a new row nothing is touched"
    shop.ingest([*hourly(purchase, 1, basket="b9")], limits=ALL, name="e.csv")
    assert names() == ["hours-00-24.parquet"]
    assert len(shop.events()) == 73
    assert shop.events()["event_time"].is_sorted()


def test_a_time_range_opens_only_its_days(shop: Shop, purchase: Make) -> None:
    shop.ingest([*hourly(purchase, 72)])
    start = int(START.timestamp()) * 1_000_000
    second = scan_events(shop.out, start + MICROSECONDS_PER_DAY, start + 2 * MICROSECONDS_PER_DAY)
    assert second.collect()["item"].to_list() == [str(hour) for hour in range(24, 48)]
    assert second.explain().count("hours-00-24") == 1
    late = scan_events(shop.out, start_time=start + 70 * 3_600_000_000)
    assert late.collect()["item"].to_list() == ["70", "71"]
    early = scan_events(shop.out, end_time=start + 1)
    assert early.collect()["item"].to_list() == ["0"]
    nothing = scan_events(shop.out, end_time=start)
    assert nothing.collect().schema == polars_schema(EVENTS)


def test_missing_tables_say_how_to_make_them(shop: Shop) -> None:
    with pytest.raises(TablesMissingError, match="python -m offline ingest --events PATH"):
        scan_events(shop.out)
    with pytest.raises(TablesMissingError, match="--products PATH"):
        scan_products(shop.out)


@given(
    hours=st.dictionaries(st.integers(0, 100), st.integers(1, 50), min_size=1),
    max_rows=st.integers(1, 200),
)
def test_spans_cover_every_hour_once_and_stay_small(hours: dict[int, int], max_rows: int) -> None:
    spans = list(plan_spans(hours, max_rows))
    covered = Counter(hour for span in spans for hour in range(span.start, span.end))
    assert all(covered[hour] == 1 for hour in hours)
    assert max(covered.values()) == 1
    for span in spans:
        held = [rows for hour, rows in hours.items() if span.start <= hour < span.end]
        assert sum(held) <= max_rows or len(held) == 1
        assert_days_stay_whole(span, hours, max_rows)


def assert_days_stay_whole(span: Span, hours: dict[int, int], max_rows: int) -> None:
    """Only a day of too many rows is cut, and then no other day is in its spans."""
    for day in span.days:
        rows = sum(rows for hour, rows in hours.items() if hour // 24 == day)
        if span.within(day) != (0, 24):
            assert rows > max_rows
            assert len(span.days) == 1
