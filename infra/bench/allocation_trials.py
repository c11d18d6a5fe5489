"""Offers under budgets in simulated shops: the online rule against the optimum and propensity.

What training would have is all that the rule has: models learned from a randomised log, and the
linear programme of a day before with what they say of it. The optimum knows the truth and the
whole day: it is the exact dual of the linear programme, which no rule can exceed in expectation.
Who redeems is drawn several times for each day, the same for all rules: what a rule earns is the
mean, and the worst draw is shown too. Budgets pay for redemptions, so luck alone moves a draw of
any rule by about price x money / earned / sqrt(redemptions): only a large day's single draw tells.
"""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from infra.bench.coupon_days import (
    ORDERS,
    Belief,
    Day,
    Outcome,
    believe,
    budgets,
    draw_day,
    give_by_value,
    optimum,
    plan_day,
    ranked_by_propensity,
    typical_scale,
)
from infra.bench.coupon_shops import (
    CAMPAIGN,
    GENERATORS,
    NOBODY,
    NUM_CAMPAIGNS,
    NUM_COUPONS,
    Floats,
    Log,
    Shop,
    Truth,
    correlation,
    randomised_log,
)
from offline.coupons.allocation import allocate, programme
from offline.coupons.responses import Logistic, Predict
from offline.progress import Progress

SHARES: Final = (0.1, 0.25, 0.5, 1.0)
"""Budgets, as shares of what the likeliest offer to everybody would cost."""

FAMILY: Final = Logistic(inverse_l2=0.05, degree=2)
NUM_VISITORS: Final = 32_000
"""Of whom a tenth of the money lets some thousand redeem."""

NUM_DRAWS: Final = 5
DAYS_LOGGED: Final = 12
LEAST_SHARE: Final = 0.01
"""Of the optimum: a rule that earns less, or loses money, counts as earning this much in ratios."""

NUM_PAIRS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Learned:
    """Models of buying by coupon, without and with it: a two-model learner of each coupon."""

    without: tuple[Predict, ...]
    shown: tuple[Predict, ...]

    def __call__(self, features: Floats) -> Truth:
        """What they say of people, in the place of the truth."""
        base = np.stack([model(features) for model in self.without], axis=1)[:, CAMPAIGN]
        return Truth(base, np.stack([model(features) for model in self.shown], axis=1) - base)


def learn(log: Log) -> Learned:
    """From a randomised log, and nothing else."""

    def fit(shown: int, campaign: int) -> Predict:
        rows = log.shown[:, campaign] == shown
        bought = log.bought[rows, campaign].astype(np.float64)
        return FAMILY.fit_probability(log.features[rows], bought, np.ones(len(bought)))

    without = tuple(fit(NOBODY, campaign) for campaign in range(NUM_CAMPAIGNS))
    return Learned(without, tuple(fit(n, int(CAMPAIGN[n])) for n in range(NUM_COUPONS)))


def measure(
    seed: int, progress: Progress, num_visitors: int = NUM_VISITORS
) -> Iterator[dict[str, Any]]:
    """A row for each shop, order of arrival and budget, and one with the worst of each."""
    rows = []
    total = len(GENERATORS) * len(ORDERS) * len(SHARES)
    with progress.task(f"Simulated days, seed {seed}", total) as advance:
        for generator in GENERATORS:
            shop = generator(seed)
            learned = learn(randomised_log(shop, DAYS_LOGGED * num_visitors, seed + 1))
            for order in ORDERS:
                for row in _day_rows(shop, learned, order, seed, num_visitors):
                    rows.append(row)
                    yield row
                    advance(1)
    yield _worst(rows, seed)


def _day_rows(
    shop: Shop, learned: Learned, order: str, seed: int, num_visitors: int
) -> Iterator[dict[str, Any]]:
    # A surprise is one because the day before had none of it.
    before = draw_day(shop, num_visitors, "random" if order == "surprise" else order, seed + 2)
    day = draw_day(shop, num_visitors, order, seed + 3)
    draws = np.random.default_rng(seed + 4).random((NUM_DRAWS, num_visitors, NUM_CAMPAIGNS))
    truth, truth_before = shop.truth_of(day.features), shop.truth_of(before.features)
    of_day = learned(day.features)
    past, now = _beliefs(shop, before, learned(before.features), day, of_day)
    for share in SHARES:
        limit = budgets(shop, truth_before, share)
        best = optimum(shop.value(truth), shop.cost(truth), limit)
        plan = plan_day(past, limit)
        found = [give_by_value(shop, day, truth, now, plan, dice) for dice in draws]
        believed = of_day.propensity
        others = [ranked_by_propensity(shop, truth, believed, limit, dice) for dice in draws]
        yield {
            "part": "allocation",
            "shop": shop.name,
            "order": order,
            "budget": share,
            "seed": seed,
            "correlation": round(correlation(truth), 3),
        } | _compared(found, best, others, limit)


