"""Filtered search against brute force, on clustered vectors, whatever share is allowed."""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from feature_store.ranking import history_at
from feature_store.state import EMPTY
from online.offering.allowed import allowed_where
from online.offering.offer import AllowedSet, Offer
from online.placements import PLACEMENTS
from online.stages.vectors import VectorIndex
from online.types import NO_ITEMS, Query, Request

NUM_ITEMS = 60_000
DIMENSIONS = 32
LIMIT = 100

Vectors = NDArray[np.float32]


def query_for(allowed: AllowedSet, **changes: Any) -> Query:
    fixed: dict[str, Any] = {
        "request": Request(0),
        "num_wanted": 20,
        "state": EMPTY,
        "history": history_at(EMPTY, NO_ITEMS, 0),
        "only": None,
        "offer": Offer(allowed, allowed),
        "placement": PLACEMENTS["home"],
    }
    arrays = ("owned", "session", "context", "basket", "blocked", "not_new", "tired", "visit")
    return Query(**{**fixed, **dict.fromkeys(arrays, NO_ITEMS), **changes})


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Points around 300 centres, lengths as uneven as popularity makes them."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(300, DIMENSIONS))
    points = centres[cluster_of()] + 0.5 * rng.normal(size=(NUM_ITEMS, DIMENSIONS))
    points *= rng.lognormal(0.0, 0.4, NUM_ITEMS)[:, None]
    return points.astype(np.float32)


def cluster_of() -> NDArray[np.intp]:
    return np.random.default_rng(6).integers(0, 300, NUM_ITEMS)


def inverted_lists(vectors: Vectors) -> Any:
    index: Any = faiss.index_factory(DIMENSIONS, "IVF512,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = 48
    return index


def exact(vectors: Vectors) -> Any:
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(vectors)
    return index


def longest(vectors: Vectors) -> Any:
    order = np.argsort(-np.linalg.norm(vectors, axis=1))[:30_000]
    index = faiss.IndexIDMap(faiss.IndexFlatIP(DIMENSIONS))
    index.add_with_ids(vectors[order], order)
    return index


@pytest.fixture(scope="module", params=[inverted_lists, exact, longest])
def index(request: pytest.FixtureRequest, vectors: Vectors) -> VectorIndex:
    return VectorIndex(request.param(vectors), vectors)


def some(share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(7).random(NUM_ITEMS) < share


def whole_clusters(share: float) -> NDArray[np.bool_]:
    """What is allowed lies together, far from most queries."""
    return cluster_of() < max(1, round(share * 300))


def cases() -> Iterator[Any]:
    for share in (1.0, 0.98, 0.5, 0.1, 0.01, 0.001):
        yield pytest.param(some(share), id=f"any {share:.1%}")
    for share in (0.5, 0.1, 0.01):
        yield pytest.param(whole_clusters(share), id=f"together {share:.1%}")


@pytest.mark.parametrize("mask", list(cases()))
def test_filtered_search_finds_what_brute_force_finds(
    index: VectorIndex, vectors: Vectors, mask: NDArray[np.bool_]
) -> None:
    rng = np.random.default_rng(8)
    queries = vectors[rng.integers(0, NUM_ITEMS, 25)] + vectors[rng.integers(0, NUM_ITEMS, 25)]
    blocked = np.unique(rng.integers(0, NUM_ITEMS, 300)).astype(np.int32)
    query = query_for(allowed_where(mask), blocked=blocked)
    fair = mask.copy()
    fair[blocked] = False
    allowed = np.flatnonzero(fair)
    hits = total = 0
    for vector in queries:
        found = index.search(query, vector, LIMIT)
        assert len(found.items) == min(LIMIT, len(allowed))
        assert len(set(found.items.tolist())) == len(found.items)
        assert fair[found.items].all()
        assert (np.diff(found.scores) <= 1e-5).all()
        truth = allowed[np.argsort(-(vectors[allowed] @ vector))[:LIMIT]]
        hits += len(np.intersect1d(truth, found.items))
        total += len(truth)
    assert hits / total >= 0.95


def test_nothing_is_found_where_nothing_is_allowed(index: VectorIndex, vectors: Vectors) -> None:
    query = query_for(allowed_where(np.zeros(NUM_ITEMS, bool)))
    assert not len(index.search(query, vectors[0], LIMIT).items)


def test_only_the_items_asked_for_are_found(index: VectorIndex, vectors: Vectors) -> None:
    only = np.array([3, 77, 4_000], np.int32)
    query = query_for(allowed_where(np.arange(NUM_ITEMS) != 77), only=only)
    assert sorted(index.search(query, vectors[0], LIMIT).items.tolist()) == [3, 4_000]
