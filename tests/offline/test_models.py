"""Models on worlds whose answer is known, and fast paths against naive ones."""

import faiss
import numpy as np
import onnxruntime
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse

from feature_store.schema import MICROSECONDS_PER_DAY
from offline.dataset import Purchases
from offline.errors import DeviceError
from offline.index import build_index, has_gpu
from offline.models.als import fit_als
from offline.models.linear import fit_linear
from offline.models.popularity import above_zero, fit_popularity, fit_recent_popularity, ordered
from offline.models.ranker import Lessons, expected_calibration_error, fit_ranker
from offline.progress import QUIET
from offline.recipe import AlsConfig, IndexConfig, LinearConfig, PopularityConfig, RankerConfig
from online.stages.sources import AlsForUser
from online.stages.vectors import VectorIndex

DAY = MICROSECONDS_PER_DAY


def purchases(user: list[int], item: list[int], day: list[int]) -> Purchases:
    num = len(user)
    return Purchases(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(day, np.int64) * DAY,
        np.ones(num, np.float32),
    )


def checkerboard() -> sparse.csr_matrix:
    """Even users bought even items, odd users odd ones, each a random half of them."""
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 4, (40, 60)) * (rng.random((40, 60)) < 0.5)
    same = (np.arange(40)[:, None] + np.arange(60)) % 2 == 0
    return sparse.csr_matrix((counts * same).astype(np.float32))


def test_popularity_counts_users_not_purchases() -> None:
    fitted = fit_popularity(purchases([0, 0, 0, 1, 2, 1], [4, 4, 4, 2, 2, 0], [0] * 6), 5)
    assert fitted.order.tolist() == [2, 0, 4, 1, 3]
    assert fitted.score.tolist() == [2, 1, 1, 0, 0]


def test_a_list_names_only_items_that_have_a_score() -> None:
    listed = above_zero(ordered(np.array([0.0, 2.0, 0.0, 3.0])))
    assert (listed.order.tolist(), listed.score.tolist()) == ([3, 1], [3, 2])
    assert not len(above_zero(ordered(np.zeros(4))).order)


def test_recent_popularity_forgets() -> None:
    bought = purchases([0, 1, 2], [1, 1, 2], [0, 1, 50])
    fitted = fit_recent_popularity(bought, 3, 60 * DAY, PopularityConfig(num_recent_days=28))
    assert fitted.order[0] == 2


def test_als_learns_the_checkerboard() -> None:
    fitted = fit_als(profiles(), AlsConfig(num_factors=2), seed=1, progress=QUIET)
    source = als_source(fitted.item_vectors, fitted.gram)
    for parity in (0, 1):
        items = np.array([parity, parity + 2, parity + 4], np.int32)
        scores = fitted.item_vectors @ source.fold_in(items, np.full(3, 7, np.float32))
        assert (np.argsort(-scores)[:20] % 2 == parity).all()


def test_folding_in_gives_the_vector_that_training_would() -> None:
    config = AlsConfig(num_factors=8, alpha=10.0, regularization=0.1)
    fitted = fit_als(profiles(), config, seed=1, progress=QUIET)
    oracle = AlternatingLeastSquares(
        factors=8, alpha=10.0, regularization=0.1, random_state=1, num_threads=1
    )
    oracle.item_factors = fitted.item_vectors
    for user in range(5):
        row = profiles()[user]
        folded = als_source(fitted.item_vectors, fitted.gram).fold_in(
            row.indices.astype(np.int32), config.alpha * row.data
        )
        expected = oracle.recalculate_user(user, row)
        np.testing.assert_allclose(folded, expected, rtol=1e-3, atol=1e-4)


def profiles() -> sparse.csr_matrix:
    counts = checkerboard()
    counts.data = np.log1p(counts.data)
    return counts


def als_source(
    vectors: np.typing.NDArray[np.float32], gram: np.typing.NDArray[np.float32]
) -> AlsForUser:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return AlsForUser("als", VectorIndex(index, vectors), gram, alpha=10.0, half_life=4)


