"""A log of who was shown an offer and what they did: what uplift is learned from and judged on.

Either randomised, where the chance to be shown is known, or observational, where it is estimated
from what was known of the person (`offline.coupons.observational`). It knows rows of numbers:
no users, coupons or files.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Trial:
    """One row a person: `features` (n, d), `treated` (n,) bool, `outcome` (n,), e.g. a visit.

    `propensity`, shape (n,), is the chance to be treated, strictly between 0 and 1.
    """

    features: Floats
    treated: NDArray[np.bool_]
    outcome: Floats
    propensity: Floats
    is_randomised: bool = True

    def __post_init__(self) -> None:
        """Refuse columns that do not belong together."""
        lengths = {len(self.features), len(self.treated), len(self.outcome), len(self.propensity)}
        if len(lengths) != 1:
            raise ValueError(f"the columns of a trial have different lengths: {sorted(lengths)}")
        if not ((self.propensity > 0) & (self.propensity < 1)).all():
            raise ValueError("a propensity must lie strictly between 0 and 1; trim the rows first")

    def __len__(self) -> int:
        """The number of people."""
        return len(self.outcome)

    def rows(self, kept: Rows | NDArray[np.bool_]) -> Self:
        """The trial of these rows only."""
        return replace(
            self,
            features=self.features[kept],
            treated=self.treated[kept],
            outcome=self.outcome[kept],
            propensity=self.propensity[kept],
        )

    def weights(self) -> Floats:
        """Inverse propensity weights, shape (n,): both groups as if all had been in them.

        Normalised within each group to mean 1 (Hájek), so that a constant propensity weighs 1.
        """
        chance = np.where(self.treated, self.propensity, 1 - self.propensity)
        weight = 1 / chance
        for group in (self.treated, ~self.treated):
            if group.any():
                weight[group] /= weight[group].mean()
        return weight


def randomised(features: Floats, treated: NDArray[np.bool_], outcome: Floats) -> Trial:
    """A trial in which everybody had the same chance, which is the share of the treated."""
    share = np.full(len(outcome), float(np.mean(treated)))
    return Trial(features, treated, outcome, share)


def stratified_folds(trial: Trial, num_folds: int, seed: int) -> Rows:
    """The fold of each row, shape (n,): each has its share of both groups."""
    rng = np.random.default_rng(seed)
    folds = np.zeros(len(trial), np.intp)
    for group in (trial.treated, ~trial.treated):
        members = rng.permutation(np.flatnonzero(group))
        folds[members] = np.arange(len(members)) % num_folds
    return folds
