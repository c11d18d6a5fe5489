"""Lifts: against published intervals, and how often they hold what is true."""

import numpy as np
import pytest

from offline.campaigns.effects import Outcome, buyer_lift, spend_lift, wilson


def outcome(num_buyers: int, num_people: int) -> Outcome:
    return Outcome(num_people, num_buyers, 0.0, 0.0)


def of(spend: np.typing.NDArray[np.float64]) -> Outcome:
    return Outcome(len(spend), int((spend > 0).sum()), float(spend.sum()), float((spend**2).sum()))


def test_wilson_known_answer() -> None:
    """81 of 263: Newcombe 1998 (Statistics in Medicine 17, 857), table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_newcombe_known_answer() -> None:
    """56/70 against 48/80: Newcombe 1998 (Statistics in Medicine 17, 873), table II, method 10."""
    lift = buyer_lift(outcome(56, 70), outcome(48, 80))
    assert (lift.value, lift.low, lift.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_spend_against_the_plain_formula() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.exponential(5, 400), rng.exponential(4, 300)
    lift = spend_lift(of(ours), of(theirs))
    error = np.sqrt(ours.var(ddof=1) / 400 + theirs.var(ddof=1) / 300)
    assert lift.value == pytest.approx(ours.mean() - theirs.mean())
    assert lift.high - lift.low == pytest.approx(2 * 1.959964 * error)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(600):
        ours = rng.random(800) < 0.12
        theirs = rng.random(200) < 0.10
        lift = buyer_lift(outcome(int(ours.sum()), 800), outcome(int(theirs.sum()), 200))
        held += lift.low <= 0.02 <= lift.high
    assert 0.92 <= held / 600 <= 0.98


def test_nobody_held_out_says_nothing() -> None:
    lift = buyer_lift(outcome(5, 10), outcome(0, 0))
    assert lift.low < 0 < lift.high
    assert spend_lift(outcome(5, 10), outcome(0, 0)).high == float("inf")
