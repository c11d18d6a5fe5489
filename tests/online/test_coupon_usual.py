"""What usually comes when, and what is usually asked for: known answers."""

import numpy as np
import pytest

from feature_store.coupon_demand import HOUR
from feature_store.coupons import HOURS_OF_WEEK, Campaign, Demand
from online.coupons.usual import NOTHING_USUAL, Usual, elapsed_shares

MONDAY = (4 + 7 * 2_800) * 24 * HOUR
DAY = 24 * HOUR


def only(*hours: int) -> tuple[float, ...]:
    return tuple(float(hour in hours) / len(hours) for hour in range(HOURS_OF_WEEK))


def test_nothing_known_is_even() -> None:
    assert elapsed_shares((), MONDAY, MONDAY + DAY).tolist() == [0.0, 1.0]
    assert elapsed_shares(only(30), MONDAY, MONDAY + DAY).tolist() == [0.0, 1.0], "all on Tuesday"


def test_visits_of_one_hour_come_in_it() -> None:
    shares = elapsed_shares(only(9), MONDAY, MONDAY + DAY)
    assert len(shares) == 25
    assert shares[9] == pytest.approx(0.0, abs=1e-9)
    assert shares[10] == pytest.approx(1.0)


def test_weeks_follow_each_other_and_may_begin_anywhere() -> None:
    start = MONDAY + 3 * DAY + 12 * HOUR
    shares = elapsed_shares(only(9, 4 * 24 + 9), start, start + 14 * DAY)
    came = np.flatnonzero(np.diff(shares) > 1e-9)
    assert came.tolist() == [21, 93, 21 + 168, 93 + 168]
    assert np.diff(shares)[came] == pytest.approx(0.25)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_long_campaigns_have_longer_steps() -> None:
    shares = elapsed_shares(only(9), MONDAY, MONDAY + 700 * DAY)
    assert len(shares) == 2_001
    assert shares[1_000] == pytest.approx(0.5, abs=0.01)


def campaign(days: int = 1) -> Campaign:
    return Campaign("c", start_time=MONDAY, end_time=MONDAY + days * DAY, budget=100)


def test_known_demand_is_that_of_the_plan() -> None:
    demand = {"c": Demand((0.0, 1.0, 2.0), (300.0, 100.0, 0.0))}
    plan = Usual(demand, only(6, 18)).plan(campaign(), "c", price=1.0, scale=1.0)
    whole = plan.demand[-1][:, 0]
    assert np.interp([0.0, 1.0, 50.0], plan.ladder[:, 0], whole) == pytest.approx(
        [300, 100, 0], abs=4
    )
    np.testing.assert_allclose(plan.demanded(0.5)[:, 0], whole / 2)
    np.testing.assert_allclose(plan.demanded(0.2)[:, 0], 0.0)


def test_unknown_demand_uses_the_budget_at_the_first_price() -> None:
    plan = NOTHING_USUAL.plan(campaign(), "c", price=1.0, scale=1.0)
    at = np.interp([0.5, 1.0, 2.0], plan.ladder[:, 0], plan.demand[-1][:, 0])
    assert at == pytest.approx([200, 100, 50], rel=0.03)
    np.testing.assert_allclose(plan.demanded(0.25), plan.demand[-1] / 4)
