"""Uplift learners: by how much showing an offer changes what a person does.

Two models, X and DR after Künzel et al. 2019 ("Metalearners for estimating heterogeneous treatment
effects") and Kennedy 2023 ("Towards optimal doubly robust estimation of heterogeneous causal
effects"); each with any family of models. Where an estimate is needed for the rows that a second
model learns from, it comes from models that have not seen those rows (cross-fitting). Learners that
are fitted together on one trial share those models, since they are most of the work.

One model, with the treatment as one more column, gives each person the same effect on the logit,
so its uplift follows the response: it is biased, steady, and worth mixing in where effects differ
less than their noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from offline.coupons.fitted import Line, Predict, Sum
from offline.coupons.responses import Boosting, Family, Logistic
from offline.coupons.trial import Floats, Trial, stratified_folds

NUM_FOLDS: Final = 3

Crossing = Callable[[Family, Trial, int], tuple[Floats, Floats]]
"""How both responses are had that cross-fitting needs; see `crossed_responses`."""


def crossed_responses(family: Family, trial: Trial, seed: int) -> tuple[Floats, Floats]:
    """Both responses expected of each row by models that have not seen it, shape (n,) each."""
    folds = stratified_folds(trial, NUM_FOLDS, seed)
    treated, control = np.zeros(len(trial)), np.zeros(len(trial))
    for fold in range(NUM_FOLDS):
        held = folds == fold
        with_it, without = fit_responses(family, trial.rows(~held))
        treated[held], control[held] = with_it(trial.features[held]), without(trial.features[held])
    return treated, control


class Learner(Protocol):
    """Learns from a trial to predict uplift from features."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def fit(self, trial: Trial, crossing: Crossing = crossed_responses) -> Predict:
        """The uplift of features (n, d), shape (n,)."""
        ...


@dataclass(frozen=True, slots=True)
class TwoModel:
    """The response of the treated minus that of the others, a model each."""

    family: Family

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"two-model {self.family.name}"

    def fit(self, trial: Trial, crossing: Crossing = crossed_responses) -> Predict:
        """See `Learner`."""
        treated, control = fit_responses(self.family, trial)
        return Sum(((1.0, treated), (-1.0, control)))


@dataclass(frozen=True, slots=True)
class OneModel:
    """One model of the response with the treatment as a column: see the module."""

    family: Family

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"one-model {self.family.name}"

    def fit(self, trial: Trial, crossing: Crossing = crossed_responses) -> Predict:
        """See `Learner`."""
        columns = with_column(trial.features, trial.treated.astype(np.float64))
        model = self.family.fit_probability(columns, trial.outcome, trial.weights())
        if isinstance(model, Line):
            return Sum(((1.0, model.with_last(1.0)), (-1.0, model.with_last(0.0))))

        def uplift(features: Floats) -> Floats:
            ones = np.ones(len(features))
            return model(with_column(features, ones)) - model(with_column(features, 0 * ones))

        return uplift


@dataclass(frozen=True, slots=True)
class XLearner:
    """Each group's effect against what the other group's model expects of it, mixed by propensity.

    At serving nobody's propensity is known, so the mix has the mean propensity of the trial.
    """

    family: Family
    seed: int = 7

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"X-learner {self.family.name}"

    def fit(self, trial: Trial, crossing: Crossing = crossed_responses) -> Predict:
        """See `Learner`."""
        treated, control = crossing(self.family, trial, self.seed)
        effect = np.where(trial.treated, trial.outcome - control, treated - trial.outcome)
        weights = trial.weights()
        of_treated, of_control = (
            self.family.fit_effect(trial.features[rows], effect[rows], weights[rows])
            for rows in (trial.treated, ~trial.treated)
        )
        share = float(trial.propensity.mean())
        return Sum(((share, of_control), (1 - share, of_treated)))


@dataclass(frozen=True, slots=True)
class DRLearner:
    """A model of the doubly robust score: right if either the responses or the propensity are."""

    family: Family
    seed: int = 7

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"DR-learner {self.family.name}"

    def fit(self, trial: Trial, crossing: Crossing = crossed_responses) -> Predict:
        """See `Learner`."""
        score = doubly_robust(trial, *crossing(self.family, trial, self.seed))
        return self.family.fit_effect(trial.features, score, np.ones(len(trial)))


def fit_all(learners: Sequence[Learner], trial: Trial) -> dict[str, Predict]:
    """Each learner fitted on the trial, by name; what they share is learned once."""
    known: dict[tuple[Family, int], tuple[Floats, Floats]] = {}

    def once(family: Family, trial: Trial, seed: int) -> tuple[Floats, Floats]:
        if (family, seed) not in known:
            known[family, seed] = crossed_responses(family, trial, seed)
        return known[family, seed]

    return {learner.name: learner.fit(trial, once) for learner in learners}


def doubly_robust(trial: Trial, treated: Floats, control: Floats) -> Floats:
    """The score whose mean is the average effect, shape (n,) (Robins et al. 1994).

    `treated` and `control` are each row's expected response with and without treatment.
    """
    expected = np.where(trial.treated, treated, control)
    chance = np.where(trial.treated, trial.propensity, trial.propensity - 1)
    score: Floats = treated - control + (trial.outcome - expected) / chance
    return score


def fit_responses(family: Family, trial: Trial) -> tuple[Predict, Predict]:
    """Models of the response with and without treatment, weighted by inverse propensity."""
    weights = trial.weights()
    treated, control = (
        family.fit_probability(trial.features[rows], trial.outcome[rows], weights[rows])
        for rows in (trial.treated, ~trial.treated)
    )
    return treated, control


def with_column(features: Floats, column: Floats) -> Floats:
    """The features with one more column at the end."""
    return np.column_stack([features, column])


BASELINE: Final = TwoModel(Logistic())
"""What any served learner is measured against."""

LEARNERS: Final[tuple[Learner, ...]] = (
    BASELINE,
    XLearner(Logistic()),
    DRLearner(Logistic()),
    TwoModel(Boosting()),
    XLearner(Boosting()),
    DRLearner(Boosting()),
)
