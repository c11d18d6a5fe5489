"""Worlds whose uplift is known: what learners and measures are held against."""

from dataclasses import dataclass

import numpy as np

from offline.coupons.trial import Floats, Trial


@dataclass(frozen=True, slots=True)
class World:
    """A trial, and the true uplift of each of its people, shape (n,)."""

    trial: Trial
    uplift: Floats


def draw_world(num: int, seed: int, confounding: float = 0.0) -> World:
    """Who buys anyhow (column 0) is not who is moved (column 1); column 2 is noise.

    With `confounding`, those who buy anyhow are shown the offer more often, and the trial knows
    their propensity.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((num, 3))
    base = 0.1 + 0.5 * sigmoid(2 * features[:, 0])
    uplift = 0.3 * sigmoid(2 * features[:, 1]) - 0.1
    propensity = np.clip(sigmoid(confounding * features[:, 0]), 0.05, 0.95)
    treated = rng.random(num) < propensity
    outcome = (rng.random(num) < base + treated * uplift).astype(np.float64)
    return World(Trial(features, treated, outcome, propensity, confounding == 0.0), uplift)


def sigmoid(logits: Floats) -> Floats:
    """The logistic function."""
    value: Floats = 1 / (1 + np.exp(-logits))
    return value
