"""Uplift learners and their measures on worlds whose truth is known."""

import numpy as np
import pytest

from offline.coupons.choice import BOOSTED, CANDIDATES, best_candidate, choose_learner, hedged
from offline.coupons.qini import NUM_POINTS, measure, qini_curve
from offline.coupons.responses import Boosting, Logistic
from offline.coupons.trial import Trial, randomised, stratified_folds
from offline.coupons.uplift import (
    BASELINE,
    LEARNERS,
    DRLearner,
    Learner,
    OneModel,
    TwoModel,
    XLearner,
    crossed_responses,
    doubly_robust,
)
from tests.offline.coupons.worlds import draw_world

BOTH = (Logistic(), Boosting(num_trees=40, min_rows_in_leaf=100))
ALL = [kind(family) for kind in (TwoModel, XLearner, DRLearner) for family in BOTH]


@pytest.mark.parametrize("learner", ALL, ids=lambda learner: learner.name)
@pytest.mark.parametrize("confounding", [0.0, 1.0])
def test_learners_find_who_is_moved(learner: Learner, confounding: float) -> None:
    learned, judged = draw_world(12_000, 1, confounding), draw_world(4_000, 2)
    predicted = learner.fit(learned.trial)(judged.trial.features)
    assert np.corrcoef(predicted, judged.uplift)[0, 1] > 0.85
    assert abs(predicted.mean() - judged.uplift.mean()) < 0.03


def test_without_weights_confounding_misleads() -> None:
    world = draw_world(20_000, 3, confounding=1.0).trial
    naive = world.outcome[world.treated].mean() - world.outcome[~world.treated].mean()
    weights, truth = world.weights(), draw_world(20_000, 3).uplift.mean()
    groups = [
        np.average(world.outcome[rows], weights=weights[rows])
        for rows in (world.treated, ~world.treated)
    ]
    assert naive - truth > 0.1
    assert abs(groups[0] - groups[1] - truth) < 0.03


def test_the_doubly_robust_score_forgives_wrong_responses() -> None:
    world = draw_world(60_000, 4, confounding=1.0)
    wrong = np.full(len(world.trial), 0.4)
    score = doubly_robust(world.trial, wrong, wrong)
    assert abs(score.mean() - world.uplift.mean()) < 0.02


def test_crossed_responses_have_not_seen_their_rows() -> None:
    """Outcomes of pure noise cannot be foretold, unless a model has seen them."""
    rng = np.random.default_rng(5)
    features, outcome = rng.standard_normal((900, 20)), rng.integers(0, 2, 900).astype(float)
    trial = randomised(features, rng.random(900) < 0.5, outcome)
    family = Boosting(num_trees=200, min_rows_in_leaf=2, learning_rate=0.3)
    treated, control = crossed_responses(family, trial, seed=0)
    expected = np.where(trial.treated, treated, control)
    assert abs(np.corrcoef(expected, outcome)[0, 1]) < 0.12


def test_one_model_ranks_by_the_response() -> None:
    learned, judged = draw_world(12_000, 6), draw_world(3_000, 7)
    predicted = OneModel(Logistic()).fit(learned.trial)(judged.trial.features)
    distance = np.abs(judged.trial.features[:, 0] - 0.3)
    assert abs(np.corrcoef(predicted, judged.trial.features[:, 1])[0, 1]) < 0.5
    assert np.corrcoef(predicted, distance)[0, 1] < -0.2


