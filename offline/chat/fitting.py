"""Logistic regression over hashed columns and vectors: the one way that text classes are learned.

With `contrast` each column first weighs the log of how much likelier it is in one class than in
the others (Wang and Manning 2012, NB-SVM), which suits two classes and many long texts. It knows
columns and labels, and not what they are of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

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
    `num_steps`: after so many more classes than two are learned well enough.
    """

    inverse_penalty: float
    vector_weight: float = 2.0
    min_texts: int = 2
    contrast: bool = False
    num_steps: int = 40


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
    added = np.zeros((len(labels), 0), np.float32) if vectors is None else vectors
    added = added * np.float32(fitting.vector_weight)
    coefficients: NDArray[Any]
    bias: NDArray[Any]
    if num_classes == 2:
        coefficients, bias = _two_classes(inputs, added, labels, fitting, weights)
    else:
        coefficients, bias = _classes(inputs, added, labels, num_classes, fitting, weights)
    entries = coefficients[len(known) :] * fitting.vector_weight
    model_columns = coefficients[: len(known)] * scale[:, None]
    return LinearModel(
        known, model_columns.astype(np.float32), entries.astype(np.float32), bias.astype(np.float32)
    )


def _two_classes(
    inputs: sp.csr_matrix,
    added: Floats,
    labels: NDArray[np.int64],
    fitting: Fitting,
    weights: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients of shape (columns, 2), and bias: the first class is worth nothing."""
    every = sp.hstack((inputs, sp.csr_matrix(added))).tocsr()
    model = LogisticRegression(
        C=fitting.inverse_penalty, solver="liblinear", dual=True, tol=1e-2, random_state=0
    ).fit(every, labels, sample_weight=weights)
    difference = model.coef_.T
    return np.hstack((np.zeros_like(difference), difference)), np.array([0.0, model.intercept_[0]])


def _classes(
    inputs: sp.csr_matrix,
    added: Floats,
    labels: NDArray[np.int64],
    num_classes: int,
    fitting: Fitting,
    weights: NDArray[np.float64] | None,
) -> tuple[Floats, Floats]:
    """The same for more classes: softmax by L-BFGS, sparse and dense columns each in its way.

    scikit-learn would need the dense ones as sparse, which are four fifths of all entries then.
    """
    import torch

    loss = _Loss(inputs.tocsr(), added, labels, num_classes, fitting, weights)
    parameters = torch.zeros(loss.shape, requires_grad=True)
    search = torch.optim.LBFGS(
        [parameters], max_iter=fitting.num_steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        value, gradient = loss.at(parameters.detach().numpy())
        parameters.grad = torch.from_numpy(gradient)
        return value

    search.step(closure)  # type: ignore[no-untyped-call]
    found: Floats = parameters.detach().numpy()
    return found[:-1], found[-1]


class _Loss:
    """The penalised log loss of a softmax, and its gradient; the last row of parameters is bias."""

    def __init__(
        self,
        inputs: sp.csr_matrix,
        added: Floats,
        labels: NDArray[np.int64],
        num_classes: int,
        fitting: Fitting,
        weights: NDArray[np.float64] | None,
    ) -> None:
        self._inputs, self._across, self._added = inputs, inputs.T.tocsr(), added
        self._right = np.eye(num_classes, dtype=np.float32)[labels]
        counts = np.ones(len(labels)) if weights is None else weights
        self._weights = (fitting.inverse_penalty * counts).astype(np.float32)[:, None]
        self._num_columns = inputs.shape[1]
        self.shape = (inputs.shape[1] + added.shape[1] + 1, num_classes)

    def at(self, parameters: Floats) -> tuple[float, Floats]:
        """The loss and its gradient, of the parameters' shape."""
        columns, entries = parameters[: self._num_columns], parameters[self._num_columns : -1]
        logits = self._inputs @ columns + self._added @ entries + parameters[-1]
        logits -= logits.max(1, keepdims=True)
        log_sums = np.log(np.exp(logits).sum(1, keepdims=True))
        errors = (np.exp(logits - log_sums) - self._right) * self._weights
        gradient = parameters.copy()
        gradient[: self._num_columns] += self._across @ errors
        gradient[self._num_columns : -1] += self._added.T @ errors
        gradient[-1] = errors.sum(0)
        lost = self._weights * (log_sums - (logits * self._right).sum(1, keepdims=True))
        return float(lost.sum() + 0.5 * np.square(parameters[:-1]).sum()), gradient


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
