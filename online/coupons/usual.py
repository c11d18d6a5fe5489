"""What a budget's time usually asks for: what training says of it becomes the plan of its pace.

Training knows from history what the chosen users would use of a budget at each price, and in which
hours of the week visitors come. Where it knows no demand, the plan is that the budget lasts just so
at the first price and that demand falls by ELASTICITY; where it knows no hours, that visitors come
evenly. It reads no clock and no store.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from feature_store.coupon_demand import FIRST_MONDAY_H, HOUR
from feature_store.coupons import HOURS_OF_WEEK, Campaign, Coupon, Demand
from online.coupons.pacing import Floats, Plan, steady

MAX_POINTS: Final = 2_000
"""Of a plan: three months by the hour; what is longer has longer steps."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What training says: demand by campaign, and the share of visits in each hour of the week."""

    demand: Mapping[str, Demand] = field(default_factory=dict)
    visits: tuple[float, ...] = ()

    def plan(self, one: Campaign | Coupon, name: str, price: float, scale: float) -> Plan:
        """The plan of what has a budget and dates; `price` and `scale` are its own.

        `name` is what demand is known by.
        """
        limit = np.array([float(one.budget or 0)])
        plan = steady(limit, np.array([price]), np.array([scale]))
        whole = plan.demand[-1]
        if (known := self.demand.get(name)) is not None:
            whole = np.interp(plan.ladder, known.prices, known.micros)
        shares = elapsed_shares(self.visits, one.start_time or 0, one.end_time or 1)
        return replace(plan, demand=shares[:, None, None] * whole)


NOTHING_USUAL: Final = Usual()


def elapsed_shares(visits: tuple[float, ...], start_time: int, end_time: int) -> Floats:
    """The share of visits that have come by evenly spaced instants, from 0 to 1, shape (points,).

    `visits` is by hour of the week from Monday 0:00 UTC; empty, or 0 in between: evenly.
    """
    even = np.array([0.0, 1.0])
    if not visits:
        return even
    num_hours = (end_time - start_time) / HOUR
    num_points = min(MAX_POINTS, max(1, math.ceil(num_hours))) + 1
    hours = np.linspace(start_time / HOUR, end_time / HOUR, num_points) - FIRST_MONDAY_H
    week, rest = np.divmod(hours, HOURS_OF_WEEK)
    by_hour = np.concatenate([[0.0], np.cumsum(visits) / np.sum(visits)])
    come = week + np.interp(rest, np.arange(HOURS_OF_WEEK + 1), by_hour)
    total = come[-1] - come[0]
    shares: Floats = (come - come[0]) / total if total > 0 else even
    return shares
