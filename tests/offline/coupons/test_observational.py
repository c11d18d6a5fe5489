"""Logs in which the shop chose: what weighting repairs, and what it says of the rest."""

import numpy as np
import pytest

from offline.coupons.observational import estimate_propensity, weigh
from offline.coupons.responses import Logistic
from offline.coupons.uplift import DRLearner
from tests.offline.coupons.worlds import draw_world, sigmoid


def test_estimated_propensities_are_the_true_ones() -> None:
    world = draw_world(20_000, 1, confounding=1.0).trial
    estimated = estimate_propensity(world.features, world.treated, world.outcome)
    assert np.abs(estimated - world.propensity).mean() < 0.02


def test_weighting_balances_and_recovers_the_effect() -> None:
    world = draw_world(30_000, 2, confounding=1.0)
    log = world.trial
    trial, overlap = weigh(log.features, log.treated, log.outcome)
    uplift = DRLearner(Logistic()).fit(trial)(log.features)
    assert overlap.imbalance_before > 0.5
    assert overlap.imbalance_after < 0.1
    assert overlap.effective_rows < overlap.num_rows
    assert abs(uplift.mean() - world.uplift.mean()) < 0.03
    assert not trial.is_randomised
    assert overlap.statement().startswith("Not a randomised estimate")
    assert "do not act" not in overlap.statement()


def test_whom_the_shop_always_chose_is_left_out() -> None:
    rng = np.random.default_rng(3)
    features = rng.standard_normal((8_000, 2))
    treated = rng.random(8_000) < sigmoid(4 * features[:, 0])
    trial, overlap = weigh(features, treated, np.zeros(8_000))
    assert overlap.num_left_out > 2_000
    assert overlap.num_rows == len(trial) == 8_000 - overlap.num_left_out
    assert np.abs(trial.features[:, 0]).max() < 1.0


def test_without_anybody_to_compare_it_refuses() -> None:
    features = np.concatenate([np.full((200, 1), -3.0), np.full((200, 1), 3.0)])
    with pytest.raises(ValueError, match="nobody"):
        weigh(features, features[:, 0] > 0, np.zeros(400))
