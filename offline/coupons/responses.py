"""What uplift learners are made of: models of a response, and of an effect, on plain columns.

scikit-learn and LightGBM behind one seam, so that each learner can be had with either.
"""

from dataclasses import dataclass
from typing import Protocol

import lightgbm as lgb
from sklearn.base import TransformerMixin
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from offline.coupons.fitted import Line, Predict, Trees, of_steps
from offline.coupons.trial import Floats


class Family(Protocol):
    """A way to fit both kinds of model; `weights` are of the rows, shape (n,)."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def fit_probability(self, features: Floats, outcome: Floats, weights: Floats) -> Predict:
        """A model of an outcome of 0 and 1."""
        ...

    def fit_effect(self, features: Floats, effect: Floats, weights: Floats) -> Predict:
        """A model of a real number by squared error."""
        ...


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression, and ridge regression, on standardised columns.

    `degree` 2 adds the squares of the columns and their products.
    """

    inverse_l2: float = 1.0
    effect_l2: float = 1.0
    degree: int = 1
    name: str = "logistic"

    def fit_probability(self, features: Floats, outcome: Floats, weights: Floats) -> Predict:
        """See `Family`."""
        if outcome.min() == outcome.max():
            return Line.constant(float(outcome[0]), features.shape[1])
        model = make_pipeline(
            *self._columns(), LogisticRegression(C=self.inverse_l2, max_iter=500)
        ).fit(features, outcome, logisticregression__sample_weight=weights)
        return of_steps(model, is_logistic=True)

    def fit_effect(self, features: Floats, effect: Floats, weights: Floats) -> Predict:
        """See `Family`."""
        model = make_pipeline(*self._columns(), Ridge(alpha=self.effect_l2))
        model.fit(features, effect, ridge__sample_weight=weights)
        return of_steps(model, is_logistic=False)

    def _columns(self) -> list[TransformerMixin]:
        if self.degree == 1:
            return [StandardScaler()]
        products = PolynomialFeatures(self.degree, include_bias=False)
        return [StandardScaler(), products, VarianceThreshold(), StandardScaler()]


@dataclass(frozen=True, slots=True)
class Boosting:
    """Small boosted trees: many rows in a leaf, since effects are small against their noise."""

    num_trees: int = 60
    num_leaves: int = 7
    learning_rate: float = 0.04
    min_rows_in_leaf: int = 300
    seed: int = 7
    name: str = "boosting"

    def fit_probability(self, features: Floats, outcome: Floats, weights: Floats) -> Predict:
        """See `Family`."""
        if outcome.min() == outcome.max():
            return Line.constant(float(outcome[0]), features.shape[1])
        return self._fit("binary", features, outcome, weights)

    def fit_effect(self, features: Floats, effect: Floats, weights: Floats) -> Predict:
        """See `Family`."""
        return self._fit("l2", features, effect, weights)

    def _fit(self, objective: str, features: Floats, target: Floats, weights: Floats) -> Predict:
        parameters = {
            "objective": objective,
            "num_leaves": self.num_leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "lambda_l2": 5.0,
            "max_bin": 63,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "seed": self.seed,
            "verbose": -1,
        }
        booster = lgb.train(
            parameters, lgb.Dataset(features, target, weight=weights), self.num_trees
        )
        return Trees(booster)
