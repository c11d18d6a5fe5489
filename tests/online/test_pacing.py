"""Prices of budgets through a day: known solutions, and budgets that last."""

import numpy as np
import pytest
from numpy.typing import NDArray

from feature_store.coupon_demand import LADDER, demand_by_price
from online.coupons.pacing import (
    MIN_STEP,
    NONE,
    TRUST_IN_USE,
    Pace,
    Plan,
    fitting,
    net_values,
    noted,
    repriced,
    start,
    steady,
)

Floats = NDArray[np.float64]
ONE = np.zeros(1, np.int32)


def plan(price: float, limit: float = 100.0) -> Plan:
    return steady(np.array([limit]), np.array([price]), np.array([1.0]))


def test_net_values_against_counting_by_hand() -> None:
    resource = np.array([[0, 1], [1, NONE]], np.int32)
    use = np.array([[2.0, 1.0], [3.0, 9.0]])
    net = net_values(np.array([10.0, 10.0]), np.array([1.5, 2.0]), resource, use)
    np.testing.assert_allclose(net, [10 - 3 - 2, 10 - 6])


def test_what_is_left_must_hold_a_claim() -> None:
    resource = np.array([[0], [0], [NONE]], np.int32)
    need = np.array([[5.0], [5.01], [99.0]])
    np.testing.assert_array_equal(fitting(np.array([5.0]), resource, need), [True, False, True])


def test_demand_by_price_against_one_price_after_the_other() -> None:
    rng = np.random.default_rng(3)
    size, ladder = 60, np.array([[0.0, 0.0], [0.5, 1.0], [2.0, 3.0]])
    block = np.sort(rng.integers(0, 20, size))
    resource = (block % 2).astype(np.int32)
    value, cost = rng.normal(1, 1, size), rng.uniform(0.1, 1, size)
    expected = np.zeros_like(ladder)
    for number, prices in enumerate(ladder):
        for one in np.unique(block):
            rows = np.flatnonzero(block == one)
            net = value[rows] - prices[resource[rows]] * cost[rows]
            if net.max() > 0:
                expected[number, resource[rows[0]]] += cost[rows[net.argmax()]]
    np.testing.assert_allclose(demand_by_price(value, cost, block, resource, ladder), expected)


@pytest.mark.parametrize("used", [0.0, 5.0, 10.0, 40.0])
def test_prices_without_visitors_follow_what_is_used_beside_the_plan(used: float) -> None:
    """Demand falls by one percent for one of price; a twentieth of the day is due 5 of 100."""
    pace = repriced(plan(2.0), start(plan(2.0), np.zeros(1)), np.array([used]), 0.05)
    trust = 100 * TRUST_IN_USE
    rest = 95.0 * (used + trust) / (5.0 + trust)
    assert pace.price[0] == pytest.approx(2.0 * rest / (100 - used), rel=0.02)


def test_what_is_held_for_others_is_not_left_and_was_not_used() -> None:
    used, held = np.array([5.0]), np.array([50.0])
    pace = repriced(plan(2.0), start(plan(2.0), np.zeros(1)), used, 0.05, held)
    assert pace.price[0] == pytest.approx(2.0 * 95.0 / (100 - 5 - 50), rel=0.02)
    assert pace.used.tolist() == [5.0]


def test_reservations_that_end_make_a_budget_no_debtor() -> None:
    full = repriced(plan(2.0), start(plan(2.0), np.zeros(1)), np.array([60.0]), 0.1)
    free = repriced(plan(2.0), full, np.zeros(1), 0.3)
    assert free.spent.tolist() == [0.0]
    assert 0.0 < free.price[0] < 2.0


def test_within_a_step_prices_stay() -> None:
    pace = start(plan(2.0), np.zeros(1), 0.3)
    assert repriced(plan(2.0), pace, np.ones(1), 0.3 + MIN_STEP / 2) is pace
    assert repriced(plan(2.0), pace, np.ones(1), 0.2) is pace


def test_what_is_expected_later_is_kept_for() -> None:
    """A tenth of the demand is expected by noon: using a tenth by then leaves the price."""
    even = plan(1.0)
    late = Plan(
        even.limit,
        even.price,
        even.scale,
        np.array([0.0, 0.1, 1.0])[:, None, None] * even.demand[-1],
    )
    assert late.demanded(0.75)[:, 0] == pytest.approx(0.55 * late.demand[-1][:, 0])
    used = np.array([10.0])
    of_late = repriced(late, start(late, np.zeros(1)), used, 0.5)
    assert of_late.price[0] == pytest.approx(1.0, rel=0.02)
    of_even = repriced(even, start(even, np.zeros(1)), used, 0.5)
    assert of_even.price[0] < 0.7


def test_twice_the_visitors_are_priced_before_they_use_anything() -> None:
    """All else as planned, 20 times the demand in a tenth of the day; used is what was due."""
    day = plan(1.0)
    crowd = 20 * (day.demanded(0.1) - day.demanded(0.0))
    pace = noted(start(day, np.zeros(1)), crowd)
    assert repriced(day, pace, np.array([10.0]), 0.1).price[0] > 1.5


def spend(day: Plan, values: Floats, *, is_noted: bool) -> tuple[float, float]:
    """What is earned and used if each asks for one unit of the only resource, in order."""
    pace, used, earned = start(day, np.zeros(1)), np.zeros(1), 0.0
    for number, worth in enumerate(values):
        pace = repriced(day, pace, used, number / len(values))
        value, cost = np.array([worth]), np.ones(1)
        if is_noted:
            pace = noted(pace, demand_by_price(value, cost, np.zeros(1, np.int64), ONE, day.ladder))
        net = net_values(value, pace.price, ONE[:, None], cost[:, None])
        if net[0] > 0 and used[0] + 1 <= day.limit[0]:
            used += 1
            earned += worth
    return earned, float(used[0])


@pytest.mark.parametrize("first", [0.0, 0.25, 1.0, 3.0, 4.0, 12.0])
def test_a_wrong_price_is_put_right_through_the_day(first: float) -> None:
    """Values per unit are uniform on 0 to 4, 1,000 ask for one of 250 units: the price is 3.

    First come, first served earns .57 of what the best 250 do.
    """
    values = 4 * np.random.default_rng(1).random(1_000)
    earned, used = spend(plan(first, 250.0), values, is_noted=True)
    assert used <= 250
    assert earned > 0.97 * np.sort(values)[-250:].sum()


@pytest.mark.parametrize(("first", "share"), [(0.25, 0.7), (1.0, 0.9), (4.0, 0.97), (12.0, 0.9)])
def test_use_alone_puts_a_price_right_more_slowly(first: float, share: float) -> None:
    """The same day where nobody says what visitors ask for."""
    values = 4 * np.random.default_rng(1).random(1_000)
    earned, used = spend(plan(first, 250.0), values, is_noted=False)
    assert used <= 250
    assert earned > share * np.sort(values)[-250:].sum()


def test_prices_stay_on_the_ladder() -> None:
    pace = start(plan(1.0), np.zeros(1))
    spent: Pace = repriced(plan(1.0), pace, np.array([100.0]), 0.5)
    assert spent.price[0] == pytest.approx(LADDER[-1])
    unused = repriced(plan(0.0), start(plan(0.0), np.zeros(1)), np.zeros(1), 0.9)
    assert unused.price[0] == 0.0
