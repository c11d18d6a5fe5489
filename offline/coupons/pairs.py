"""The users and coupons that limits are priced over: who may have which running coupon.

A campaign for chosen users is priced over them, one for everybody over some of those who bought of
late, its limits in the same proportion. Who has redeemed a coupon as often as one may is no pair
with it. Only coupons whose cost has a bound, in campaigns with some limit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from offline.coupons.examples import Codes, Floats, Goods, Histories
from offline.coupons.running import running_coupons
from offline.dataset import Dataset
from online.coupons.audience import compile_audiences

MAX_SAMPLED: Final = 2_000
"""Users that a campaign for everybody is priced over."""

RECENT_DAYS: Final = 90
"""Who bought within them before the horizon is taken to come while a campaign runs, at most."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Users and coupons, shape (n,) each, those of a user and a campaign next to each other.

    `rows` are the coupons that are priced, `coupon` the row of each pair, `campaign` the number of
    its campaign. `is_member`: the user is of the segment of the coupon's floor. By campaign: what
    is left of its budget, see `running_coupons`, over the users sampled, infinite for none;
    `weight`, by row: how many users one stands for.
    """

    rows: pl.DataFrame
    campaigns: list[str]
    campaign_budget: Floats
    weight: Floats
    user: Codes
    coupon: Codes
    campaign: Codes
    is_member: NDArray[np.bool_]
    base_rate: Floats
    features: NDArray[np.float32]

    @property
    def block_starts(self) -> NDArray[np.intp]:
        """Where the pairs of each user and campaign begin."""
        changes = (np.diff(self.user) != 0) | (np.diff(self.campaign) != 0)
        return np.flatnonzero(np.concatenate(([True], changes)))

    @property
    def block_sizes(self) -> NDArray[np.intp]:
        """How many pairs each user and campaign has."""
        return np.diff(self.block_starts, append=len(self.user))


def running_pairs(dataset: Dataset, goods: Goods, rates: NDArray[np.float32]) -> Pairs | None:
    """The pairs at the horizon; None where there are none. `rates` is by coupon."""
    rows = running_coupons(dataset)
    campaigns = rows["campaign"].unique(maintain_order=True).to_list()
    traits, histories = _Traits(dataset, rows), Histories(dataset)
    spent = _used_up(dataset, rows)
    weight, columns = np.ones(len(rows)), list[tuple[NDArray[np.generic], ...]]()
    for number, name in enumerate(campaigns):
        of_campaign = np.flatnonzero((rows["campaign"] == name).to_numpy()).astype(np.int32)
        users, is_listed, weight[of_campaign] = _users(dataset, name)
        places = rows["coupon"].to_numpy()[of_campaign].astype(np.int32)
        mine = goods.of(places)
        for one in users:
            member, allowed = traits.of(one, of_campaign, is_chosen=is_listed)
            kept = allowed & [(one, row) not in spent for row in of_campaign.tolist()]
            if kept.any():
                found = histories.features(one, dataset.horizon_time, mine, rates[places])
                num = int(kept.sum())
                owner = np.full(num, one, np.int32), np.full(num, number, np.int32)
                rest = of_campaign[kept], member[kept], rates[places][kept], found[kept]
                columns.append((*owner, *rest))
    if not columns:
        return None
    user, campaign, coupon, is_member, rate, features = map(
        np.concatenate, zip(*columns, strict=True)
    )
    budget = rows.group_by("campaign", maintain_order=True).agg(pl.col("campaign_budget").first())
    first = np.array([weight[(rows["campaign"] == name).arg_max()] for name in campaigns])
    return Pairs(
        rows=rows,
        campaigns=campaigns,
        campaign_budget=budget["campaign_budget"].fill_null(np.inf).to_numpy() / first,
        weight=weight,
        user=user,
        coupon=coupon,
        campaign=campaign,
        is_member=is_member,
        base_rate=rate.astype(np.float64),
        features=features,
    )


def _users(dataset: Dataset, campaign: str) -> tuple[list[int], bool, float]:
    """Whom a campaign is priced over, whether they were chosen, and how many one stands for."""
    chosen = dataset.coupons.audiences.filter(pl.col("campaign") == campaign)["user"].unique()
    if len(chosen):
        codes = {user: number for number, user in enumerate(dataset.users)}
        return sorted(codes[one] for one in chosen if one in codes), True, 1.0
    first = dataset.horizon_time - RECENT_DAYS * MICROSECONDS_PER_DAY
    came = np.unique(dataset.purchases.between(first, dataset.horizon_time).user)
    drawn = np.random.default_rng(0).permutation(came)[:MAX_SAMPLED]
    return np.sort(drawn).tolist(), False, max(len(came), 1) / max(len(drawn), 1)


def _used_up(dataset: Dataset, rows: pl.DataFrame) -> set[tuple[int, int]]:
    """Users and rows of coupons that they have redeemed as often as one may."""
    codes = {user: number for number, user in enumerate(dataset.users)}
    limits = rows.with_row_index("row").select("row", "item", "max_claims_per_user")
    counts = dataset.coupons.redemptions.group_by("user", "item").agg(num=pl.len())
    full = counts.join(limits, on="item").filter(
        pl.col("max_claims_per_user") > 0, pl.col("num") >= pl.col("max_claims_per_user")
    )
    found = full.select("user", "row").iter_rows()
    return {(codes[user], row) for user, row in found if user in codes}


class _Traits:
    """Which users are in the audience and in the floor's segment of each coupon."""

    def __init__(self, dataset: Dataset, rows: pl.DataFrame) -> None:
        texts = [rows[name].fill_null("").to_list() for name in ("audience", "floor_audience")]
        distinct = list(dict.fromkeys(["", *texts[0], *texts[1]]))
        self._compiled = compile_audiences(distinct)
        places = (np.array([distinct.index(one) for one in part], np.intp) for part in texts)
        self._audience, self._floor = places
        self._users = dataset.users
        self._traits = {
            user: frozenset(given) for user, given in dataset.coupons.traits.iter_rows()
        }

    def of(
        self, user: int, rows: Codes, *, is_chosen: bool
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether a user is of the floors' segments, and may have the coupons, (rows,) each.

        Who `is_chosen` for a campaign may have its coupons.
        """
        holding = self._compiled.holding(self._traits.get(self._users[user], frozenset()))
        floor = self._floor[rows]
        allowed = holding[self._audience[rows]] | is_chosen
        return holding[floor] & (floor > 0), allowed
