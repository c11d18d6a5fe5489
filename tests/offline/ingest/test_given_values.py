"""Texts, numbers and dates in the forms that shops write them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from feature_store.schema import EVENTS, PRODUCTS, USERS, Column
from offline.ingest.mapping import ColumnMapping
from offline.ingest.values import parse

TIME = EVENTS.column("event_time")
TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)


def parsed(column: Column, given: list[Any], dtype: Any = None, **options: Any) -> list[Any]:
    mapping = ColumnMapping(columns=("a",), **options)
    return parse(pl.Series("a", given, dtype), column, mapping).to_list()


def test_common_forms_of_time_are_told_apart_row_by_row() -> None:
    given = [
        "2026-03-01 10:00:00",
        "2026-03-01T10:00:00",
        "2026-03-01T10:00:00.000000",
        "2026-03-01 10:00",
        "2026-03-01T10:00",
        "2026-03-01T10:00:00Z",
        "2026-03-01T12:00:00+02:00",
        "2026-03-01 12:00:00.0+02",
        "2026-03-01 12:00:00+0200",
        "1772359200",
        "1772359200000",
        "1772359200000000",
        "1772359200000000000",
    ]
    assert parsed(TIME, given) == [TEN] * len(given)
    assert parsed(TIME, ["2026-03-01", "20260301"]) == [TEN - timedelta(hours=10)] * 2


def test_what_is_no_time_is_null() -> None:
    given = ["yesterday", "2026-02-30", "2026-03-01 25:00:00", "12:00", "1e9", "-", None]
    assert parsed(TIME, given) == [None] * len(given)


def test_times_of_typed_columns() -> None:
    naive = TEN.replace(tzinfo=None)
    assert parsed(TIME, [naive], pl.Datetime("ns")) == [TEN]
    assert parsed(TIME, [TEN], pl.Datetime("ms", "Europe/Berlin")) == [TEN]
    assert parsed(TIME, [naive], timezone="Asia/Tokyo") == [TEN - timedelta(hours=9)]
    assert parsed(TIME, [date(2026, 3, 1)]) == [TEN - timedelta(hours=10)]
    assert parsed(TIME, [1772359200]) == parsed(TIME, [1772359200.0]) == [TEN]
    assert parsed(TIME, [1772359200], unit="ms") == [
        datetime(1970, 1, 21, 12, 19, 19, 200_000, UTC)
    ]
    assert parsed(TIME, [20260301], format="%Y%m%d") == [TEN - timedelta(hours=10)]
    assert parsed(TIME, [timedelta(hours=1)]) == [None]


def test_the_hour_that_clocks_repeat_is_its_first_and_the_one_they_skip_is_none() -> None:
    given = ["2026-10-25 02:30:00", "2026-03-29 02:30:00"]
    assert parsed(TIME, given, timezone="Europe/Berlin") == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        None,
    ]


def test_numbers() -> None:
    price = EVENTS.column("price")
    assert parsed(price, ["1.5", "2", "-3", "1e2", "x", "1,5", "inf", "nan", "1e99"]) == (
        [1.5, 2.0, -3.0, 100.0] + [None] * 5
    )
    assert parsed(price, ["1,5", "1.5", "1.000,5"], decimal=",") == [1.5, 1.5, None]
    assert parsed(price, [1, 2]) == [1.0, 2.0]


def test_truth() -> None:
    consent = USERS.column("consent_email")
    assert parsed(consent, ["true", "YES", "1", "f", "No", "0", "maybe"]) == (
        [True] * 3 + [False] * 3 + [None]
    )
    assert parsed(consent, [True, False]) == [True, False]
    assert parsed(consent, [1, 0]) == [True, False]


def test_lists() -> None:
    tags = PRODUCTS.column("tags")
    assert parsed(tags, ["a| b ||", "a", None], split="|") == [["a", "b"], ["a"], None]
    assert parsed(tags, [["a", "b"], []]) == [["a", "b"], []]


@pytest.mark.parametrize("name", ["kind", "corpus"])
def test_words_of_a_closed_set_are_lower_case(name: str) -> None:
    assert parsed(EVENTS.column(name), ["Purchase", "PRODUCT"]) == ["purchase", "product"]
