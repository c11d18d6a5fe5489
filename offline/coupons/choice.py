"""Which uplift learner serves: the simplest that cross-validated Qini does not speak against.

The candidates are the learners, and the two-model logistic mixed with the one-model one: the
latter is the most shrunk there is, and how much of it helps is for the data to say. The two-model
logistic serves unless another is better by a standard error over the folds (Breiman et al. 1984),
and a boosted one must be better than that by one more: Qini is noisier than the differences
between learners, so the best of many is often lucky. For the same reason what is chosen serves as
the mean of its prediction and the two-model logistic one's. Nothing but the trial that is given
decides, so what is judged later must not be in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from offline.coupons.fitted import Predict, Sum
from offline.coupons.qini import qini_curve
from offline.coupons.responses import Boosting, Logistic
from offline.coupons.trial import Floats, Trial, stratified_folds
from offline.coupons.uplift import BASELINE, LEARNERS, Learner, OneModel, fit_all

NUM_FOLDS: Final = 5
SHRUNK: Final = OneModel(Logistic())
BOOSTED: Final = Boosting().name

Blends = Mapping[str, Mapping[str, float]]
"""By name of a candidate, the weight of each learner."""

CANDIDATES: Final[Blends] = {
    **{learner.name: {learner.name: 1.0} for learner in LEARNERS},
    "two-model logistic, a fifth shrunk": {BASELINE.name: 0.8, SHRUNK.name: 0.2},
    "two-model logistic, two fifths shrunk": {BASELINE.name: 0.6, SHRUNK.name: 0.4},
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen model, its name, and the cross-validated Qini of each candidate by fold."""

    name: str
    uplift: Predict
    qini_by_fold: dict[str, Floats]

    @property
    def qini(self) -> dict[str, float]:
        """The mean over the folds of each candidate."""
        return {name: float(folds.mean()) for name, folds in self.qini_by_fold.items()}


def choose_learner(
    trial: Trial,
    learners: Sequence[Learner] = (*LEARNERS, SHRUNK),
    candidates: Blends = CANDIDATES,
    seed: int = 7,
) -> Choice:
    """Cross-validate all candidates on the trial, and fit the best one on all of it."""
    by_fold = crossed_qini(trial, learners, candidates, seed)
    best = best_candidate(by_fold)
    return Choice(best, fit_blend(trial, learners, hedged(candidates[best])), by_fold)


def crossed_qini(
    trial: Trial,
    learners: Sequence[Learner] = (*LEARNERS, SHRUNK),
    candidates: Blends = CANDIDATES,
    seed: int = 7,
) -> dict[str, Floats]:
    """The Qini of each candidate by fold, shape (NUM_FOLDS,), on people it has not seen."""
    folds = stratified_folds(trial, NUM_FOLDS, seed)
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for fold in range(NUM_FOLDS):
        held = trial.rows(folds == fold)
        fitted = fit_all(learners, trial.rows(folds != fold))
        predicted = {name: model(held.features) for name, model in fitted.items()}
        for name, weights in candidates.items():
            found[name].append(qini_curve(held, mixed(predicted, weights)).qini)
    return {name: np.array(values) for name, values in found.items()}


def best_candidate(by_fold: Mapping[str, Floats]) -> str:
    """The name of what serves: the baseline, then others, then boosted ones, if clearly better."""
    boosted = {name for name in by_fold if BOOSTED in name}
    chosen = ""
    for names in ({BASELINE.name} & set(by_fold), set(by_fold) - boosted, boosted):
        best = max(sorted(names), key=lambda name: float(by_fold[name].mean()), default="")
        if best and (not chosen or _is_clear(by_fold[best] - by_fold[chosen])):
            chosen = best
    return chosen


def _is_clear(gain: Floats) -> bool:
    """Whether a gain by fold is above 0 by a standard error."""
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def hedged(weights: Mapping[str, float]) -> dict[str, float]:
    """Half of a blend and half of the baseline."""
    half = {name: weight / 2 for name, weight in weights.items()}
    return {**half, BASELINE.name: half.get(BASELINE.name, 0.0) + 0.5}


def fit_blend(trial: Trial, learners: Sequence[Learner], weights: Mapping[str, float]) -> Predict:
    """The weighted sum of learners, each fitted on the whole trial."""
    fitted = fit_all([one for one in learners if one.name in weights], trial)
    return Sum([(weight, fitted[name]) for name, weight in weights.items()])


def mixed(predicted: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """The weighted sum of predictions by name."""
    total: Floats = np.sum([weight * predicted[name] for name, weight in weights.items()], axis=0)
    return total
