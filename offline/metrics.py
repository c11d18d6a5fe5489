"""Ranking measures, each per user, so that intervals and paired differences can be taken.

Recall@k here is hits / min(k, number of relevant items); all measures are over the full
catalogue, never over sampled negatives. What a slate is worth beside being right is in
`offline.evaluation.slates`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES: Final = 1000
RESAMPLED_AT_ONCE: Final = 4_000_000
"""How many counts of users are held at a time: 32 MB."""


def recall_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """Share of what could be hit in `k` places that was hit."""
    hits = sum(item in relevant for item in ranked[:k])
    return hits / min(k, len(relevant))


def ndcg_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """Normalised discounted cumulative gain with binary gains (Järvelin and Kekäläinen 2002)."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gains = np.array([item in relevant for item in ranked[:k]], float)
    return float(gains @ discounts[: len(gains)] / discounts[: min(k, len(relevant))].sum())


def average_precision_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """Precision at each hit, over what could be hit in `k` places; its mean over users is MAP."""
    hits = np.array([item in relevant for item in ranked[:k]], float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision @ hits / min(k, len(relevant)))


def reciprocal_rank_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """1 / place of the first hit, 0 without one; its mean over users is MRR."""
    places = (place for place, item in enumerate(ranked[:k], 1) if item in relevant)
    return 1.0 / next(places, float("inf"))


def hit_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """1 when any of the first `k` is relevant; its mean over users is the hit rate."""
    return float(any(item in relevant for item in ranked[:k]))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95% bootstrap interval over users (Efron 1979, percentile method)."""

    mean: float
    low: float
    high: float


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """The mean of `values`, one for each user, with its interval; NaN when there are none."""
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    return interval_of(float(np.mean(values)), resampled_means(values[:, None], seed)[:, 0])


def resampled_means(values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Means of the columns of `values`, shape (users, m), over resamples of the users.

    Shape (NUM_RESAMPLES, m). All columns see the same resamples, so that columns of the result
    may be subtracted or divided. A column's mean is over the users where it is not NaN; it is NaN
    in a resample that has none of them.
    """
    num_users = len(values)
    known = ~np.isnan(values)
    filled, counted = np.where(known, values, 0.0), known.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.full((NUM_RESAMPLES, values.shape[1]), np.nan)
    at_once = max(1, RESAMPLED_AT_ONCE // max(num_users, 1))
    for first in range(0, NUM_RESAMPLES if num_users else 0, at_once):
        rows = means[first : first + at_once]
        drawn = _draw(rng, len(rows), num_users)
        total = drawn @ counted
        np.divide(drawn @ filled, total, out=rows, where=total > 0)
    return means


def _draw(rng: np.random.Generator, num_rows: int, num_users: int) -> NDArray[np.float64]:
    """How often each user is drawn in each resample, shape (num_rows, num_users)."""
    drawn = rng.integers(num_users, size=(num_rows, num_users))
    drawn += num_users * np.arange(num_rows)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_rows * num_users)
    return counts.reshape(num_rows, num_users).astype(np.float64)


def interval_of(value: float, resampled: NDArray[np.float64]) -> Interval:
    """A value with the middle 95% of what it was on resamples; NaN when no resample has it."""
    found = resampled[np.isfinite(resampled)]
    if not len(found) or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(float(value), float(low), float(high))


def mean_of(values: NDArray[np.float64]) -> float:
    """The mean over what is not NaN; NaN when nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def bootstrap_columns(
    columns: Mapping[str, NDArray[np.float64]], seed: int = 0
) -> dict[str, Interval]:
    """The interval of each column's mean, each of shape (users,), NaN where it says nothing.

    Hundreds of columns cost what a few cost: the resamples are drawn once.
    """
    if not columns:
        return {}
    resampled = resampled_means(np.column_stack(list(columns.values())), seed)
    return {
        name: interval_of(mean_of(values), resampled[:, column])
        for column, (name, values) in enumerate(columns.items())
    }