def test_a_curve_against_counting_by_hand() -> None:
    """Four people in the order of their scores: (treated, bought) = (1, 1) (0, 0) (1, 0) (0, 1)."""
    treated = np.array([True, False, True, False])
    outcome = np.array([1.0, 0.0, 0.0, 1.0])
    trial = Trial(np.zeros((4, 1)), treated, outcome, np.full(4, 0.5))
    curve = qini_curve(trial, np.array([4.0, 3.0, 2.0, 1.0]))
    at = {share: round(share * NUM_POINTS) - 1 for share in (0.5, 0.75, 1.0)}
    assert curve.gain[at[0.5]] == pytest.approx(0.5)  # 1 of 1 against 0 of 1, half of the treated
    assert curve.gain[at[0.75]] == pytest.approx(0.5)  # 1 of 2 against 0 of 1
    assert curve.gain[at[1.0]] == pytest.approx(0.0)
    assert curve.uplift_at(0.5) == pytest.approx(1.0)


def test_equal_scores_are_random_order_whatever_the_rows_order() -> None:
    world = draw_world(4_000, 8).trial
    by_group = world.rows(np.argsort(world.treated, kind="stable"))
    assert abs(qini_curve(by_group, np.zeros(len(by_group))).qini) < 1e-12


def test_the_true_uplift_beats_random_and_reversed() -> None:
    world = draw_world(20_000, 9)
    best = measure(world.trial, world.uplift)
    random = measure(world.trial, np.random.default_rng(0).random(len(world.trial)))
    worst = measure(world.trial, -world.uplift)
    assert best.qini.low > 0 > worst.qini.high
    assert random.qini.low < 0 < random.qini.high
    assert best.uplift_at[0.1].low > world.uplift.mean() > worst.uplift_at[0.1].high
    top = np.sort(world.uplift)[::-1][: len(world.uplift) // 10].mean()
    assert best.uplift_at[0.1].low < top < best.uplift_at[0.1].high


def test_the_choice_is_by_cross_validated_qini_and_repeats() -> None:
    learned, judged = draw_world(6_000, 10), draw_world(3_000, 11)
    choice = choose_learner(learned.trial)
    assert choice.name in CANDIDATES
    assert choice.qini[choice.name] >= choice.qini[BASELINE.name]
    predicted = choice.uplift(judged.trial.features)
    assert np.corrcoef(predicted, judged.uplift)[0, 1] > 0.8
    again = choose_learner(learned.trial).uplift(judged.trial.features)
    np.testing.assert_array_equal(predicted, again)


def test_what_is_less_simple_must_be_clearly_better() -> None:
    steady, noisy = np.array([1.0, 1.1, 0.9]), np.array([0.2, 2.4, 0.8])
    clear, clearest = np.array([1.4, 1.6, 1.3]), np.array([1.6, 1.8, 1.6])
    base, boosted = BASELINE.name, f"b {BOOSTED}"
    assert best_candidate({base: steady, boosted: noisy, "c": noisy}) == base
    assert best_candidate({base: steady, boosted: clear, "c": noisy}) == boosted
    assert best_candidate({base: steady, boosted: noisy, "c": clear}) == "c"
    assert best_candidate({base: steady, boosted: clearest, "c": clear}) == boosted
    assert best_candidate({"a": steady, "c": noisy}) == "c", "without the baseline the best"
    assert best_candidate({boosted: noisy}) == boosted


def test_what_is_chosen_is_hedged_by_the_baseline() -> None:
    base = BASELINE.name
    assert hedged({base: 1.0}) == {base: 1.0}
    assert hedged({"a": 0.4, base: 0.6}) == {"a": 0.2, base: 0.8}
    assert hedged({"a": 1.0}) == {"a": 0.5, base: 0.5}


def test_folds_share_out_both_groups() -> None:
    trial = draw_world(1_003, 12).trial
    folds = stratified_folds(trial, 5, 0)
    for group in (trial.treated, ~trial.treated):
        counts = np.bincount(folds[group])
        assert counts.max() - counts.min() <= 1


def test_a_propensity_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="strictly between"):
        Trial(np.zeros((2, 1)), np.array([True, False]), np.zeros(2), np.array([1.0, 0.5]))


def test_the_baseline_is_among_the_learners() -> None:
    assert BASELINE in LEARNERS
    assert BASELINE.name in CANDIDATES
