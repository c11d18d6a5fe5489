"""Uplift from logs in which nobody drew lots: weighted by who was likely to be shown an offer.

The propensity is estimated from what was known of each person, by models that have not seen the
person. Those whom the shop all but always, or never, chose are left out, since nothing in the log
says what would have been (Crump et al. 2009). What the features do not hold is not corrected, and
no number here can show that it is absent: the report says so.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.coupons.responses import Family, Logistic
from offline.coupons.trial import Floats, Trial, randomised, stratified_folds

NUM_FOLDS: Final = 5
MIN_PROPENSITY: Final = 0.05
"""Rows whose propensity is nearer to 0 or 1 than this are left out."""

BALANCED: Final = 0.1
"""Largest standardised difference of a feature that counts as balanced (Austin 2009)."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far a log can stand in for a randomised trial.

    `effective_rows` is Kish's effective sample size of the weighted rows; the imbalances are the
    largest standardised difference of any feature between the groups, before and after weighting.
    `kept`, shape (n,), is which of the given rows are in.
    """

    num_rows: int
    num_left_out: int
    effective_rows: float
    imbalance_before: float
    imbalance_after: float
    kept: NDArray[np.bool_]

    def statement(self) -> str:
        """What a reader of the estimate must know, in words."""
        text = (
            f"Not a randomised estimate: weighted by an estimated propensity on {self.num_rows} "
            f"people (worth {self.effective_rows:.0f}), {self.num_left_out} left out for want of "
            f"comparable others. Largest difference between the groups in a known feature: "
            f"{self.imbalance_before:.2f} standard deviations, {self.imbalance_after:.2f} after "
            "weighting. Whatever moved both the choice and the outcome and is not among the "
            "features is in the estimate too."
        )
        if self.imbalance_after <= BALANCED:
            return text
        return text + " The groups are not balanced: do not act on this estimate."


def weigh(
    features: Floats, treated: NDArray[np.bool_], outcome: Floats, seed: int = 7
) -> tuple[Trial, Overlap]:
    """The comparable rows as a trial with estimated propensities, and how far to trust it.

    Raises ValueError when no rows are comparable.
    """
    propensity = estimate_propensity(features, treated, outcome, seed)
    kept = np.abs(propensity - 0.5) <= 0.5 - MIN_PROPENSITY
    if not treated[kept].any() or treated[kept].all():
        raise ValueError("nobody who was shown the offer compares with anybody who was not")
    trial = Trial(features[kept], treated[kept], outcome[kept], propensity[kept], False)
    weights = trial.weights()
    overlap = Overlap(
        num_rows=len(trial),
        num_left_out=int((~kept).sum()),
        effective_rows=float(weights.sum() ** 2 / (weights**2).sum()),
        imbalance_before=imbalance(trial, np.ones(len(trial))),
        imbalance_after=imbalance(trial, weights),
        kept=kept,
    )
    return trial, overlap


def estimate_propensity(
    features: Floats,
    treated: NDArray[np.bool_],
    outcome: Floats,
    seed: int = 7,
    family: Family | None = None,
) -> Floats:
    """The chance that each row was treated, shape (n,), by a model that has not seen the row."""
    family = family or Logistic()
    trial = randomised(features, treated, outcome)
    folds = stratified_folds(trial, NUM_FOLDS, seed)
    propensity = np.zeros(len(treated))
    for fold in range(NUM_FOLDS):
        held = folds == fold
        ones = np.ones(int((~held).sum()))
        model = family.fit_probability(features[~held], treated[~held].astype(np.float64), ones)
        propensity[held] = model(features[held])
    return propensity


def imbalance(trial: Trial, weights: Floats) -> float:
    """The largest difference of the groups' weighted means, in standard deviations."""
    groups = [
        np.average(trial.features[rows], axis=0, weights=weights[rows])
        for rows in (trial.treated, ~trial.treated)
    ]
    scale = np.maximum(trial.features.std(axis=0), 1e-12)
    return float(np.max(np.abs(groups[0] - groups[1]) / scale))