@pytest.mark.parametrize("max_items", [12_000, 30])
def test_the_linear_filter_is_the_closed_form(max_items: int) -> None:
    """Both sides of the Woodbury identity against the textbook formula of EASE."""
    matrix = profiles()
    config = LinearConfig(l2=5.0, num_neighbours=60, max_items=max_items)
    kept = np.arange(60)
    if max_items < 40:  # fewer than users and items: the most popular only
        popularity = np.bincount(matrix.indices, minlength=60)
        kept = np.sort(np.argsort(-popularity, kind="stable")[:max_items])
    dense = matrix[:, kept].toarray().astype(np.float64)
    inverse = np.linalg.inv(dense.T @ dense + 5.0 * np.eye(len(kept)))
    expected = np.eye(len(kept)) - inverse / np.diag(inverse)
    fitted = fit_linear(matrix, config)
    assert fitted.row.tolist() == [
        *np.where(np.isin(range(60), kept), np.searchsorted(kept, range(60)), -1)
    ]
    for row in range(len(kept)):
        weights = np.zeros(60)
        np.add.at(weights, fitted.neighbours[row], fitted.weights[row])
        np.testing.assert_allclose(weights[kept], expected[row], atol=2e-4)


def test_the_linear_filter_keeps_the_loudest_neighbours() -> None:
    everything = fit_linear(profiles(), LinearConfig(l2=5.0, num_neighbours=60))
    fitted = fit_linear(profiles(), LinearConfig(l2=5.0, num_neighbours=4))
    loudest = np.sort(np.abs(everything.weights), axis=1)[:, -4:]
    np.testing.assert_allclose(np.sort(np.abs(fitted.weights), axis=1), loudest, rtol=1e-5)


def test_the_ranker_learns_calibrates_and_is_what_onnx_says() -> None:
    """Purchases follow one feature by a known curve: the network must find its probabilities."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 5)).astype(np.float32)
    truth = 1 / (1 + np.exp(-(2 * features[:, 1] - 2)))
    labels = (rng.random(len(truth)) < truth).astype(np.float32)
    config = RankerConfig(
        num_trees=60, feature_share=1.0, num_epochs=6, batch_size=512, hidden=(16,)
    )
    lessons = Lessons.of_purchases(labels)
    ranker = fit_ranker(features, lessons, config, seed=0, progress=QUIET)
    session = onnxruntime.InferenceSession(ranker.onnx, providers=["CPUExecutionProvider"])
    fresh = rng.normal(size=(20_000, 5)).astype(np.float32)
    expected = 1 / (1 + np.exp(-(2 * fresh[:, 1] - 2)))
    probability = session.run(None, {"features": fresh})[0]
    assert np.corrcoef(probability, expected)[0, 1] > 0.98
    bought = (rng.random(len(expected)) < expected).astype(np.float32)
    assert expected_calibration_error(probability.astype(np.float64), bought) < 0.02


def clustered(num: int) -> np.typing.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, 16))
    return (centres[rng.integers(0, 50, num)] + 0.3 * rng.normal(size=(num, 16))).astype(np.float32)


def test_a_small_catalogue_is_searched_exactly() -> None:
    built = build_index(clustered(500), IndexConfig(max_exact_items=1000), "cpu")
    assert (built.description, built.recall) == ("Flat", 1.0)


@pytest.mark.parametrize("min_recall", [0.8, 0.99])
def test_a_large_catalogue_gets_an_index_with_the_recall_asked_for(min_recall: float) -> None:
    vectors = clustered(8000)
    config = IndexConfig(max_exact_items=1000, min_recall=min_recall, recall_at=50)
    built = build_index(vectors, config, "cpu")
    queries = clustered(8000)[4000:4100]
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :50]
    found = built.index.search(queries, 50)[1]
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    assert hits / truth.size >= min_recall - 0.03  # these are other queries than the tuning's
    assert built.recall >= min_recall


def test_a_gpu_that_is_not_there_is_an_error_only_when_asked_for() -> None:
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        assert has_gpu("cuda")
        return
    assert not has_gpu("auto")
    with pytest.raises(DeviceError, match="--device auto"):
        has_gpu("cuda")
