"""A row that breaks the schema is set apart with its reason, and no row is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.schema import EVENT_KINDS, EVENTS, ITEM_KINDS, TABLES, Table
from offline.errors import QuarantineLimitError
from offline.ingest.job import Limits
from offline.ingest.mapping import ShopMapping
from offline.ingest.rules import ROW_NUMBER, judge
from offline.ingest.tables import polars_schema
from tests.offline.ingest.conftest import Shop

Make = Callable[..., dict[str, object]]

PRODUCT = {"item": "k1", "title": "Kettle"}
USER = {"user": "anna"}
PROMOTION = {
    "item": "k1",
    "kind": "mailer",
    "start_time": "2026-03-02",
    "end_time": "2026-03-09",
}
LONG = "x" * 257


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"event_time": None}, "missing event_time"),
        ({"event_time": "yesterday"}, "unreadable event_time"),
        ({"event_time": "1970-01-01 00:00:00"}, "implausible event_time"),
        ({"event_time": "2345-01-01"}, "implausible event_time"),
        ({"user": None}, "missing user and session"),
        ({"user": "  "}, "missing user and session"),
        ({"kind": None}, "missing kind"),
        ({"kind": "stare"}, "unknown kind"),
        ({"corpus": "film"}, "unknown corpus"),
        ({"item": None}, "missing item"),
        ({"item": ""}, "missing item"),
        ({"kind": "like", "item": None}, "missing item"),
        ({"quantity": "-1"}, "negative quantity"),
        ({"quantity": "two"}, "unreadable quantity"),
        ({"price": "-0.01"}, "negative price"),
        ({"price": "1,50"}, "unreadable price"),
        ({"price": "inf"}, "unreadable price"),
        ({"event_id": LONG}, "event_id longer than 256"),
        ({"user": LONG}, "user longer than 256"),
        ({"session": LONG}, "session longer than 256"),
        ({"item": LONG}, "item longer than 256"),
        ({"basket": LONG}, "basket longer than 256"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_reason_for_an_event(
    shop: Shop, purchase: Make, changed: dict[str, object], reason: str, suffix: str
) -> None:
    count = shop.ingest([purchase(), purchase(**changed)], name=f"rows.{suffix}").table("events")
    assert dict(count.quarantined) == {reason: 1}
    assert (count.num_read, count.num_accepted, count.num_duplicates) == (2, 1, 0)
    (row,) = shop.quarantine().to_dicts()
    assert (row["reason"], row["row_number"]) == (reason, 2)
    assert Path(row["source"]).name == f"rows.{suffix}"


@pytest.mark.parametrize(
    ("table", "good", "changed", "reason"),
    [
        ("products", PRODUCT, {"item": None}, "missing item"),
        ("products", PRODUCT, {"item": LONG}, "item longer than 256"),
        ("products", PRODUCT, {"title": " "}, "missing title"),
        ("products", PRODUCT, {"price": "-1"}, "negative price"),
        ("products", PRODUCT, {"margin": "high"}, "unreadable margin"),
        ("products", PRODUCT, {"available": "maybe"}, "unreadable available"),
        ("products", PRODUCT, {"created_time": "once"}, "unreadable created_time"),
        ("users", USER, {"user": None, "segment": "a"}, "missing user"),
        ("users", USER, {"consent_email": "?"}, "unreadable consent_email"),
        ("promotions", PROMOTION, {"kind": None}, "missing kind"),
        ("promotions", PROMOTION, {"start_time": None}, "missing start_time"),
        ("promotions", PROMOTION, {"end_time": "soon"}, "unreadable end_time"),
        ("promotions", PROMOTION, {"end_time": "2026-03-01"}, "end_time before start_time"),
        ("promotions", PROMOTION, {"strength": "-1"}, "negative strength"),
    ],
)
def test_every_reason_for_another_table(
    shop: Shop, table: str, good: dict[str, object], changed: dict[str, object], reason: str
) -> None:
    count = shop.ingest([good, {**good, **changed}], table=table).table(table)
    assert dict(count.quarantined) == {reason: 1}
    assert shop.quarantine(table)["reason"].to_list() == [reason]


@pytest.mark.parametrize("kind", [kind.value for kind in EVENT_KINDS])
def test_a_kind_without_an_item_may_stand_alone(shop: Shop, purchase: Make, kind: str) -> None:
    count = shop.ingest([purchase(), purchase(kind=kind, item=None)]).table("events")
    assert count.num_quarantined == (kind in {known.value for known in ITEM_KINDS})


def test_the_values_are_kept_as_text_but_ids_of_persons_are_not(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase(), purchase(quantity="-2", price="9.90", session="s-77", basket=4)])
    (row,) = shop.quarantine().to_dicts()
    assert (row["quantity"], row["price"], row["basket"]) == ("-2", "9.90", "4")
    (user,) = shop.events()["user"].to_list()
    assert row["user"] == user
    assert len(row["session"]) == 64


def test_quarantined_rows_of_the_same_file_are_kept_once(shop: Shop, purchase: Make) -> None:
    bad = purchase(kind="stare")
    shop.ingest([purchase(), bad], name="monday.csv")
    shop.ingest([purchase(), bad, bad], name="tuesday.csv")
    before = shop.files()["quarantine/events.parquet"]
    shop.ingest([purchase(), bad], name="monday.csv")
    shop.ingest([purchase(), purchase(item="bowl")], name="wednesday.csv")
    assert shop.files()["quarantine/events.parquet"] == before
    assert len(shop.quarantine()) == 3
    shop.ingest([purchase(user="bert"), bad], name="monday.csv")
    assert len(shop.quarantine()) == 4, "another content under the same name is another file"


def test_a_corrected_mapping_replaces_the_reasons_of_the_same_file(
    shop: Shop, purchase: Make
) -> None:
    rows = [purchase(kind="stare", quantity=-1)]
    shop.ingest(rows)
    kind = {"column": "kind", "values": {"stare": "view"}}
    shop.ingest(rows, mapping={"events": {"kind": kind}})
    assert shop.quarantine()["reason"].to_list() == ["negative quantity"]
    quantity = {"value": 1}
    shop.ingest(rows, mapping={"events": {"kind": kind, "quantity": quantity}})
    assert shop.quarantine().is_empty()


def test_too_many_bad_rows_stop_everything_but_the_evidence(shop: Shop, purchase: Make) -> None:
    limits = Limits(max_quarantined=0.25)
    good = [purchase(item=str(number)) for number in range(3)]
    shop.ingest([*good, purchase(kind="stare")], limits=limits)
    before = shop.files()
    with pytest.raises(QuarantineLimitError, match=r"40.0% of the events .* --max-quarantined"):
        shop.ingest(
            [*good, purchase(kind="stare"), purchase(item=None)], name="worse.csv", limits=limits
        )
    changed = {name for name, content in shop.files().items() if before.get(name) != content}
    assert changed == {"quarantine/events.parquet", "summary.json"}
    document = json.loads(shop.files()["summary.json"])
    assert not document["stored"]
    assert "num_stored" not in document["tables"]["events"]
    assert len(shop.quarantine()) == 3


TEXTS = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(
        ["2026-03-01", "1772359200", "purchase", "product", "-1", "0.5", "true", "a|b"]
    ),
)


@given(table=st.sampled_from(sorted(TABLES)), data=st.data())
def test_whatever_is_given_is_accepted_in_the_schema_or_rejected_with_a_reason(
    table: str, data: st.DataObject
) -> None:
    judged = judge_texts(TABLES[table], data)
    accepted, rejected = judged
    assert accepted.schema == polars_schema(TABLES[table])
    assert rejected["reason"].null_count() == 0
    for column in TABLES[table].columns:
        values = accepted[column.name]
        assert not (column.required and values.null_count())
        if column.choices:
            assert set(values.drop_nulls()) <= set(column.choices)
        if column.minimum is not None:
            assert (values.drop_nulls() >= column.minimum).all()
    if TABLES[table] is EVENTS:
        assert accepted.select(
            pl.any_horizontal(pl.col("user", "session").is_not_null()).all()
        ).item()


def judge_texts(table: Table, data: st.DataObject) -> tuple[pl.DataFrame, pl.DataFrame]:
    num_rows = data.draw(st.integers(1, 5))
    cells = st.lists(TEXTS, min_size=num_rows, max_size=num_rows)
    texts = {name: pl.Series(data.draw(cells), dtype=pl.String) for name in table.names}
    given = pl.DataFrame(texts).with_row_index(ROW_NUMBER)
    judged = judge(table, ShopMapping(), given)
    assert len(judged.accepted) + len(judged.rejected) == num_rows
    return judged.accepted, judged.rejected
