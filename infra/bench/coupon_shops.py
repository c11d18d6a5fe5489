"""Simulated shops whose truth is known: who buys anyhow, whom an offer moves, and by how much.

Three generators of quite different make:

    taste        factors of people and offers; who is moved has nothing to do with who buys anyhow
    segments     persuadable, sure, lost, and put off by offers (negative uplift), in equal parts
    correlated   uplift and the propensity to redeem correlated by .8 over all pairs

Whoever is shown an offer and buys redeems it, so the propensity to redeem is what a person buys
anyhow plus the uplift. A shop gives a randomised log, days of visitors, and the truth of both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Dice = np.random.Generator

NUM_CAMPAIGNS: Final = 4
PER_CAMPAIGN: Final = 3
NUM_COUPONS: Final = NUM_CAMPAIGNS * PER_CAMPAIGN
NUM_FEATURES: Final = 6
CORRELATION: Final = 0.8
NOBODY: Final = -1

CAMPAIGN: Final = np.repeat(np.arange(NUM_CAMPAIGNS), PER_CAMPAIGN).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Truth:
    """Of people and coupons, shape (people, coupons): bought anyhow, and uplift if shown."""

    base: Floats
    uplift: Floats

    @property
    def propensity(self) -> Floats:
        """The probability that the coupon is redeemed if it is shown."""
        return self.base + self.uplift


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop: `truth_of` features (people, NUM_FEATURES), what an offer costs and a sale earns.

    `face` and `margin`, shape (coupons,), in money.
    """

    name: str
    people: Callable[[Dice, int], Floats]
    truth_of: Callable[[Floats], Truth]
    face: Floats
    margin: Floats

    def value(self, truth: Truth) -> Floats:
        """Expected incremental margin less expected cost of each pair."""
        return truth.uplift * self.margin - self.cost(truth)

    def cost(self, truth: Truth) -> Floats:
        """Expected money given away by showing each pair."""
        return truth.propensity * self.face


@dataclass(frozen=True, slots=True)
class Log:
    """A randomised log: features, the coupon shown in each campaign or NOBODY, who bought.

    `shown` and `bought`, shape (people, campaigns).
    """

    features: Floats
    shown: NDArray[np.int32]
    bought: NDArray[np.bool_]


def randomised_log(shop: Shop, num: int, seed: int) -> Log:
    """Each of `num` people is shown any coupon of each campaign, or none, with equal chances."""
    rng = np.random.default_rng(seed)
    features = shop.people(rng, num)
    truth = shop.truth_of(features)
    drawn = rng.integers(-1, PER_CAMPAIGN, (num, NUM_CAMPAIGNS))
    first = np.arange(NUM_CAMPAIGNS) * PER_CAMPAIGN
    shown = np.where(drawn < 0, NOBODY, first + drawn).astype(np.int32)
    person = np.arange(num)[:, None]
    chance = truth.base[person, first] + np.where(
        drawn < 0, 0.0, truth.uplift[person, np.maximum(shown, 0)]
    )
    return Log(features, shown, rng.random(chance.shape) < chance)


def taste(seed: int) -> Shop:
    """Independent factors for buying anyhow and for being moved."""
    rng = np.random.default_rng(seed)
    buys = 0.7 * rng.standard_normal((NUM_FEATURES, NUM_CAMPAIGNS))
    moved = 0.7 * rng.standard_normal((NUM_FEATURES, NUM_COUPONS))

    def truth_of(features: Floats) -> Truth:
        base = 0.4 * _logistic(features @ buys - 1.5)
        return Truth(base[:, CAMPAIGN], 0.25 * _logistic(features @ moved - 1.0))

    return _shop("taste", rng, _normal, truth_of)


def segments(seed: int) -> Shop:
    """Four kinds of people; which offer moves the persuadable depends on their other features."""
    rng = np.random.default_rng(seed)
    base = np.array([0.06, 0.35, 0.04, 0.25])
    uplift = np.array([0.22, 0.02, 0.01, -0.06])
    liking = rng.uniform(0.4, 1.3, (2, NUM_COUPONS))

    def people(dice: Dice, num: int) -> Floats:
        kind = dice.integers(0, 4, num)
        return np.column_stack([np.eye(4)[kind], dice.integers(0, 2, num), dice.random(num)])

    def truth_of(features: Floats) -> Truth:
        kind, taken = features[:, :4].argmax(axis=1), features[:, 4].astype(np.intp)
        often = 0.6 + 0.8 * features[:, 5]
        bought = np.repeat((base[kind] * often)[:, None], NUM_COUPONS, axis=1)
        return Truth(bought, uplift[kind][:, None] * liking[taken])

    return _shop("segments", rng, people, truth_of)


def correlated(seed: int) -> Shop:
    """Lognormal uplift, and as much noise in buying anyhow as leaves a correlation of .8."""
    rng = np.random.default_rng(seed)
    moved = 0.3 * rng.standard_normal((NUM_FEATURES, NUM_COUPONS))
    buys = 0.3 * rng.standard_normal((NUM_FEATURES, NUM_CAMPAIGNS))
    sample = _normal(rng, 20_000)

    def parts(features: Floats, spread: float) -> Truth:
        uplift = np.minimum(0.06 * np.exp(features @ moved), 0.4)
        base = 0.05 * np.exp(np.minimum(spread * (features @ buys), 2.0))
        return Truth(base[:, CAMPAIGN], uplift)

    spread = _solved(lambda spread: correlation(parts(sample, spread)), CORRELATION)
    return _shop("correlated", rng, _normal, lambda features: parts(features, spread))


GENERATORS: Final[tuple[Callable[[int], Shop], ...]] = (taste, segments, correlated)


def correlation(truth: Truth) -> float:
    """Of uplift and the propensity to redeem, over all pairs."""
    return float(np.corrcoef(truth.uplift.ravel(), truth.propensity.ravel())[0, 1])


def _shop(
    name: str,
    rng: Dice,
    people: Callable[[Dice, int], Floats],
    truth_of: Callable[[Floats], Truth],
) -> Shop:
    face = np.round(rng.uniform(1.0, 3.0, NUM_COUPONS), 2)
    margin = np.repeat(rng.uniform(9.0, 14.0, NUM_CAMPAIGNS), PER_CAMPAIGN)
    return Shop(name, people, truth_of, face, margin)


def _normal(dice: Dice, num: int) -> Floats:
    return dice.standard_normal((num, NUM_FEATURES))


def _logistic(logits: Floats) -> Floats:
    value: Floats = 1 / (1 + np.exp(-logits))
    return value


def _solved(falling: Callable[[float], float], target: float) -> float:
    """Where a falling function reaches `target`, between 0 and 8, by bisection."""
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > target else (low, middle)
    return low
