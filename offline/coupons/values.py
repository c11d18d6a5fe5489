"""What coupons are worth and how often they are redeemed, from redemptions before a horizon.

Plain counts, for what no model has learned: a coupon without a value gets the median of what it
gave, and each campaign a base rate. Both shrink to what campaigns of the kind, and then all
campaigns, show, so that a campaign that nobody has redeemed yet has a rate too.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.coupons import MICROS
from offline.coupons.dataset import CouponData

FALLBACK_VALUE: Final = 1.0
"""What an amount is worth, in units of the currency, where nothing was ever redeemed."""

FALLBACK_RATE: Final = 0.005
PRIOR_TRIALS: Final = 500.0
"""How many users with a coupon the rate of the kind weighs as much as."""

MARGIN_SHARE: Final = 0.25
"""The share of a basket that is profit, where the product table does not say."""

FALLBACK_BASKET: Final = 30.0


def coupon_values(data: CouponData) -> NDArray[np.float64]:
    """The value of each coupon in units, percent or money, shape (coupons,).

    Where the table has none: the median of what the coupon gave, else that of its campaign's
    kind, else that of all.
    """
    kinds = data.campaigns.select("campaign", campaign_kind="kind")
    rows = data.coupons.select("item", "campaign", "value").join(
        kinds, on="campaign", how="left", maintain_order="left"
    )
    given = data.redemptions.filter(pl.col("price") > 0).select("item", price=pl.col("price"))
    known = given.join(rows.select("item", "campaign_kind"), on="item")
    own = given.group_by("item").agg(own=pl.col("price").median())
    of_kind = known.group_by("campaign_kind").agg(of_kind=pl.col("price").median())
    of_all = known["price"].median() if len(known) else FALLBACK_VALUE
    filled = rows.join(own, on="item", how="left", maintain_order="left").join(
        of_kind, on="campaign_kind", how="left", maintain_order="left", nulls_equal=True
    )
    value = pl.coalesce("value", "own", "of_kind", pl.lit(of_all)).cast(pl.Float64)
    # Discounts were prices as 32-bit floats: what is finer than a cent is noise.
    rounded = pl.when(pl.col("value").is_null()).then(value.round(2)).otherwise(value)
    return filled.select(rounded).to_series().to_numpy()


def face_values(data: CouponData) -> NDArray[np.float64]:
    """The most that a redemption of each coupon gives, in money, shape (coupons,).

    Infinite where it depends on the basket; see `feature_store.coupons.Discount.face_value`.
    """
    is_amount = (data.coupons["discount"] == "amount").to_numpy()
    maximum = data.coupons["maximum"].fill_null(np.inf).to_numpy()
    return np.where(is_amount, np.minimum(coupon_values(data), maximum), maximum)


def base_rates(data: CouponData, num_users: int) -> NDArray[np.float32]:
    """How often one coupon is redeemed by one of who may have it, shape (coupons,).

    Redemptions of the campaign over users chosen times coupons, smoothed by the kind's rate with
    the weight of PRIOR_TRIALS. A campaign for everybody was for all `num_users`, if anybody has
    redeemed it at all: it may be a new one. Who was held out was no trial.
    """
    was_used = pl.col("num_redeemed") > 0
    could_have = 1.0 - pl.col("hold_out").fill_null(0.0)
    counts = (
        data.coupons.group_by("campaign")
        .agg(num_coupons=pl.len())
        .join(data.campaigns.select("campaign", "kind", "hold_out"), on="campaign", how="left")
        .join(_counted(data.audiences, "num_chosen"), on="campaign", how="left")
        .join(_counted(_with_campaign(data), "num_redeemed"), on="campaign", how="left")
        .with_columns(pl.col("num_redeemed").fill_null(0))
        .with_columns(pl.coalesce("num_chosen", pl.when(was_used).then(num_users).otherwise(0)))
        .with_columns(trials=pl.col("num_chosen") * pl.col("num_coupons") * could_have)
    )
    of_all = _rate(int(counts["num_redeemed"].sum()), float(counts["trials"].sum()))
    kind = (pl.col("num_redeemed").sum() + PRIOR_TRIALS * of_all) / (
        pl.col("trials").sum() + PRIOR_TRIALS
    )
    rate = (pl.col("num_redeemed") + PRIOR_TRIALS * pl.col("of_kind")) / (
        pl.col("trials") + PRIOR_TRIALS
    )
    rates = counts.with_columns(of_kind=kind.over("kind")).select("campaign", rate=rate)
    found = data.coupons.select("campaign").join(
        rates, on="campaign", how="left", maintain_order="left"
    )
    return found["rate"].to_numpy().astype(np.float32)


def basket_margin(data: CouponData) -> float:
    """What a basket with a redemption earns before the coupon's cost, in micros.

    The mean basket with a redemption times MARGIN_SHARE: an assumption where margins are unknown.
    """
    amounts = data.redemptions["basket_amount"].drop_nulls()
    mean = float(np.mean(amounts.to_numpy())) if len(amounts) else FALLBACK_BASKET
    return MARGIN_SHARE * mean * MICROS


def _with_campaign(data: CouponData) -> pl.DataFrame:
    return data.redemptions.select("item").join(data.coupons.select("item", "campaign"), on="item")


def _counted(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.group_by("campaign").agg(pl.len().alias(name))


def _rate(num_redeemed: int, num_trials: float) -> float:
    smoothed = num_redeemed + PRIOR_TRIALS * FALLBACK_RATE
    return smoothed / (num_trials + PRIOR_TRIALS)
