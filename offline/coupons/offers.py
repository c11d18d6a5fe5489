"""Who could have had a campaign's offers and who could not: the log that uplift is learned from.

Two kinds. Randomised: a campaign with a `hold_out`. Everybody counts who came while it ran, from
the first time that something else than coupons was shown to them, since that does not depend on
the lots; who was held out is drawn again as serving drew it. Observational: campaigns without.
Where users were chosen, those against all others that were known when it began; where it was for
everybody, who was shown a coupon of it on the first day of coming against who was not.

Nobody who refuses personalization is in it, and nothing later than the horizon is looked at.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from feature_store.coupons import USER_NAMES, is_held_out
from feature_store.schema import MICROSECONDS_PER_DAY, Corpus, EventKind
from offline.exposures import scan_exposures
from offline.ingest.tables import TIME, instant
from offline.people import read_consents, read_merges, scan_user_events

OFFERS_SCHEMA: Final = pl.Schema(
    {
        "campaign": pl.String(),
        "user": pl.String(),
        "start_time": TIME,
        "treated": pl.Boolean(),
        "propensity": pl.Float64(),
        "was_shown": pl.Boolean(),
        "bought": pl.Boolean(),
    }
)
"""One row a user and campaign. `start_time` is when the user's time with it began, `treated`
whether its offers were open to the user from then on, `propensity` the chance of it where lots were
drawn, else null; `was_shown` whether one was, and `bought` whether anything was bought, in the
OUTCOME_DAYS from then."""

OUTCOME_DAYS: Final = 14
MAX_DRAWN: Final = 60_000
MAX_OBSERVED: Final = 20_000
"""Of more rows a part is drawn, as many of each campaign."""

DAY: Final = pl.duration(days=1)


def no_offers() -> pl.DataFrame:
    """A log of nobody."""
    return pl.DataFrame(schema=OFFERS_SCHEMA)


def load_offers(
    tables: Path,
    campaigns: pl.DataFrame,
    coupons: pl.DataFrame,
    audiences: pl.DataFrame,
    horizon_time: int,
    seed: int = 7,
) -> pl.DataFrame:
    """The log of all campaigns that have begun OUTCOME_DAYS before the horizon, by OFFERS_SCHEMA.

    Only lots drawn count where any were: observational campaigns are left out then.
    """
    end = horizon_time - OUTCOME_DAYS * MICROSECONDS_PER_DAY
    begun = campaigns.filter(
        pl.col("start_time").is_not_null() & (pl.col("start_time") < instant(end))
    )
    is_drawn = pl.col("hold_out").fill_null(0.0) > 0
    drawn = begun.filter(is_drawn)
    chosen = drawn if len(drawn) else begun
    if not len(chosen):
        return no_offers()
    first = chosen["start_time"].min()
    seen = _seen(tables, coupons, horizon_time).filter(pl.col("time") >= first)
    bought = _purchases(tables, horizon_time)
    firsts = bought.group_by("user").agg(first_time=pl.col("time").min())
    most = (MAX_DRAWN if len(drawn) else MAX_OBSERVED) // len(chosen)
    rng = np.random.default_rng(seed)
    parts = []
    for row in chosen.sort("start_time", "campaign").iter_rows(named=True):
        people = _people(row, seen, firsts, audiences, end)
        parts.append(people[np.sort(rng.permutation(len(people))[:most])])
    return _with_outcome(pl.concat(parts), seen, bought)


def _people(
    campaign: dict[str, Any],
    seen: pl.DataFrame,
    bought: pl.DataFrame,
    audiences: pl.DataFrame,
    end: int,
) -> pl.DataFrame:
    """Who is compared for a campaign: campaign, user, start_time, treated, propensity."""
    name, share = str(campaign["campaign"]), campaign["hold_out"] or 0.0
    mine = audiences.filter(pl.col("campaign") == name)
    if not share and len(mine):
        return _chosen_and_others(campaign, mine, bought)
    last = instant(end)
    until = (
        last
        if campaign["end_time"] is None
        else pl.min_horizontal(pl.lit(campaign["end_time"]), last)
    )
    running = seen.filter((pl.col("time") >= campaign["start_time"]) & (pl.col("time") < until))
    if len(mine):
        running = running.join(mine.select("user"), on="user", how="semi")
    came = running.filter(pl.col("is_other")).group_by("user").agg(start_time=pl.col("time").min())
    if not share:
        shown = running.filter(pl.col("campaigns").list.contains(name)).select("user", "time")
        first = came.join(shown, on="user").filter(pl.col("time") < pl.col("start_time") + DAY)
        is_treated = pl.col("user").is_in(first["user"].unique().implode())
        return _in_order(came.with_columns(treated=is_treated), name, None)
    names = (f"{USER_NAMES}{one}" for one in came["user"])
    treated = pl.Series([not is_held_out(one, name, share) for one in names], dtype=pl.Boolean)
    return _in_order(came.with_columns(treated=treated), name, 1.0 - share)


def _chosen_and_others(
    campaign: dict[str, Any], mine: pl.DataFrame, bought: pl.DataFrame
) -> pl.DataFrame:
    """Who was chosen, and who else had bought before: as of the campaign's start."""
    start = campaign["start_time"]
    known = bought.filter(pl.col("first_time") < start)
    rows = known.select(
        "user",
        start_time=pl.lit(start, TIME),
        treated=pl.col("user").is_in(mine["user"].implode()),
    )
    return _in_order(rows, str(campaign["campaign"]), None)


