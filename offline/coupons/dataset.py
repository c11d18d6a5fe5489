"""What a training run may know of coupons: offers, who was chosen, what was redeemed before.

Offers that begin after the horizon are plans of the shop and may be known; who was chosen and what
was redeemed after it may not. Polars stops at `offline.coupons.section`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, Corpus, EventKind
from offline.coupons.offers import load_offers, no_offers
from offline.ingest.tables import (
    instant,
    polars_schema,
    scan_audiences,
    scan_campaigns,
    scan_coupons,
    scan_events,
)
from offline.people import read_traits, scan_user_events

REDEMPTION_SCHEMA: Final = pl.Schema(
    {
        "user": pl.String(),
        "item": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
        "price": pl.Float32(),
        "basket_amount": pl.Float64(),
    }
)

TRAITS_SCHEMA: Final = pl.Schema({"user": pl.String(), "traits": pl.List(pl.String())})


@dataclass(frozen=True, slots=True)
class CouponData:
    """Coupons before a horizon, as canonical tables.

    `redemptions` has one row a redemption: user, item, event_time, `price` (what it gave, null
    where not known) and `basket_amount` (what the basket with it cost, null where not known).
    `offers` says who could have had which campaign, see `offline.coupons.offers`; `traits` what
    audiences and floors ask of users, today's, where there are any.
    """

    campaigns: pl.DataFrame = field(default_factory=lambda: _empty(polars_schema(CAMPAIGNS)))
    coupons: pl.DataFrame = field(default_factory=lambda: _empty(polars_schema(COUPONS)))
    audiences: pl.DataFrame = field(default_factory=lambda: _empty(polars_schema(AUDIENCES)))
    redemptions: pl.DataFrame = field(default_factory=lambda: _empty(REDEMPTION_SCHEMA))
    offers: pl.DataFrame = field(default_factory=no_offers)
    traits: pl.DataFrame = field(default_factory=lambda: _empty(TRAITS_SCHEMA))

    def __len__(self) -> int:
        """The number of coupons."""
        return len(self.coupons)


def load_coupons(tables: Path, horizon_time: int) -> CouponData:
    """Read what was known before `horizon_time` (microseconds UTC)."""
    coupons = scan_coupons(tables).sort("item").collect()
    if not len(coupons):
        return CouponData()
    chosen = pl.col("start_time").is_null() | (pl.col("start_time") < instant(horizon_time))
    campaigns = scan_campaigns(tables).sort("campaign").collect()
    audiences = scan_audiences(tables).filter(chosen).collect()
    return CouponData(
        campaigns=campaigns,
        coupons=coupons,
        audiences=audiences,
        redemptions=load_redemptions(tables, None, horizon_time),
        offers=load_offers(tables, campaigns, coupons, audiences, horizon_time),
        traits=read_traits(tables) if _asks_who(coupons, audiences) else _empty(TRAITS_SCHEMA),
    )


def _asks_who(coupons: pl.DataFrame, audiences: pl.DataFrame) -> bool:
    """Whether a coupon asks more of a user than to have been chosen for its campaign."""
    is_listed = pl.col("campaign").is_in(audiences["campaign"].unique().implode())
    is_for_some = pl.col("audience").is_not_null() & ~is_listed
    return coupons.select((is_for_some | (pl.col("floor_share") > 0)).any()).item() or False


def load_redemptions(tables: Path, start_time: int | None, end_time: int | None) -> pl.DataFrame:
    """Redemptions by known users who allow learning, sorted by time, as in `CouponData`."""
    redeemed = (
        scan_user_events(tables, start_time, end_time)
        .filter(kind=EventKind.COUPON_REDEEM.value, corpus=Corpus.COUPON.value)
        .select("user", "item", "event_time", "price", "basket")
        .sort("event_time", "user", "item")
        .collect()
    )
    baskets = redeemed.lazy().select("basket").drop_nulls().unique()
    paid = (
        scan_events(tables, start_time, end_time)
        .filter(kind=EventKind.PURCHASE.value)
        .join(baskets, on="basket", how="semi")
        .group_by("basket")
        .agg(basket_amount=(pl.col("price").cast(pl.Float64) * pl.col("quantity")).sum())
        .collect()
    )
    return redeemed.join(paid, on="basket", how="left", maintain_order="left").select(
        REDEMPTION_SCHEMA.names()
    )


def _empty(schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame(schema=schema)
