"""What money, caps and floors of the running coupons are worth: the linear programme, as prices.

Resources are the money of each campaign, the money and the total cap of each coupon that has its
own, and each coupon's floor: the least share of its offers, or of its money, that is for a
segment. A pair of a user and a coupon uses the expected cost of the first two, the chance of a
redemption of the cap, and of a floor `share` times its use where the user is not of the segment,
`share - 1` times where the user is, up to 0. What cannot bind is no resource, nor is a floor of
whose segment nobody is among the users: no price keeps it. Who has redeemed a coupon as often as
one may is no pair with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.coupon_demand import LADDER, best_of_others, demand_by_price
from feature_store.coupon_features import best_fitting, uplift_by_coupon
from feature_store.coupons import MICROS, Demand, FloorOf, coupon_account
from offline.coupons.allocation import NONE, programme, shadow_prices
from offline.coupons.examples import Codes, Floats, Goods
from offline.coupons.pairs import Pairs, running_pairs
from offline.coupons.values import basket_margin
from offline.dataset import Dataset

Chance = Callable[[Floats], Floats]
DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Priced:
    """Prices of limits, see `feature_store.coupons.Learned`.

    `floors_without_members` are coupons of whose floor's segment nobody may have them.
    """

    shadow_prices: dict[str, float] = field(default_factory=dict)
    demand: dict[str, Demand] = field(default_factory=dict)
    cap_prices: dict[str, float] = field(default_factory=dict)
    floor_prices: dict[str, float] = field(default_factory=dict)
    floors_without_members: list[str] = field(default_factory=list)


def price_limits(
    dataset: Dataset,
    goods: Goods,
    rates: NDArray[np.float32],
    redemption: Chance | None,
    uplift: Chance | None,
) -> Priced:
    """The prices at the horizon; `redemption` None: base rates, `uplift` None: every redemption.

    What a coupon of unknown value costs, and what a redemption earns, are as the section says.
    """
    pairs = running_pairs(dataset, goods, rates)
    if pairs is None:
        return Priced()
    features = pairs.features.astype(np.float64)
    chance = pairs.base_rate if redemption is None else redemption(features)
    added = chance
    if uplift is not None:
        block = np.repeat(np.arange(len(pairs.block_starts)), pairs.block_sizes)
        added = uplift_by_coupon(uplift(features), chance, best_fitting(features, block))
    cost = chance * pairs.rows["face_value"].to_numpy()[pairs.coupon]
    value = added * basket_margin(dataset.coupons) / MICROS - cost
    market = _Market(pairs, value, cost, chance)
    resource, use, limit, named, highest = market.resources()
    campaign, user = pairs.campaign, pairs.user.astype(np.int64)
    problem, _ = programme(user, campaign, value, resource, use, limit)
    price = np.append(np.minimum(shadow_prices(problem), highest), 0.0)  # NONE is the last place
    surplus = value - (price[resource] * use).sum(axis=1)
    found = {name: float(price[number]) for number, name in enumerate(named)}
    return market.priced(found, surplus)


@dataclass(frozen=True, slots=True)
class _Market:
    """Pairs with what showing each is worth and uses: `value`, `cost` and `chance`, shape (n,)."""

    pairs: Pairs
    value: Floats
    cost: Floats
    chance: Floats

    @property
    def has_members(self) -> NDArray[np.bool_]:
        """Whether somebody of the segment of each coupon's floor may have it, shape (rows,)."""
        pairs = self.pairs
        return np.bincount(pairs.coupon, pairs.is_member, len(pairs.rows)) > 0

    def resources(self) -> tuple[Codes, Floats, Floats, list[tuple[str, str]], Floats]:
        """Of each pair the resources and uses, (n, 4); of each resource limit, name and top price.

        Where all that could be used of a resource is within its limit, nobody needs it. At the top
        price of a floor the coupon is worth showing to nobody else: a higher one gains nothing.
        """
        pairs, rows = self.pairs, self.pairs.rows
        share = rows["floor_share"].fill_null(0.0).to_numpy()
        of_floor = np.where((rows["floor_of"] == FloorOf.MONEY).fill_null(value=False), 1, 0)
        unit = np.where(of_floor[pairs.coupon] == 1, self.cost, 1.0)
        towards = (share[pairs.coupon] - pairs.is_member) * unit
        left = (rows["max_claims"] - rows["num_redeemed"]).to_numpy().astype(np.float64)
        is_capped = (rows["max_claims"].fill_null(0) > 0).to_numpy()
        money = rows["budget"].fill_null(np.inf).to_numpy() / pairs.weight
        caps = np.where(is_capped, np.maximum(left, 0.0), np.inf) / pairs.weight
        floors = np.where((share > 0) & self.has_members, 0.0, np.inf)
        others, top = towards > 0, np.zeros(len(rows))
        worth = np.maximum(self.value[others], 0.0) / np.maximum(towards[others], 1e-12)
        np.maximum.at(top, pairs.coupon[others], worth)
        kinds = (
            ("money", pairs.campaign, pairs.campaign_budget, self.cost, pairs.campaigns),
            ("own", pairs.coupon, money, self.cost, rows["item"].to_list()),
            ("cap", pairs.coupon, caps, self.chance, rows["item"].to_list()),
            ("floor", pairs.coupon, floors, towards, rows["item"].to_list()),
        )
        named: list[tuple[str, str]] = []
        limits, columns, uses, highest = [], [], [], []
        for kind, owner, limit, use, names in kinds:
            binds = np.bincount(owner, np.maximum(use, 0.0), len(limit)) > limit
            number = np.where(binds, len(named) + np.cumsum(binds) - 1, NONE)
            columns.append(number[owner].astype(np.int32))
            uses.append(use)
            limits.append(limit[binds])
            highest.append(top[binds] if kind == "floor" else np.full(binds.sum(), np.inf))
            named += [(kind, names[place]) for place in np.flatnonzero(binds)]
        of_pairs = np.stack(columns, axis=1), np.stack(uses, axis=1)
        return *of_pairs, np.concatenate(limits), named, np.concatenate(highest)

    def priced(self, price: dict[tuple[str, str], float], surplus: Floats) -> Priced:
        """Prices by what they are of, and what is asked for of money at other prices.

        Of money that nobody may have yet no demand is known, and visitors will say it.
        """
        is_lost = (self.pairs.rows["floor_share"].fill_null(0.0) > 0).to_numpy() & ~self.has_members
        found = Priced(floors_without_members=self.pairs.rows["item"].filter(is_lost).to_list())
        for (kind, name), value in price.items():
            if kind in ("cap", "floor") and value > 0:
                prices = found.cap_prices if kind == "cap" else found.floor_prices
                prices[name] = round(value, DIGITS)
        for number, name in enumerate(self.pairs.campaigns):
            if np.isfinite(self.pairs.campaign_budget[number]):
                mine = self.pairs.campaign == number
                now = price.get(("money", name), 0.0)
                found.shadow_prices[name] = round(now, DIGITS)
                if mine.any():
                    found.demand[name] = self._demand(mine, surplus + now * self.cost, blocks=True)
        others = best_of_others(surplus, self.pairs.block_starts)
        for number, row in enumerate(self.pairs.rows.iter_rows(named=True)):
            if row["budget"] is not None:
                mine = self.pairs.coupon == number
                name, now = coupon_account(row["item"]), price.get(("own", row["item"]), 0.0)
                found.shadow_prices[name] = round(now, DIGITS)
                if mine.any():
                    found.demand[name] = self._demand(mine, surplus + now * self.cost - others)
        return found

    def _demand(self, mine: NDArray[np.bool_], value: Floats, *, blocks: bool = False) -> Demand:
        """What is asked for of one limit at the prices of the LADDER; `blocks`: one a user."""
        pairs = self.pairs
        weight = float(pairs.weight[pairs.coupon[mine][0]])
        cost, value = self.cost[mine], value[mine]
        gained = np.maximum(self.value[mine], 0.0).sum() / max(cost.sum(), 1e-12)
        ladder = LADDER * max(float(gained), 1e-9)
        block = pairs.user[mine] if blocks else np.arange(len(value))
        only = np.zeros(len(value), np.int32)
        used = demand_by_price(value, cost, block, only, ladder[:, None])[:, 0]
        return Demand(
            tuple(np.round(ladder, DIGITS).tolist()),
            tuple(np.round(MICROS * weight * used).tolist()),
        )
