"""The GPU bench up to where the GPU begins: what stands for it here is the CPU itself."""

import faiss
import numpy as np
import pytest

from infra.bench import bench_gpu
from infra.bench.bench_gpu import NO_GPU, compare, grown, main, measure


def draw(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal((size, 16), np.float32)


def test_every_index_and_batch_is_measured() -> None:
    rows = list(measure(draw(4_000), draw(32), lambda index: index, (1, 8), num_repeats=2))
    assert [(row["index"], row["batch"]) for row in rows] == [
        ("Flat", 1),
        ("Flat", 8),
        ("IVF128,SQfp16", 1),
        ("IVF128,SQfp16", 8),
    ]
    assert all(row["is_same"] and row["id_overlap"] == 1.0 for row in rows)


def test_a_device_that_answers_otherwise_is_noticed() -> None:
    def other(index: faiss.Index) -> faiss.Index:
        broken = faiss.IndexFlatIP(16)
        broken.add(1.01 * draw(index.ntotal))
        return broken

    rows = list(measure(draw(500), draw(4), other, (1,), num_repeats=1))
    assert not rows[0]["is_same"]


def test_a_different_order_of_equal_scores_is_no_difference() -> None:
    scores = np.array([[2.0, 1.0, 1.0]], np.float32)
    agreement = compare((scores, np.array([[5, 7, 9]])), (scores, np.array([[5, 9, 7]])))
    assert agreement.is_same
    assert agreement.id_overlap == 1.0


def test_a_larger_shop_keeps_the_first_vectors() -> None:
    vectors = draw(100)
    larger = grown(vectors, 250)
    assert larger.shape == (250, 16)
    assert (larger[:100] == vectors).all()
    step = np.linalg.norm(larger[100:200] - vectors, axis=1) / np.linalg.norm(vectors, axis=1)
    assert step.min() > 0.03
    assert step.max() < 0.3


def test_a_host_without_a_gpu_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_gpu, "gpu", lambda: None)
    monkeypatch.setattr("sys.argv", ["bench_gpu"])
    assert main() == NO_GPU
    assert "no GPU here" in capsys.readouterr().err