def _beliefs(
    shop: Shop, before: Day, of_before: Truth, day: Day, of_day: Truth
) -> tuple[Belief, Belief]:
    """What a rule believes of the day before and of the day."""
    value, cost = shop.value(of_before), shop.cost(of_before)
    scale = typical_scale(value, cost)
    past = believe(before, value, cost, scale)
    return past, believe(day, shop.value(of_day), shop.cost(of_day), scale)


def _compared(
    found: list[Outcome], best: float, others: list[Outcome], limit: Floats
) -> dict[str, float]:
    """The keys of one day: means over the draws, and the worst draw of each ratio."""
    earned, other = (np.array([one.earned for one in rule]) for rule in (found, others))
    used = np.array([one.used for one in found])
    least = LEAST_SHARE * best
    return {
        "optimum_ratio": round(float(earned.mean()) / best, 4),
        "optimum_ratio_worst_draw": round(float(earned.min()) / best, 4),
        "propensity_ratio": round(float(earned.mean() / max(other.mean(), least)), 4),
        "propensity_ratio_worst_draw": round(float((earned / np.maximum(other, least)).min()), 4),
        "propensity_earned_share": round(float(other.mean()) / best, 4),
        "overspend": round(float(np.maximum(used - limit, 0.0).max()), 2),
        "used": round(float((used / limit).mean()), 3),
    }


def _worst(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The lowest ratios and the highest overspend of all days."""

    def lowest(key: str, high: float = 1.0) -> float:
        return float(min(row[key] for row in rows if row["budget"] <= high))

    worst_draws = [row["optimum_ratio_worst_draw"] for row in rows]
    return {
        "part": "allocation",
        "shop": "all, the worst",
        "seed": seed,
        "optimum_ratio": lowest("optimum_ratio"),
        "optimum_ratio_mean": round(float(np.mean([row["optimum_ratio"] for row in rows])), 4),
        "optimum_ratio_worst_draw": min(worst_draws),
        "optimum_ratio_worst_draw_q05": round(float(np.quantile(worst_draws, 0.05)), 4),
        "propensity_ratio_to_half": lowest("propensity_ratio", 0.5),
        "propensity_ratio": lowest("propensity_ratio"),
        "propensity_ratio_worst_draw_to_half": lowest("propensity_ratio_worst_draw", 0.5),
        "propensity_ratio_worst_draw": lowest("propensity_ratio_worst_draw"),
        "days_propensity_lost_money": sum(row["propensity_earned_share"] < 0 for row in rows),
        "overspend": max(row["overspend"] for row in rows),
    }


def measure_programme(num_pairs: int = NUM_PAIRS) -> dict[str, Any]:
    """The time of a large programme with budgets, caps and a fairness floor."""
    rng = np.random.default_rng(5)
    per_user, campaigns = 20, 5
    num_users = num_pairs // per_user
    user = np.repeat(np.arange(num_users), per_user)
    coupon = np.tile(np.arange(per_user), num_users).astype(np.int32)
    campaign = (coupon // (per_user // campaigns)).astype(np.int32)
    cost = rng.beta(1, 8, len(user)) * rng.uniform(1, 5, per_user)[coupon]
    value = 30 * rng.beta(1, 12, len(user)) - cost
    is_group = rng.integers(0, 3, num_users)[user] == 0
    floor = campaigns + per_user
    used = np.stack([campaign, campaigns + coupon, np.where(is_group, floor, -1)], axis=1)
    use = np.stack([cost, np.ones(len(user)), -1.0 * is_group], axis=1)
    limit = np.concatenate(
        [
            np.full(campaigns, 0.15 * cost.sum() / per_user),
            np.full(per_user, 0.2 * num_users),
            [-0.75 * num_users],
        ]
    )
    started, started_cpu = time.perf_counter(), _cpu_s()
    problem, _ = programme(user, campaign, value, used.astype(np.int32), use, limit)
    found = allocate(problem)
    return {
        "part": "programme",
        "num_pairs": len(user),
        "num_resources": len(limit),
        "lp_s": round(time.perf_counter() - started, 1),
        "lp_cpu_s": round(_cpu_s() - started_cpu, 1),
        "gap": round(found.gap, 7),
        "overspend": float(np.maximum(found.used - limit, 0)[:-1].max()),
        "floor_kept": bool(found.used[-1] <= limit[-1] * (1 - 1e-3)),
    }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
