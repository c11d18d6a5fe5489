"""What a shop's people are like: recency, frequency, money, where they are in their life, tastes.

Computed from the purchases before one instant, a row a person. It knows the tables, and neither
campaigns nor states. Recency, frequency and money are cut into fifths of those who have bought, 5
being the latest, the most often, the most.
"""

from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import CATEGORY_SEPARATOR, EVENTS, EventKind
from offline.ingest.tables import instant, scan_products
from offline.people import scan_user_events

NEW_DAYS: Final = 30.0
"""Whose first purchase is not older is new."""

LAPSED_GAPS: Final = 3.0
LAPSED_MIN_DAYS: Final = 30.0
LAPSED_DAYS: Final = 90.0
"""Lapsed is who has not bought for three times the usual gap between orders, 30 days at least; of
who has ordered once no gap is known, and 90 days stand for it."""

LOVER_PURCHASES: Final = 3
LOVER_LIFT: Final = 1.5
"""Who loves a category has bought from it three times, and 1.5 times as much of it as the shop's
customers do on average."""

LIFECYCLES: Final = ("never", "new", "active", "lapsed")

_DAY: Final = 86_400_000_000


def has_events(tables: Path) -> bool:
    """Whether there is a history at all."""
    return (tables / EVENTS.name).is_dir()


def purchases(tables: Path, end_time: int) -> pl.LazyFrame:
    """The purchases of known people before an instant (microseconds UTC), accounts merged."""
    events = scan_user_events(tables, None, end_time)
    return events.filter(pl.col("kind") == EventKind.PURCHASE.value)


def segments(tables: Path, end_time: int) -> pl.DataFrame:
    """A row for each person who bought before `end_time` (microseconds UTC).

    Columns: pseudonym, num_orders, spend, recency_days, tenure_days, r, f, m (1 to 5), lifecycle.
    """
    order = pl.coalesce("basket", pl.col("event_time").dt.date().cast(pl.String))
    people = (
        purchases(tables, end_time)
        .group_by(pseudonym="user")
        .agg(
            num_orders=order.n_unique().cast(pl.Int64),
            spend=(pl.col("price").fill_null(0.0) * pl.col("quantity").fill_null(1.0)).sum(),
            first_time=pl.col("event_time").min(),
            last_time=pl.col("event_time").max(),
        )
        .with_columns(
            recency_days=_days(instant(end_time) - pl.col("last_time")),
            tenure_days=_days(instant(end_time) - pl.col("first_time")),
        )
    )
    fifths = (
        _fifth(-pl.col("recency_days")).alias("r"),
        _fifth(pl.col("num_orders")).alias("f"),
        _fifth(pl.col("spend")).alias("m"),
    )
    named = people.with_columns(*fifths, _lifecycle().alias("lifecycle"))
    return named.drop("first_time", "last_time").sort("pseudonym").collect()


def lovers(tables: Path, end_time: int, category: str) -> pl.DataFrame:
    """The pseudonyms of who loves a category (a path, and all below it); see LOVER_LIFT."""
    path = pl.col("category").fill_null("")
    inside = (path == category) | path.str.starts_with(category + CATEGORY_SEPARATOR)
    products = scan_products(tables).select("item", is_inside=inside)
    bought = purchases(tables, end_time).join(products, on="item").select("user", "is_inside")
    people = (
        bought.group_by(pseudonym="user")
        .agg(num=pl.col("is_inside").sum(), total=pl.len())
        .with_columns(usual=pl.col("num").sum() / pl.col("total").sum())
    )
    share = pl.col("num") / pl.col("total")
    loved = (pl.col("num") >= LOVER_PURCHASES) & (share >= LOVER_LIFT * pl.col("usual"))
    return people.filter(loved).select("pseudonym").sort("pseudonym").collect()


def _days(span: pl.Expr) -> pl.Expr:
    return span.dt.total_microseconds() / _DAY


def _fifth(value: pl.Expr) -> pl.Expr:
    """1 to 5 by the share of people with at most this value; the same value is in one fifth."""
    rank = value.rank("max").cast(pl.Int64)
    return (5 * rank + pl.len().cast(pl.Int64) - 1) // pl.len().cast(pl.Int64)


def _lifecycle() -> pl.Expr:
    gap = (pl.col("tenure_days") - pl.col("recency_days")) / (pl.col("num_orders") - 1)
    patience = (
        pl.when(pl.col("num_orders") > 1)
        .then((LAPSED_GAPS * gap).clip(lower_bound=LAPSED_MIN_DAYS))
        .otherwise(LAPSED_DAYS)
    )
    return (
        pl.when(pl.col("tenure_days") <= NEW_DAYS)
        .then(pl.lit("new"))
        .when(pl.col("recency_days") > patience)
        .then(pl.lit("lapsed"))
        .otherwise(pl.lit("active"))
    )
