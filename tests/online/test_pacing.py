"""Prices of budgets through a day: known moves, and budgets that last."""

import numpy as np
import pytest

from online.coupons.pacing import (
    MIN_STEP,
    NONE,
    SPEED,
    Pace,
    Plan,
    fitting,
    net_values,
    repriced,
    start,
    straight,
)


def plan(price: float, limit: float = 100.0) -> Plan:
    return Plan(np.array([limit]), np.array([price]), np.array([1.0]), straight(1))


def test_net_values_against_counting_by_hand() -> None:
    resource = np.array([[0, 1], [1, NONE]], np.int32)
    use = np.array([[2.0, 1.0], [3.0, 9.0]])
    net = net_values(np.array([10.0, 10.0]), np.array([1.5, 2.0]), resource, use)
    np.testing.assert_allclose(net, [10 - 3 - 2, 10 - 6])


def test_what_is_left_must_hold_a_claim() -> None:
    resource = np.array([[0], [0], [NONE]], np.int32)
    need = np.array([[5.0], [5.01], [99.0]])
    np.testing.assert_array_equal(fitting(np.array([5.0]), resource, need), [True, False, True])


@pytest.mark.parametrize(("used", "sign"), [(5.0, 0), (10.0, 1), (0.0, -1)])
def test_prices_follow_what_is_used_beside_the_plan(used: float, sign: int) -> None:
    """A twentieth of the day is due 5 of 100."""
    pace = repriced(plan(2.0), start(plan(2.0), np.zeros(1)), np.array([used]), 0.05)
    assert pace.price[0] == pytest.approx(2.0 * np.exp(sign * SPEED * 0.05))


def test_within_a_step_prices_stay() -> None:
    pace = start(plan(2.0), np.zeros(1), 0.3)
    assert repriced(plan(2.0), pace, np.ones(1), 0.3 + MIN_STEP / 2) is pace
    assert repriced(plan(2.0), pace, np.ones(1), 0.2) is pace


def test_a_curve_says_when_use_is_due() -> None:
    late = Plan(np.array([100.0]), np.array([1.0]), np.array([1.0]), np.array([[0], [0.1], [1.0]]))
    assert late.due(0.5)[0] == pytest.approx(0.1)
    assert late.due(0.75)[0] == pytest.approx(0.55)
    early = repriced(late, start(late, np.zeros(1)), np.array([10.0]), 0.5)
    assert early.price[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("first", "share"), [(1.0, 0.8), (4.0, 0.8), (0.25, 0.55), (0.0, 0.5)])
def test_a_wrong_price_is_put_right_through_the_day(first: float, share: float) -> None:
    """Values per unit are uniform on 0 to 4, 1,000 ask for one of 250 units: the price is 3.

    First come, first served earns .57: a price that begins far too low does no better.
    """
    rng = np.random.default_rng(1)
    day = plan(first, 250.0)
    pace, used, earned = start(day, np.zeros(1)), np.zeros(1), 0.0
    for number in range(1_000):
        pace = repriced(day, pace, used, number / 1_000)
        value = np.array([4 * rng.random()])
        net = net_values(value, pace.price, np.zeros((1, 1), np.int32), np.ones((1, 1)))
        if net[0] > 0 and used[0] + 1 <= 250:
            used += 1
            earned += float(value[0])
    assert used[0] <= 250
    assert earned > share * 250 * 3.5


def test_prices_stay_within_bounds() -> None:
    pace = Pace(np.array([1e3]), np.zeros(1), 0.0)
    high = repriced(plan(1e3), pace, np.array([90.0]), 0.9)
    assert high.price[0] <= 1e3
    low = repriced(plan(0.0), start(plan(0.0), np.zeros(1)), np.zeros(1), 0.9)
    assert low.price[0] == 0.0
