"""What a shop's coupons must say to be taken in, and what is made of money and lists."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_store.ids import Pseudonymizer
from feature_store.schema import COUPONS
from offline.ingest.files import Source
from offline.ingest.job import IngestJob, Limits, ingest
from offline.ingest.keyed import quarantine_path
from offline.ingest.tables import scan_audiences, scan_coupons

KEY = Pseudonymizer(b"a key that only the tests know")
GOOD = {"item": "c1", "campaign": "k", "title": "t", "discount": "amount", "value": "1.5"}


FLOOR = {"floor_audience": "segment = small", "floor_share": "0.2"}


def take_in(out: Path, table: str, *rows: dict[str, Any]) -> dict[str, int]:
    """Ingest rows of text; how many broke the schema, by reason."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    frame = pl.LazyFrame([{name: row.get(name) for name in columns} for row in rows], strict=False)
    source = Source("rows", "0" * 16, len(rows), frame)
    job = IngestJob({table: [source]}, out, limits=Limits(max_quarantined=1.0))
    ingest(job, KEY)
    path = quarantine_path(out, COUPONS)
    if not path.exists():
        return {}
    counts = pl.read_parquet(path).group_by("reason").len()
    return dict(counts.iter_rows())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"discount": "percent", "value": None}, "missing value"),
        ({"discount": "percent", "value": "0"}, "missing value"),
        ({"discount": "percent", "value": "101"}, "value above 100 percent"),
        ({"discount": "gift", "value": None}, "missing gift_item"),
        ({"discount": "percent", "value": "10", "budget": "50"}, "a budget needs maximum"),
        ({"discount": "free_delivery", "budget": "50"}, "a budget needs maximum"),
        ({"discount": "percent", "value": "10", **FLOOR}, "a floor_share needs maximum"),
        ({"discount": "free_delivery", **FLOOR}, "a floor_share needs maximum"),
        ({"discount": "half"}, "unknown discount"),
        ({"value": "-1"}, "negative value"),
        ({"minimum_basket": "much"}, "unreadable minimum_basket"),
        ({"campaign": None}, "missing campaign"),
        ({"start_time": "2026-03-02", "end_time": "2026-03-01"}, "end_time before start_time"),
    ],
)
def test_what_a_claim_could_not_keep_is_set_aside(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    assert take_in(tmp_path, "coupons", GOOD, {**GOOD, "item": "c2", **changes}) == {reason: 1}
    assert scan_coupons(tmp_path).collect()["item"].to_list() == ["c1"]


def test_an_amount_may_lack_its_value_and_money_keeps_its_cents(tmp_path: Path) -> None:
    more = {"value": None, "budget": "123456789.01", "categories": "a > b|c", "exclusive": None}
    assert take_in(tmp_path, "coupons", {**GOOD, **more}) == {}
    (row,) = scan_coupons(tmp_path).collect().to_dicts()
    assert (row["value"], row["budget"], row["exclusive"]) == (None, 123_456_789.01, False)
    assert row["categories"] == ["a > b", "c"]


def test_who_was_chosen_is_kept_as_a_pseudonym(tmp_path: Path) -> None:
    take_in(tmp_path, "audiences", {"campaign": "k", "user": "tina"})
    (row,) = scan_audiences(tmp_path).collect().to_dicts()
    assert row["user"] == KEY.hexdigest("tina")
