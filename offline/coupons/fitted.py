"""Fitted models as plain values: they predict here, and can be written as ONNX to serve.

A line, with or without the logistic function over it, boosted trees, and weighted sums of both:
all that the uplift learners are made of. `offline.coupons.uplift_onnx` writes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from offline.coupons.trial import Floats

Predict = Callable[[Floats], Floats]
"""Features (n, d) to predictions (n,)."""


@dataclass(frozen=True, slots=True)
class Line:
    """`intercept` + features @ `weights`, shape (d,); with `is_logistic` as a probability."""

    weights: Floats
    intercept: float
    is_logistic: bool

    @staticmethod
    def constant(value: float, num_features: int) -> "Line":
        """The same for all rows."""
        return Line(np.zeros(num_features), value, is_logistic=False)

    def __call__(self, features: Floats) -> Floats:
        """See `Predict`."""
        value: Floats = features @ self.weights + self.intercept
        return 1 / (1 + np.exp(-value)) if self.is_logistic else value

    def with_last(self, value: float) -> "Line":
        """The line over all columns but the last, which has this value."""
        intercept = self.intercept + value * float(self.weights[-1])
        return Line(self.weights[:-1], intercept, self.is_logistic)


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees, of a probability or of a real number."""

    booster: lgb.Booster

    def __call__(self, features: Floats) -> Floats:
        """See `Predict`."""
        return np.asarray(self.booster.predict(features, num_threads=1), np.float64)


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of models, each by its weight."""

    terms: Sequence[tuple[float, Predict]]

    def __call__(self, features: Floats) -> Floats:
        """See `Predict`."""
        total: Floats = np.sum([weight * model(features) for weight, model in self.terms], axis=0)
        return total


@dataclass(frozen=True, slots=True)
class Clipped:
    """A model that is asked of nothing but what it has seen: columns between `low` and `high`.

    Shape (d,) each. What lies outside is taken for the nearest that was seen.
    """

    low: Floats
    high: Floats
    model: Predict

    def __call__(self, features: Floats) -> Floats:
        """See `Predict`."""
        return self.model(np.clip(features, self.low, self.high))


def of_steps(model: Pipeline, *, is_logistic: bool) -> Predict:
    """A fitted pipeline; a line in the columns as they are given, where it is no more than that."""
    if len(model) > 2:  # products of columns
        if is_logistic:
            return lambda features: np.asarray(model.predict_proba(features)[:, 1], np.float64)
        return lambda features: np.asarray(model.predict(features), np.float64)
    scaler: StandardScaler = model[0]
    weights = np.ravel(model[-1].coef_) / scaler.scale_
    intercept = float(np.ravel(model[-1].intercept_)[0] - scaler.mean_ @ weights)
    return Line(weights, intercept, is_logistic)