def _in_order(rows: pl.DataFrame, campaign: str, propensity: float | None) -> pl.DataFrame:
    chance = pl.lit(propensity, pl.Float64)
    fixed = {"campaign": pl.lit(campaign), "propensity": chance}
    columns = ("campaign", "user", "start_time", "treated", "propensity")
    return rows.with_columns(**fixed).select(columns).sort("user")


def _seen(tables: Path, coupons: pl.DataFrame, horizon_time: int) -> pl.DataFrame:
    """What users were shown before the horizon, one row an answer.

    `user`, `time`, `campaigns` whose coupons it held, and `is_other`: it held something else.
    """
    campaign_of = dict(coupons.select("item", "campaign").iter_rows())
    refused = read_consents(tables).filter(~pl.col("personalization")).select("user")
    merges = read_merges(tables)
    accounts = merges.filter(pl.col("kind") == "user").lazy().select("source", "target")
    is_coupon = pl.element() == Corpus.COUPON.value
    names = pl.element().replace_strict(campaign_of, default=None, return_dtype=pl.String())
    return (
        scan_exposures(tables)
        .filter(pl.col("user").is_not_null(), pl.col("request_time") < instant(horizon_time))
        .join(accounts, left_on="user", right_on="source", how="left")
        .select(
            user=pl.coalesce("target", "user"),
            time="request_time",
            campaigns=pl.col("items").list.eval(names),
            is_other=pl.col("corpora").list.eval(~is_coupon).list.any(),
        )
        .join(refused.lazy(), on="user", how="anti")
        .collect()
    )


def _purchases(tables: Path, horizon_time: int) -> pl.DataFrame:
    """When users bought anything before the horizon: `user` and `time`, in no order."""
    events = scan_user_events(tables, None, horizon_time)
    bought = events.filter(pl.col("kind") == EventKind.PURCHASE.value)
    return bought.select("user", time="event_time").unique().collect()


def _with_outcome(people: pl.DataFrame, seen: pl.DataFrame, bought: pl.DataFrame) -> pl.DataFrame:
    """Whether each was shown an offer, and bought, in the OUTCOME_DAYS from their start."""
    offers = seen.select("user", "time", campaign="campaigns").explode("campaign").drop_nulls()
    rows = people.sort("start_time", maintain_order=True)
    rows = _followed(rows, offers, ["user", "campaign"], "was_shown")
    rows = _followed(rows, bought, ["user"], "bought")
    return rows.select(OFFERS_SCHEMA.names()).sort("campaign", "user")


def _followed(rows: pl.DataFrame, times: pl.DataFrame, by: list[str], name: str) -> pl.DataFrame:
    """With a column that says whether one of the `times` lies in the OUTCOME_DAYS of a row."""
    near = times.select(*by, "time").sort("time").with_columns(found=pl.col("time"))
    joined = rows.join_asof(
        near,
        left_on="start_time",
        right_on="time",
        by=by,
        strategy="forward",
        check_sortedness=False,
    )
    until = pl.col("start_time") + pl.duration(days=OUTCOME_DAYS)
    is_within = (pl.col("found") < until).fill_null(value=False)
    return joined.with_columns(is_within.alias(name)).drop("found", "time", strict=False)
