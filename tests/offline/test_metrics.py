"""Measures against an independent implementation, intervals against known cases."""

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, R, Success, nDCG

from offline.metrics import (
    average_precision_at_k,
    bootstrap,
    bootstrap_columns,
    hit_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)


@pytest.mark.parametrize("seed", range(20))
def test_measures_equal_an_independent_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranked = rng.permutation(50)[:20].tolist()
    relevant = frozenset(rng.permutation(50)[: rng.integers(1, 15)].tolist())
    qrels = [ir_measures.Qrel("q", str(item), 1) for item in relevant]
    run = [ir_measures.ScoredDoc("q", str(item), -place) for place, item in enumerate(ranked)]
    measures = [R @ 20, nDCG @ 20, AP @ 20, RR @ 5, Success @ 5]
    oracle = ir_measures.calc_aggregate(measures, qrels, run)
    assert recall_at_k(ranked, relevant, 20) == pytest.approx(oracle[R @ 20])
    assert ndcg_at_k(ranked, relevant, 20) == pytest.approx(oracle[nDCG @ 20])
    assert average_precision_at_k(ranked, relevant, 20) == pytest.approx(oracle[AP @ 20])
    assert reciprocal_rank_at_k(ranked, relevant, 5) == pytest.approx(oracle[RR @ 5])
    assert hit_at_k(ranked, relevant, 5) == oracle[Success @ 5]


def test_recall_counts_what_could_be_hit() -> None:
    assert recall_at_k([1, 2], frozenset(range(10)), 2) == 1.0
    assert recall_at_k([1, 99], frozenset(range(10)), 2) == 0.5
    assert recall_at_k([], frozenset({1}), 2) == 0.0


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        interval = bootstrap(rng.normal(0.3, 1.0, 200), seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_no_users_give_no_number() -> None:
    assert np.isnan(bootstrap(np.zeros(0)).mean)


def test_many_columns_have_the_intervals_of_one_and_leave_out_who_is_not_concerned() -> None:
    rng = np.random.default_rng(2)
    whole = rng.normal(0.3, 1.0, 400)
    half = np.where(np.arange(400) < 200, whole, np.nan)
    found = bootstrap_columns({"whole": whole, "half": half, "none": np.full(400, np.nan)})
    alone = bootstrap(whole)
    assert found["whole"].mean == alone.mean
    assert found["whole"].low == pytest.approx(alone.low, abs=0.02)
    assert found["whole"].high == pytest.approx(alone.high, abs=0.02)
    assert found["half"].mean == pytest.approx(whole[:200].mean())
    widths = [found[name].high - found[name].low for name in ("whole", "half")]
    assert 1.2 < widths[1] / widths[0] < 1.7  # the square root of 2
    assert np.isnan(found["none"].mean)
