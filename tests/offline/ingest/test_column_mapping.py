"""A shop's own columns become canonical ones, and a mapping that does not fit says why."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from offline.errors import MappingError
from offline.ingest.mapping import parse_mapping, read_mapping
from offline.ingest.tables import scan_products, scan_promotions, scan_users
from tests.offline.ingest.conftest import Row, Shop

Make = Callable[..., dict[str, object]]


def value(shop: Shop, column: str) -> object:
    (found,) = shop.events()[column].to_list()
    return found


def test_canonical_names_need_no_mapping(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase(quantity=2, price="3.5", basket=77)])
    (event,) = shop.events().to_dicts()
    assert event["event_time"] == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert (event["kind"], event["item"], event["basket"]) == ("purchase", "kettle", "77")
    assert (event["quantity"], event["price"], event["corpus"]) == (2.0, 3.5, "product")


def test_other_names_constants_and_values(shop: Shop) -> None:
    rows = [
        {"at": "2026-03-01", "who": "anna", "what": "order", "sku": 12},
        {"at": "2026-03-02", "who": "anna", "what": "VIEW", "sku": 13},
        {"at": "2026-03-03", "who": "anna", "what": "stare", "sku": 13},
    ]
    events = {
        "event_time": "at",
        "user": "who",
        "item": "sku",
        "kind": {"column": "what", "values": {"order": "purchase"}},
        "placement": {"value": "home"},
        "quantity": {"value": 3},
    }
    shop.ingest(rows, mapping={"events": events})
    stored = shop.events()
    assert stored["kind"].to_list() == ["purchase", "view"]
    assert stored["item"].to_list() == ["12", "13"]
    assert stored["placement"].unique().to_list() == ["home"]
    assert stored["quantity"].to_list() == [3.0, 3.0]
    assert shop.quarantine()["reason"].to_list() == ["unknown kind"]


@pytest.mark.parametrize(
    ("text", "mapping", "expected"),
    [
        ("01.03.2026 10:00", {"format": "%d.%m.%Y %H:%M"}, "2026-03-01T10:00"),
        (
            "01.07.2026 10:00",
            {"format": "%d.%m.%Y %H:%M", "timezone": "Europe/Berlin"},
            "2026-07-01T08:00",
        ),
        ("01/03/26", {"format": "%d/%m/%y"}, "2026-03-01T00:00"),
        ("2026-03-01 10:00:00", {"timezone": "America/New_York"}, "2026-03-01T15:00"),
        ("2026-03-01T10:00:00+02:00", {"timezone": "America/New_York"}, "2026-03-01T08:00"),
        (
            "01.03.2026 10:00 +0200",
            {"format": "%d.%m.%Y %H:%M %z"},
            "2026-03-01T08:00",
        ),
        ("1772359200", {"unit": "s"}, "2026-03-01T10:00"),
        ("1772359200000", {"unit": "ms"}, "2026-03-01T10:00"),
        ("1772359200000", {}, "2026-03-01T10:00"),
    ],
)
def test_times_in_the_shops_own_form(
    shop: Shop, purchase: Make, text: str, mapping: dict[str, str], expected: str
) -> None:
    events = {"event_time": {"column": "event_time", **mapping}}
    shop.ingest([purchase(event_time=text)], mapping={"events": events})
    assert value(shop, "event_time") == datetime.fromisoformat(f"{expected}+00:00")


def test_decimal_comma_and_csv_options(shop: Shop, purchase: Make) -> None:
    path = shop.folder / "orders.csv"
    rows = [purchase(price="12,50", basket="-"), purchase(price="1,5", basket="B7")]
    pl.DataFrame(rows).write_csv(path, separator=";")
    mapping = {
        "csv": {"delimiter": ";", "nulls": ["-"]},
        "events": {"price": {"column": "price", "decimal": ","}},
    }
    shop.ingest_file(path, mapping=mapping)
    stored = shop.events().sort("price")
    assert stored["price"].to_list() == [1.5, 12.5]
    assert stored["basket"].to_list() == ["B7", None]


@pytest.mark.parametrize("empty", ["", " ", "NULL", "\\N"])
def test_what_databases_write_for_no_value_is_null(shop: Shop, purchase: Make, empty: str) -> None:
    shop.ingest([purchase(basket=empty, price=empty)])
    assert value(shop, "basket") is value(shop, "price") is None


def test_levels_joined_titles_and_lists(shop: Shop) -> None:
    rows: list[Row] = [
        {"sku": "k1", "maker": "Juniper", "name": "Kettle", "dep": "Kitchen", "grp": "Appliances",
         "labels": "steel; new ;"},
        {"sku": "k2", "maker": None, "name": "Bowl", "dep": "Kitchen", "grp": None,
         "labels": None},
    ]  # fmt: skip
    products = {
        "item": "sku",
        "title": {"columns": ["maker", "name"]},
        "category": {"columns": ["dep", "grp"]},
        "tags": {"column": "labels", "split": ";"},
        "region": {"columns": ["dep", "grp"]},
        "available": {"column": "grp", "values": {"Appliances": "yes"}},
    }
    shop.ingest(rows, table="products", mapping={"products": products})
    kettle, bowl = scan_products(shop.out).collect().to_dicts()
    assert (kettle["title"], bowl["title"]) == ("Juniper Kettle", "Bowl")
    assert (kettle["category"], bowl["category"]) == ("Kitchen > Appliances", "Kitchen")
    assert (kettle["tags"], bowl["tags"]) == (["steel", "new"], None)
    assert (kettle["region"], bowl["region"]) == (["Kitchen", "Appliances"], ["Kitchen"])
    assert (kettle["available"], bowl["available"]) == (True, True)


def test_a_category_path_of_another_separator(shop: Shop) -> None:
    rows = [{"item": "k1", "title": "Kettle", "category": "Kitchen / Appliances/ Kettles"}]
    mapping = {"products": {"category": {"column": "category", "split": "/"}}}
    shop.ingest(rows, table="products", mapping=mapping)
    (product,) = scan_products(shop.out).collect().to_dicts()
    assert product["category"] == "Kitchen > Appliances > Kettles"


def test_attributes_carry_the_name_of_their_column(shop: Shop) -> None:
    rows = [{"user": "anna", "age": "45-54", "income": None, "consent_email": "no"}]
    shop.ingest(
        rows, table="users", mapping={"users": {"attributes": {"columns": ["age", "income"]}}}
    )
    (user,) = scan_users(shop.out).collect().to_dicts()
    assert user["attributes"] == ["age=45-54"]
    assert (user["consent_email"], user["consent_personalization"]) == (False, True)


def test_promotions_are_known_when_they_start_unless_told_otherwise(shop: Shop) -> None:
    rows = [{"item": "k1", "kind": "mailer", "start_time": "2026-03-02", "end_time": "2026-03-09"}]
    shop.ingest(rows, table="promotions")
    (promotion,) = scan_promotions(shop.out).collect().to_dicts()
    assert promotion["known_time"] == promotion["start_time"] == datetime(2026, 3, 2, tzinfo=UTC)


def test_types_of_parquet_are_read_as_they_are(shop: Shop) -> None:
    frame = pl.DataFrame(
        {
            "event_time": [datetime(2026, 3, 1, 10, tzinfo=UTC)],
            "user": pl.Series([7.0]),  # pandas makes floats of whole numbers beside a null
            "session": pl.Series([float("nan")]),
            "kind": pl.Series(["purchase"], dtype=pl.Categorical),
            "item": pl.Series([12], dtype=pl.Int32),
            "price": pl.Series(["3.25"]).cast(pl.Decimal(10, 2)),
        }
    )
    path = shop.folder / "orders.parquet"
    frame.write_parquet(path)
    shop.ingest_file(path)
    (event,) = shop.events().to_dicts()
    assert (event["item"], event["price"], event["kind"]) == ("12", 3.25, "purchase")
    assert event["session"] is None
    shop.ingest([{"event_time": "2026-03-01 10:00", "user": "7", "kind": "view", "item": "12"}])
    assert shop.events()["user"].n_unique() == 1


@pytest.mark.parametrize(
    ("column", "found", "says"),
    [
        ("user", "customer_id", 'found customer_id: map it with [events] user = "customer_id"'),
        ("item", "Product ID", 'found Product ID: map it with [events] item = "Product ID"'),
        ("event_time", "orderDate", 'map it with [events] event_time = "orderDate"'),
        ("kind", "colour", 'map it with [events] kind = { value = "purchase" }'),
        ("item", "colour", 'column item is missing; map it with [events] item = "..."; found'),
    ],
)
def test_a_missing_column_comes_with_what_to_write(
    shop: Shop, purchase: Make, column: str, found: str, says: str
) -> None:
    row = purchase()
    row[found] = row.pop(column)
    with pytest.raises(MappingError) as caught:
        shop.ingest([row])
    assert says in str(caught.value)
    assert "rows.csv" in str(caught.value)


def test_a_session_is_enough_without_a_user(shop: Shop, purchase: Make) -> None:
    row = purchase(session="s1")
    del row["user"]
    assert shop.ingest([row]).table("events").num_accepted == 1


def test_a_column_that_the_mapping_names_must_be_there(shop: Shop, purchase: Make) -> None:
    with pytest.raises(MappingError, match=r"column prize, which .* events.price, is missing"):
        shop.ingest([purchase()], mapping={"events": {"price": "prize"}})


def test_a_type_that_is_no_text_is_refused(shop: Shop, purchase: Make) -> None:
    with pytest.raises(MappingError, match=r"events.item: column item has type Struct"):
        shop.ingest([purchase(item={"a": 1})], name="rows.parquet")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"event": {}}, "unknown section: event; did you mean events?"),
        ({"events": {"usr": "a"}}, r"unknown column in \[events\]: usr; did you mean user?"),
        ({"events": {"price": {"colum": "a"}}}, r"unknown option in \[events\] price: colum"),
        ({"events": {"price": {"column": "a", "format": "%Y"}}}, "unknown option .* format"),
        ({"events": {"price": {"column": "a", "value": 1}}}, "needs exactly one of"),
        ({"events": {"price": {"decimal": ","}}}, "needs exactly one of"),
        ({"events": {"price": 3}}, "must be a source column"),
        ({"events": {"price": {"column": "a", "decimal": ",."}}}, "must be one character"),
        ({"events": {"event_time": {"column": "a", "unit": "h"}}}, "known: s, ms, us, ns"),
        ({"events": {"event_time": {"column": "a", "timezone": "Berlin"}}}, "e.g. Europe/Berlin"),
        ({"events": {"kind": {"column": "a", "values": ["b"]}}}, "values must be a table"),
        ({"events": {"kind": {"columns": "a"}}}, "columns must be a list"),
        ({"events": {"kind": {"column": ["a"]}}}, "column must be a text"),
        ({"csv": {"delimiter": "||"}}, "one ASCII character"),
        ({"csv": {"quote": "'"}}, r"unknown option in \[csv\]: quote"),
        ({"products": []}, r"\[products\] must be a section"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(document: dict[str, Any], says: str) -> None:
    with pytest.raises(MappingError, match=says):
        parse_mapping(document)


def test_a_mapping_file_is_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    with pytest.raises(MappingError, match="cannot read the mapping"):
        read_mapping(path)
    path.write_text("[events\n")
    with pytest.raises(MappingError, match=r"mapping.toml is not TOML"):
        read_mapping(path)
    path.write_text("[events]\nusr = 'a'\n")
    with pytest.raises(MappingError, match=r"mapping.toml: unknown column"):
        read_mapping(path)
