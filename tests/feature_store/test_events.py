"""One event: its row, what makes it unfit, and the id that its content gives it."""

from dataclasses import fields, replace

import polars as pl
import pytest

from feature_store.events import Event, from_row, reject_reason, to_row, with_event_id
from feature_store.schema import EVENT_KINDS, EVENTS, ITEM_KINDS, EventKind
from offline.ingest.identity import with_event_ids
from offline.ingest.tables import polars_schema

NOW = 1_700_000_000_000_000
TOLERANCE_SECONDS = 300.0
GOOD = Event(
    event_id="e1",
    event_time=NOW,
    user="0f" * 32,
    session="a1" * 32,
    kind="purchase",
    item="item 1",
    quantity=0.1,
    price=2.35,
    basket="b",
    placement="home",
)


def reason(**changed: object) -> str | None:
    return reject_reason(replace(GOOD, **changed), NOW, TOLERANCE_SECONDS)  # type: ignore[arg-type]


def test_an_event_has_the_columns_of_the_schema() -> None:
    assert tuple(field.name for field in fields(Event)) == EVENTS.names


def test_a_row_is_in_the_schemas_order_and_comes_back() -> None:
    row = to_row(GOOD)
    assert row[EVENTS.names.index("basket")] == "b"
    assert from_row(row) == GOOD


def test_a_good_event_has_no_reason() -> None:
    assert reason() is None
    assert reason(user="") is None
    assert reason(session="", price=None, quantity=0.0) is None


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_only_kinds_that_concern_an_item_need_one(kind: EventKind) -> None:
    refused = reason(kind=kind.value, item="")
    assert refused is None if kind not in ITEM_KINDS else (refused or "").startswith("item: ")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("event_id", ""),
        ("event_id", "x" * 257),
        ("event_time", 0),
        ("event_time", NOW // 1_000),  # milliseconds
        ("event_time", NOW + 300_000_001),
        ("user", "household 7"),
        ("user", "0F" * 32),
        ("session", "a1" * 33),
        ("kind", "stare"),
        ("corpus", "person"),
        ("item", ""),
        ("item", "x" * 257),
        ("quantity", -1.0),
        ("quantity", float("nan")),
        ("quantity", float("inf")),
        ("price", -0.01),
        ("price", float("nan")),
        ("price", float("inf")),
        ("query", "x" * 1025),
    ],
)
def test_the_reason_names_the_column_and_not_the_value(column: str, value: object) -> None:
    refused = reason(**{column: value})
    assert refused is not None
    assert refused.startswith(f"{column}: ")
    assert not value or str(value) not in refused


def test_an_event_needs_a_user_or_a_session() -> None:
    assert (reason(user="", session="") or "").startswith("user: ")


def test_clocks_may_differ_a_little() -> None:
    assert reason(event_time=NOW + 300_000_000) is None


def test_an_id_is_made_only_when_there_is_none() -> None:
    assert with_event_id(GOOD) is GOOD
    absent = replace(GOOD, event_id="")
    assert with_event_id(absent) == with_event_id(absent)
    assert with_event_id(absent).event_id != with_event_id(replace(absent, item="2")).event_id


@pytest.mark.parametrize("price", [None, 0.1, 3.0])
def test_the_id_is_the_one_that_ingestion_makes(price: float | None) -> None:
    absent = replace(GOOD, event_id="", price=price)
    values = {name: [None if value == "" else value]
              for name, value in zip(EVENTS.names, to_row(absent), strict=True)}  # fmt: skip
    table = pl.DataFrame(values).cast(polars_schema(EVENTS))
    assert with_event_ids(table)["event_id"].to_list() == [with_event_id(absent).event_id]
