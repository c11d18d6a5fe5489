"""Ranking measures, each per user, so that intervals and paired differences can be taken.

Recall@k here is hits / min(k, number of relevant items); all measures are over the full
catalogue, never over sampled negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES: Final = 1000


def recall_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """Share of what could be hit in `k` places that was hit."""
    hits = sum(item in relevant for item in ranked[:k])
    return hits / min(k, len(relevant))


def ndcg_at_k(ranked: Sequence[int], relevant: frozenset[int], k: int) -> float:
    """Normalised discounted cumulative gain with binary gains (Järvelin and Kekäläinen 2002)."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gains = np.array([item in relevant for item in ranked[:k]], float)
    return float(gains @ discounts[: len(gains)] / discounts[: min(k, len(relevant))].sum())


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
    rng = np.random.default_rng(seed)
    share = np.full(len(values), 1 / len(values))
    means = [rng.multinomial(len(values), share) @ values for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(np.array(means) / len(values), (0.025, 0.975))
    return Interval(float(np.mean(values)), float(low), float(high))
