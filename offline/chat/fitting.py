"""Logistic regression over hashed columns and vectors: the one way that text classes are learned.

With `contrast` each column first weighs the log of how much likelier it is in one class than in
the others (Wang and Manning 2012, NB-SVM), which suits two classes and many long texts. It knows
columns and labels, and not what they are of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from feature_store.language.grams import Hashes
from feature_store.language.linear import Floats, LinearModel


@dataclass(frozen=True, slots=True)
class Fitting:
    """How to learn: what regularises, and how much a vector weighs beside the columns.

    `inverse_penalty` is scikit-learn's C. `min_texts`: a column in fewer texts is left out.
    """

    inverse_penalty: float
    vector_weight: float = 2.0
    min_texts: int = 2
    contrast: bool = False


_SMOOTHING: Final = 1.0


def fit_linear(
    columns: Sequence[Hashes],
    labels: NDArray[np.int64],
    num_classes: int,
    fitting: Fitting,
    vectors: Floats | None = None,
    weights: NDArray[np.float64] | None = None,
) -> LinearModel:
    """Learn from texts' ascending distinct columns, their classes and weights, all of one length.

    Each class from 0 to before `num_classes` must occur. `vectors` has shape (texts, dimension).
    """
    known, table = _table(columns, fitting.min_texts)
    scale = _contrast(table, labels, num_classes) if fitting.contrast else np.ones(len(known))
    inputs = _unit_rows(table) @ sp.diags(scale.astype(np.float32))
    if vectors is not None:
        inputs = sp.hstack((inputs, sp.csr_matrix(vectors * np.float32(fitting.vector_weight))))
    fitted = _regression(fitting, num_classes).fit(inputs.tocsr(), labels, sample_weight=weights)
    coefficients, bias = _per_class(fitted.coef_.T, fitted.intercept_)
    entries = coefficients[len(known) :] * fitting.vector_weight
    model_columns = coefficients[: len(known)] * scale[:, None]
    return LinearModel(
        known, model_columns.astype(np.float32), entries.astype(np.float32), bias.astype(np.float32)
    )


def _regression(fitting: Fitting, num_classes: int) -> LogisticRegression:
    if num_classes == 2:
        return LogisticRegression(
            C=fitting.inverse_penalty, solver="liblinear", dual=True, tol=1e-2, random_state=0
        )
    return LogisticRegression(C=fitting.inverse_penalty, max_iter=150, tol=1e-3)


def _per_class(
    coefficients: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two classes are fitted as one difference: the first of them is worth nothing."""
    if coefficients.shape[1] > 1:
        return coefficients, bias
    nothing = np.zeros_like(coefficients)
    return np.hstack((nothing, coefficients)), np.array([0.0, bias[0]])


def _table(columns: Sequence[Hashes], min_texts: int) -> tuple[Hashes, sp.csr_matrix]:
    """The columns that enough texts have, ascending, and which text has which of them."""
    lengths = [len(hashes) for hashes in columns]
    every = np.concatenate(columns)
    distinct, numbers, counts = np.unique(every, return_inverse=True, return_counts=True)
    kept = counts >= min_texts
    place = np.where(kept, np.cumsum(kept) - 1, -1)[numbers]
    rows = np.repeat(np.arange(len(columns)), lengths)[place >= 0]
    ones = np.ones(len(rows), np.float32)
    shape = (len(columns), int(kept.sum()))
    return distinct[kept], sp.csr_matrix((ones, (rows, place[place >= 0])), shape=shape)


def _unit_rows(table: sp.csr_matrix) -> sp.csr_matrix:
    """Each row divided by its length, which is the root of its number of columns."""
    sizes = np.diff(table.indptr)
    lengths = np.sqrt(np.maximum(sizes, 1)).astype(np.float32)
    return sp.diags((1.0 / lengths).astype(np.float32)) @ table


def _contrast(
    table: sp.csr_matrix, labels: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """For each column the largest log ratio between a class and the rest, signed for the last."""
    ratios = []
    for one in range(num_classes):
        own = np.asarray(table[labels == one].sum(0)).ravel() + _SMOOTHING
        rest = np.asarray(table[labels != one].sum(0)).ravel() + _SMOOTHING
        ratios.append(np.log((own / own.sum()) / (rest / rest.sum())))
    largest: NDArray[np.float64] = np.abs(np.array(ratios)).max(0)
    return largest
