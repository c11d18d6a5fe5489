"""Implicit-feedback alternating least squares (Hu, Koren and Volinsky 2008), by `implicit`.

Only the item side is kept: a user's vector is folded in online from the history, so that it
follows the last purchase and nothing keyed by a user is in a bundle.
"""

from dataclasses import dataclass

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from offline.progress import Progress
from offline.recipe import AlsConfig


@dataclass(frozen=True, slots=True)
class Als:
    """The fitted model.

    `item_vectors` has shape (items, factors); `gram` is Y'Y + λI, shape (factors, factors).
    """

    item_vectors: NDArray[np.float32]
    gram: NDArray[np.float32]


def fit_als(profiles: sparse.csr_matrix, config: AlsConfig, seed: int, progress: Progress) -> Als:
    """Factorise profiles, shape (users, items), with confidence alpha times their values."""
    with progress.task("ALS", config.num_iterations) as advance, threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=config.num_factors,
            alpha=config.alpha,
            regularization=config.regularization,
            iterations=config.num_iterations,
            random_state=seed,
        )
        model.fit(profiles, show_progress=False, callback=lambda *_: advance(1))
    vectors = np.asarray(model.item_factors, np.float32)
    gram = vectors.T @ vectors + config.regularization * np.eye(config.num_factors)
    return Als(vectors, gram.astype(np.float32))
