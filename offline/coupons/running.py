"""The coupons that are good at the horizon and limited in some way, with what is left of money.

What redemptions gave is no part of a budget any more. Prices are solved for over everybody who may
come while a campaign runs, and serving expects in what is left of its time as large a part of them.
So what is left of a budget is taken over the share of its time that is left: nobody paces a budget
without dates, and it is taken as it is.
"""

import polars as pl

from offline.coupons.dataset import CouponData
from offline.coupons.section import with_times
from offline.coupons.values import face_values
from offline.dataset import Dataset


def running_coupons(dataset: Dataset) -> pl.DataFrame:
    """Coupons of known cost, good at the horizon, of campaigns of which something is limited.

    As in the table, with `coupon`, its place there, `face_value`, `num_redeemed` and
    `campaign_budget`; budgets are in money, what is left of them over the share of their time that
    is left.
    """
    data, now = dataset.coupons, dataset.horizon_time
    faces = pl.Series("face_value", face_values(data))
    redeemed = _redeemed(data, faces)
    is_limited = (
        pl.col("campaign_budget").is_not_null()
        | pl.col("budget").is_not_null()
        | (pl.col("max_claims").fill_null(0) > 0)
        | (pl.col("floor_share").fill_null(0) > 0)
    )
    return (
        with_times(data)
        .with_row_index("coupon")
        .with_columns(faces)
        .join(_campaign_budgets(data, redeemed, now), on="campaign", how="left")
        .join(redeemed.drop("campaign"), on="item", how="left")
        .sort("coupon")
        .with_columns(pl.col("num_redeemed").fill_null(0.0), budget=_left("budget", now))
        .filter(
            pl.col("face_value").is_finite(),
            pl.col("end_time").is_null() | (pl.col("end_time") > now),
            pl.col("start_time").is_null() | (pl.col("start_time") <= now),
        )
        .filter(is_limited.any().over("campaign"))
    )


def _redeemed(data: CouponData, faces: pl.Series) -> pl.DataFrame:
    """By coupon that was redeemed: `item`, `campaign`, `num_redeemed`, and `given` in money.

    A redemption of which it is not known what it gave has given the face value.
    """
    bounded = pl.when(pl.col("face_value").is_finite()).then("face_value").otherwise(0.0)
    price = pl.col("price").cast(pl.Float64)
    return (
        data.redemptions.select("item", "price")
        .join(data.coupons.select("item", "campaign").with_columns(faces), on="item")
        .with_columns(given=pl.when(price > 0).then(price).otherwise(bounded))
        .group_by("item", "campaign")
        .agg(num_redeemed=pl.len().cast(pl.Float64), given=pl.col("given").sum())
    )


def _campaign_budgets(data: CouponData, redeemed: pl.DataFrame, now_time: int) -> pl.DataFrame:
    given = redeemed.group_by("campaign").agg(pl.col("given").sum())
    times = [pl.col(name).dt.epoch("us") for name in ("start_time", "end_time")]
    rows = data.campaigns.with_columns(times).join(given, on="campaign", how="left")
    return rows.select("campaign", campaign_budget=_left("budget", now_time))


def _left(budget: str, now_time: int) -> pl.Expr:
    """What is left of a budget, over the share of its time that is; null: it is unlimited."""
    start, end = pl.col("start_time"), pl.col("end_time")
    is_paced = (start <= now_time) & (now_time < end)
    ahead = pl.when(is_paced).then((end - now_time) / (end - start)).otherwise(1.0)
    left = pl.col(budget) - pl.col("given").fill_null(0.0)
    return pl.when(left > 0).then(left / ahead).when(left.is_not_null()).then(0.0)
