"""An ingestion as a whole: upserts, failures that change nothing, and one writer at a time."""

import fcntl
import json
from collections.abc import Callable

import polars as pl
import pytest

from offline.errors import BalanceError, MappingError, TablesInUseError
from offline.ingest.summary import Summary, TableCount
from offline.ingest.tables import scan_products, scan_promotions, scan_users
from offline.ingest.tally import DistinctCount
from tests.offline.ingest.conftest import Shop

Make = Callable[..., dict[str, object]]


def test_a_later_row_replaces_an_earlier_one_of_its_key(shop: Shop) -> None:
    def product(item: str, title: str) -> dict[str, object]:
        return {"item": item, "title": title}

    first = [product("b", "Bowl"), product("a", "Apron"), product("b", "Bread bowl")]
    count = shop.ingest(first, table="products").table("products")
    assert (count.num_read, count.num_accepted, count.num_duplicates) == (3, 2, 1)
    assert titles(shop) == {"a": "Apron", "b": "Bread bowl"}
    count = shop.ingest([product("a", "Apple"), product("c", "Cup")], table="products").tables[0]
    assert (count.num_new, count.num_stored) == (1, 3)
    assert titles(shop) == {"a": "Apple", "b": "Bread bowl", "c": "Cup"}


def titles(shop: Shop) -> dict[str, str]:
    return dict(scan_products(shop.out).select("item", "title").collect().iter_rows())


def test_tables_never_ingested_are_empty_or_missing(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase()])
    assert scan_users(shop.out).collect().is_empty()
    assert scan_promotions(shop.out).collect().is_empty()
    assert not (shop.out / "quarantine").exists()


def test_the_summary_on_disk_balances(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase(event_id="1"), purchase(event_id="1"), purchase(kind="stare")])
    document = json.loads((shop.out / "summary.json").read_text())
    assert document == {
        "stored": True,
        "max_quarantined": 1.0,
        "tables": {
            "events": {
                "num_read": 3,
                "num_accepted": 1,
                "num_duplicates": 1,
                "num_quarantined": 1,
                "quarantined": {"unknown kind": 1},
                "num_stored": 1,
                "num_users": 1,
                "num_items": 1,
                "first_time": "2026-03-01T10:00:00Z",
                "last_time": "2026-03-01T10:00:00Z",
            }
        },
    }


def test_a_count_that_does_not_balance_is_a_bug() -> None:
    with pytest.raises(BalanceError, match="3 rows read, but 2 accounted for"):
        TableCount("events", 3, 1, 0, {"unknown kind": 1}, 1, 1)


def test_a_failure_leaves_no_trace(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase()])
    before = shop.files()
    row = purchase()
    del row["kind"]
    with pytest.raises(MappingError):
        shop.ingest([row], name="other.csv")
    assert shop.files() == before
    assert not (shop.out / ".staging").exists()


def test_what_a_killed_ingestion_left_is_cleared(shop: Shop, purchase: Make) -> None:
    (shop.out / ".staging").mkdir(parents=True)
    (shop.out / ".staging" / "events-accepted-000000.parquet").write_bytes(b"half a file")
    shop.ingest([purchase()])
    assert not (shop.out / ".staging").exists()


def test_a_day_published_in_part_is_repaired_by_running_again(shop: Shop, purchase: Make) -> None:
    """Killed between moving the new layout in and removing the old: rows twice, none lost."""
    shop.ingest([purchase(item=str(number)) for number in range(5)])
    (path,) = (shop.out / "events").rglob("*.parquet")
    path.with_name("hours-00-12.parquet").write_bytes(path.read_bytes())
    assert len(shop.events()) == 10
    shop.ingest([purchase(item=str(number)) for number in range(6)])
    assert shop.events()["item"].sort().to_list() == [str(number) for number in range(6)]


def test_one_writer_at_a_time(shop: Shop, purchase: Make) -> None:
    shop.out.mkdir()
    with (shop.out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TablesInUseError, match="another ingestion is writing"):
            shop.ingest([purchase()])


def test_over_the_limit_is_strictly_more() -> None:
    count = TableCount("events", 20, 19, 0, {"unknown kind": 1}, 19, 19)
    assert Summary((count,), max_quarantined=0.05).over_limit == ()
    assert Summary((count,), max_quarantined=0.04).over_limit == (count,)


@pytest.mark.parametrize(("num", "tolerance"), [(0, 0), (50_000, 0), (400_000, 0.02)])
def test_distinct_values_are_counted_in_bounded_memory(num: int, tolerance: float) -> None:
    counter = DistinctCount()
    for first in range(0, num, 50_000):
        values = pl.Series([str(number) for number in range(first, min(first + 50_000, num))])
        counter.add(values)
        counter.add(values.extend_constant(None, 1))
    assert abs(counter.estimate() - num) <= tolerance * num
