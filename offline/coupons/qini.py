"""How well an uplift ranks people: Qini, AUUC and uplift@k, with bootstrap intervals.

The Qini curve after Radcliffe 2007 ("Using control groups to target on predicted lift"): after the
best share s of people, what the treated among them did more than the others, per treated person of
all. AUUC is its mean over s, the Qini here that mean less the one of the straight line that random
ranking earns. uplift@k is the difference of the groups' means among the best share k. All are
weighted by inverse propensity, which changes nothing in a randomised trial with one propensity.
Equal scores count as if in random order: curves are straight within them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.coupons.trial import Floats, Rows, Trial
from offline.metrics import Interval

NUM_POINTS: Final = 200
"""Points of a curve: shares 1/200 to 1."""

SHARES: Final = np.arange(1, NUM_POINTS + 1) / NUM_POINTS
NUM_RESAMPLES: Final = 500


@dataclass(frozen=True, slots=True)
class Curve:
    """A Qini curve at SHARES: `gain` of the treated, and `uplift` among the best share."""

    gain: Floats
    uplift: Floats

    @property
    def auuc(self) -> float:
        """The mean of the gain over all shares, per treated person."""
        return float(self.gain.mean())

    @property
    def qini(self) -> float:
        """The mean of the gain less that of random ranking."""
        return float((self.gain - SHARES * self.gain[-1]).mean())

    def uplift_at(self, share: float) -> float:
        """The effect among the best `share` of people."""
        return float(self.uplift[max(0, round(share * NUM_POINTS) - 1)])


@dataclass(frozen=True, slots=True)
class Ranking:
    """A trial in the order of a score, so that resamples need no further sorting."""

    order: Rows
    block_ends: Rows
    columns: NDArray[np.float64]

    def curve(self, counts: Floats | None = None) -> Curve:
        """The curve; `counts`, shape (n,), says how often each row of the trial was drawn."""
        columns = self.columns if counts is None else self.columns * counts[self.order]
        sums = np.cumsum(columns, axis=1)[:, self.block_ends]
        shares = np.concatenate([[0.0], sums[4] / sums[4, -1]])
        treated, control, treated_outcome, control_outcome = (
            np.interp(SHARES, shares, np.concatenate([[0.0], column])) for column in sums[:4]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            uplift = treated_outcome / treated - control_outcome / control
        uplift = np.nan_to_num(uplift, nan=0.0, posinf=0.0, neginf=0.0)
        return Curve(gain=uplift * treated / max(treated[-1], 1e-12), uplift=uplift)


def rank(trial: Trial, score: Floats) -> Ranking:
    """The trial sorted by `score`, shape (n,), best first."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    weights, treated = trial.weights()[order], trial.treated[order]
    outcome = trial.outcome[order]
    in_treated, in_control = weights * treated, weights * ~treated
    columns = [in_treated, in_control, in_treated * outcome, in_control * outcome]
    return Ranking(order, ends, np.stack([*columns, np.ones(len(order))]))


def qini_curve(trial: Trial, score: Floats) -> Curve:
    """The curve of ranking the trial's people by `score`, shape (n,)."""
    return rank(trial, score).curve()


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of one ranking with 95% bootstrap intervals over people."""

    qini: Interval
    auuc: Interval
    uplift_at: dict[float, Interval]


def measure(
    trial: Trial, score: Floats, shares: tuple[float, ...] = (0.1, 0.3), seed: int = 0
) -> Measures:
    """All measures of ranking by `score`; people are drawn anew, the model is as it is."""
    ranking = rank(trial, score)
    curves = [ranking.curve(counts) for counts in resamples(len(trial), seed)]
    curve = ranking.curve()
    return Measures(
        qini=interval(curve.qini, [one.qini for one in curves]),
        auuc=interval(curve.auuc, [one.auuc for one in curves]),
        uplift_at={
            share: interval(curve.uplift_at(share), [one.uplift_at(share) for one in curves])
            for share in shares
        },
    )


def resamples(num_rows: int, seed: int, num: int = NUM_RESAMPLES) -> list[Floats]:
    """How often each row is drawn, for each of `num` bootstrap samples, shape (n,) each."""
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, num_rows, num_rows) for _ in range(num))
    return [np.bincount(rows, minlength=num_rows).astype(np.float64) for rows in drawn]


def interval(value: float, resampled: list[float]) -> Interval:
    """A value with the percentiles of its bootstrap samples."""
    low, high = np.quantile(np.array(resampled), (0.025, 0.975))
    return Interval(value, float(low), float(high))
