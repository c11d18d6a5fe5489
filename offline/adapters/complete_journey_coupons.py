"""Complete Journey's coupons: 27 campaigns, who got them, what each is good for, what was redeemed.

A coupon is a code within a campaign, since a code may be in several. The data say neither what a
coupon is worth nor what it may cost. The worth is not looked up here, which would tell a training
of December what happens in it: each redemption becomes an event with what it gave, and trainers
take the median of those before their horizon. Caps and budgets are from
`complete_journey_terms.toml`, which says that they are invented.

**Clock.** The days of campaigns and redemptions are the shop's, in New York: of 2,102 redemptions
1,130 find a line with a coupon's discount on that day there, and 986 on that day in UTC.
"""

import tomllib
from pathlib import Path
from typing import Any, Final

import polars as pl

from feature_store.schema import COUPONS, Corpus, EventKind
from offline.adapters.product_titles import readable
from offline.ingest.tables import polars_schema

TERMS_FILE: Final = Path(__file__).with_name("complete_journey_terms.toml")
SHOP_TIMEZONE: Final = "America/New_York"
MAX_NAMED: Final = 2
"""How many categories a coupon's title names before it says what they have in common."""


def invented_terms() -> dict[str, Any]:
    """The content of the file of what was made up."""
    return tomllib.loads(TERMS_FILE.read_text(encoding="utf-8"))


def campaigns(descriptions: pl.LazyFrame) -> pl.LazyFrame:
    """The 27 campaigns with invented budgets, and the shop's own, which are invented whole."""
    terms = invented_terms()
    budgets = {kind: row["budget"] for kind, row in terms["campaigns"].items()}
    given = descriptions.select(
        campaign=pl.col("campaign_id").cast(pl.String),
        kind="campaign_type",
        title=pl.format("Campaign {}", "campaign_id"),
        start_time=_midnight(pl.col("start_date")),
        end_time=_midnight(pl.col("end_date") + pl.duration(days=1)),
        budget=pl.col("campaign_type").replace_strict(budgets, return_dtype=pl.Float64),
    )
    own = [{"campaign": name, "kind": "house", **row} for name, row in terms["house"].items()]
    return pl.concat([given, pl.LazyFrame(own)], how="diagonal_relaxed")


def coupons(
    coupons: pl.LazyFrame, descriptions: pl.LazyFrame, products: pl.LazyFrame
) -> pl.LazyFrame:
    """One coupon for each code of each campaign, for who was chosen; and the invented offers."""
    terms = invented_terms()
    dated = descriptions.select(
        "campaign_id",
        kind="campaign_type",
        start_time=_midnight(pl.col("start_date")),
        end_time=_midnight(pl.col("end_date") + pl.duration(days=1)),
    )
    goods = coupons.join(products, on="product_id", how="left")
    grouped = goods.group_by("campaign_id", "coupon_upc").agg(
        products=pl.col("product_id").cast(pl.String).unique().sort(),
        groups=pl.col("product_category").drop_nulls().unique().sort(),
        departments=pl.col("department").drop_nulls().unique().sort(),
    )
    campaign = pl.col("campaign_id").cast(pl.String)
    given = grouped.join(dated, on="campaign_id").select(
        item=coupon_id(),
        campaign=campaign,
        title=pl.struct("groups", "departments").map_elements(_title, pl.String),
        discount=pl.lit("amount"),
        products="products",
        start_time="start_time",
        end_time="end_time",
        audience=pl.format("campaign = {}", campaign),
        **{name: _invented(terms, name) for name in ("max_claims_per_user", "max_claims")},
    )
    schema = {name: dtype for name, dtype in polars_schema(COUPONS).items() if dtype != pl.String}
    offers = pl.LazyFrame(terms["offers"]).with_columns(
        pl.col(name).cast(dtype) for name, dtype in schema.items() if name in terms["offers"][0]
    )
    return pl.concat([given, offers], how="diagonal_relaxed").sort("item")


def audiences(members: pl.LazyFrame, descriptions: pl.LazyFrame) -> pl.LazyFrame:
    """Which households each campaign was for, from its first day on."""
    return members.join(descriptions, on="campaign_id").select(
        campaign=pl.col("campaign_id").cast(pl.String),
        user="household_id",
        start_time=_midnight(pl.col("start_date")),
    )


def redemptions(
    redeemed: pl.LazyFrame, coupons: pl.LazyFrame, transactions: pl.LazyFrame
) -> pl.LazyFrame:
    """One event for each redemption; `price` is what the coupon gave, null where no line tells.

    The instant and the basket are those of the line that got the discount, else of a basket of
    that household on that day, else noon. A discount that several coupons may have given is
    shared among them.
    """
    day = pl.col("transaction_timestamp").dt.replace_time_zone("UTC")
    lines = transactions.select(
        "household_id",
        "product_id",
        basket=pl.col("basket_id").cast(pl.String),
        time=day,
        day=day.dt.convert_time_zone(SHOP_TIMEZONE).dt.date(),
        given=pl.col("coupon_disc") + pl.col("coupon_match_disc"),
    )
    asked = redeemed.with_columns(day=pl.col("redemption_date").dt.date()).with_row_index("number")
    visits = lines.join(
        asked.select("household_id", "day").unique(), on=["household_id", "day"], how="semi"
    )
    found = (
        asked.join(coupons, on=["coupon_upc", "campaign_id"])
        .join(visits.filter(pl.col("given") > 0), on=["household_id", "product_id", "day"])
        .with_columns(
            share=pl.col("given") / pl.len().over("basket", "product_id", "time", "given")
        )
        .group_by("number")
        .agg(pl.col("share").sum(), pl.col("basket", "time").sort_by("basket").first())
    )
    others = visits.sort("basket").group_by("household_id", "day", maintain_order=True)
    of_day = others.agg(pl.col("basket", "time").first().name.suffix("_of_day"))
    noon = _midnight(pl.col("redemption_date")) + pl.duration(hours=12)
    return (
        asked.join(found, on="number", how="left")
        .join(of_day, on=["household_id", "day"], how="left")
        .sort("number")
        .select(
            event_time=pl.coalesce("time", "time_of_day", noon),
            user="household_id",
            kind=pl.lit(EventKind.COUPON_REDEEM.value),
            corpus=pl.lit(Corpus.COUPON.value),
            item=coupon_id(),
            price="share",
            basket=pl.coalesce("basket", "basket_of_day"),
        )
    )


def coupon_id() -> pl.Expr:
    """The id of a coupon: its campaign and its code."""
    return pl.format("{}-{}", "campaign_id", "coupon_upc")


def _title(row: dict[str, list[str]]) -> str:
    names = row["groups"] if 0 < len(row["groups"]) <= MAX_NAMED else row["departments"]
    if not names:
        return "Money off"
    if len(names) > MAX_NAMED:
        return f"Money off {readable(names[0])} and {len(names) - 1} other departments"
    return "Money off " + " and ".join(map(readable, names))


def _invented(terms: dict[str, Any], name: str) -> pl.Expr:
    values = {kind: float(row[name]) for kind, row in terms["campaigns"].items()}
    return pl.col("kind").replace_strict(values, return_dtype=pl.Float64)


def _midnight(date: pl.Expr) -> pl.Expr:
    """The instant at which a day of the shop begins, in UTC."""
    local = date.cast(pl.Datetime("us")).dt.replace_time_zone(SHOP_TIMEZONE)
    return local.dt.convert_time_zone("UTC")
