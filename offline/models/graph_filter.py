"""Collaborative filtering as a smooth low-pass filter on the item graph: nothing is trained.

With A = Du^-a R Di^-b, scaled so that the largest eigenvalue of G = A'A is 1, a history h scores

    s = Di^c f(G) Di^-b h,    f(x) = (x / (x + shrinkage))^order.

f keeps what many users share (x near 1) and damps noise (x near 0). EASE (Steck 2019) is this
filter with the diagonal removed and a = b = 0; GF-CF (Shen et al. 2021) is f(x) = x plus a step.
f is applied by its Chebyshev series (Mason and Handscomb 2003, section 5.8), so that a block of
users costs `degree` pairs of sparse products and no matrix of items x items exists. It knows
matrices only.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float32]

POWER_STEPS: Final = 40
QUADRATURE_POINTS: Final = 256


@dataclass(frozen=True, slots=True)
class GraphFilterConfig:
    """The powers a (users), b (items) and c (output) of the formula; `shrinkage` > 0.

    The smaller the output's power is against the items', the less popular items are favoured.
    """

    user_power: float = 0.3
    item_power: float = 0.3
    output_power: float = 0.2
    shrinkage: float = 0.1
    order: int = 2
    degree: int = 10


@dataclass(frozen=True, slots=True)
class GraphFilter:
    """The fitted filter: A and A' as CSR, scales in and out (items,), Chebyshev coefficients."""

    adjacency: sparse.csr_matrix
    transposed: sparse.csr_matrix
    item_in: Matrix
    item_out: Matrix
    coefficients: tuple[float, ...]

    def score(self, histories: sparse.csr_matrix) -> Matrix:
        """Binary histories (B, items) to scores (B, items)."""
        scaled = histories.T.multiply(self.item_in[:, None]).todense()
        signal = np.asarray(scaled, np.float32)
        previous, current = signal, self._shift(signal)
        total = self.coefficients[0] * previous + self.coefficients[1] * current
        for coefficient in self.coefficients[2:]:
            previous, current = current, 2 * self._shift(current) - previous
            total += coefficient * current
        return np.ascontiguousarray((total * self.item_out[:, None]).T)

    def _shift(self, signal: Matrix) -> Matrix:
        """(2G - I) x: the spectrum moved from [0, 1] to [-1, 1], where the polynomials live."""
        shifted: Matrix = self.transposed @ (self.adjacency @ (2 * signal)) - signal
        return shifted


def fit_graph_filter(matrix: sparse.csr_matrix, config: GraphFilterConfig) -> GraphFilter:
    """Fit on a binary matrix (users, items); items without users keep scale 1 and score 0."""
    users = np.maximum(np.diff(matrix.indptr), 1).astype(np.float64)
    items = np.bincount(matrix.indices, minlength=matrix.shape[1])
    items = np.maximum(items, 1).astype(np.float64)
    scaled_users = sparse.diags(users**-config.user_power) @ matrix
    adjacency = (scaled_users @ sparse.diags(items**-config.item_power)).tocsr()
    adjacency = (adjacency / np.sqrt(_largest_eigenvalue(adjacency))).astype(np.float32)
    return GraphFilter(
        adjacency=adjacency,
        transposed=adjacency.T.tocsr(),
        item_in=(items**-config.item_power).astype(np.float32),
        item_out=(items**config.output_power).astype(np.float32),
        coefficients=chebyshev_coefficients(config),
    )


def chebyshev_coefficients(config: GraphFilterConfig) -> tuple[float, ...]:
    """The series of f on [0, 1] by Gauss-Chebyshev quadrature, `degree` + 1 terms; degree >= 1."""
    angles = (np.arange(QUADRATURE_POINTS) + 0.5) * np.pi / QUADRATURE_POINTS
    points = (np.cos(angles) + 1) / 2
    values = (points / (points + config.shrinkage)) ** config.order
    orders = np.arange(config.degree + 1)[:, None]
    series = 2 / QUADRATURE_POINTS * (np.cos(orders * angles) @ values)
    series[0] /= 2
    return tuple(float(value) for value in series)


def _largest_eigenvalue(adjacency: sparse.csr_matrix) -> float:
    """Of A'A, by power iteration."""
    vector = np.ones(adjacency.shape[1]) / np.sqrt(adjacency.shape[1])
    norm = 1.0
    for _ in range(POWER_STEPS):
        vector = adjacency.T @ (adjacency @ vector)
        norm = float(np.linalg.norm(vector))
        vector /= norm
    return norm
