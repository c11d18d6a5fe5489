"""Which kind of index large catalogues get, by how long their vectors are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from offline.index import build_index
from offline.recipe import IndexConfig

CONFIG = IndexConfig(max_exact_items=1_000, min_recall=0.95, recall_at=50)


@pytest.fixture(scope="module")
def directions() -> NDArray[np.float32]:
    """Vectors of length 1 in 60 clusters."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(60, 16))
    vectors = centres[rng.integers(0, 60, 20_000)] + 0.3 * rng.normal(size=(20_000, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = vectors.astype(np.float32)
    return result


@pytest.fixture(scope="module")
def skewed(directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same with lengths as ALS gives them: few are long."""
    rank = np.random.default_rng(2).permutation(len(directions))
    lengths = 1.0 / (1.0 + rank) ** 0.9
    return (directions * lengths[:, None]).astype(np.float32)


def test_few_long_vectors_are_searched_alone(skewed: NDArray[np.float32]) -> None:
    built = build_index(skewed, CONFIG, "cpu")
    assert built.description == "the 4096 longest"
    assert built.recall >= CONFIG.min_recall
    queries = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float32)
    truth = np.argsort(-(queries @ skewed.T), axis=1)[:, :50]
    found = built.index.search(queries, 50)[1]
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    assert hits / truth.size >= CONFIG.min_recall - 0.02


def test_equal_lengths_need_lists_or_a_graph(directions: NDArray[np.float32]) -> None:
    built = build_index(directions, CONFIG, "cpu")
    assert built.description.startswith(("IVF", "HNSW"))
    assert built.recall >= CONFIG.min_recall
    assert built.index.ntotal == len(directions)


def test_the_queries_given_decide(skewed: NDArray[np.float32]) -> None:
    """For queries that point away from every long vector the short ones are the answer."""
    vectors = skewed.copy()
    order = np.argsort(-np.linalg.norm(vectors, axis=1))
    vectors[order[:5_000], 0] = 1.0
    vectors[order[5_000:], 0] = 0.0
    away = np.zeros((20, 16), np.float32)
    away[:, 0] = -1.0
    away[:, 1:] = 0.01 * np.random.default_rng(4).normal(size=(20, 15))
    assert build_index(vectors, CONFIG, "cpu").description == "the 4096 longest"
    assert build_index(vectors, CONFIG, "cpu", probes=away).description != "the 4096 longest"


def test_vectors_that_are_zero_are_no_queries(skewed: NDArray[np.float32]) -> None:
    vectors = skewed.copy()
    vectors[::2] = 0
    assert build_index(vectors, CONFIG, "cpu").recall >= CONFIG.min_recall
