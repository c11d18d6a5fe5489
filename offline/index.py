"""Vector indexes: exact for small catalogues, for large ones the cheapest that keeps recall.

Built on a GPU where FAISS has one and `device` allows it, and always written as a CPU index,
so that every server reads the same file.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from offline.errors import DeviceError
from offline.recipe import IndexConfig

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
NUM_PROBE_QUERIES: Final = 500

POINTS_PER_LIST: Final = 64
"""Vectors for each list's k-means: four times as many take four times as long, for nothing."""

_LONGEST: Final = (4_096, 8_192, 16_384, 32_768, 65_536)
_FAMILIES: Final = (
    ("IVF{num_lists},SQ8", "nprobe", (8, 16, 32, 64, 128, 256, 512)),
    ("HNSW32", "efSearch", (64, 128, 256, 512)),
)


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An index, how it was made, and its measured recall against exact search."""

    index: faiss.Index
    description: str
    recall: float


def has_gpu(device: Device) -> bool:
    """Whether to build on a GPU; DeviceError when `cuda` is asked for and there is none."""
    num_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "cuda" and not num_gpus:
        raise DeviceError(
            "--device cuda needs faiss-gpu and a GPU, FAISS sees none; "
            "install the extra gpu instead of cpu, or use --device auto"
        )
    return device != "cpu" and num_gpus > 0


def build_index(
    vectors: NDArray[np.float32],
    config: IndexConfig,
    device: Device = "auto",
    seed: int = 7,
    probes: NDArray[np.float32] | None = None,
) -> BuiltIndex:
    """An inner-product index over `vectors`, shape (items, dimensions).

    `probes` are typical queries, shape (n, dimensions); by default a sample of the vectors.
    Up to `config.max_exact_items` exact. Beyond, the first kind that reaches `config.min_recall`
    at `config.recall_at`: the longest vectors alone, inverted lists, a graph; exact search when
    none does. They stand in the order of their usual speed, and of what it costs to build them.
    """
    gpu = has_gpu(device)
    vectors = np.ascontiguousarray(vectors, np.float32)
    exact = BuiltIndex(_train("Flat", vectors, gpu), "Flat", 1.0)
    if len(vectors) <= config.max_exact_items:
        return exact
    if probes is None:
        probes = _sample(vectors, seed)
    truth = exact.index.search(probes, config.recall_at)[1]
    longest = _longest(vectors, probes, truth, config)
    if longest is not None:
        return longest
    for factory, setting, values in _FAMILIES:
        trial = _tune(factory, setting, values, vectors, probes, truth, config, gpu)
        if trial is not None:
            return trial
    return exact


def save_index(built: BuiltIndex, path: Path) -> None:
    """Write the index where a bundle wants it."""
    faiss.write_index(built.index, str(path))


def _sample(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Some of the vectors, of those that are not zero: everything is equally near to zero."""
    nonzero = np.flatnonzero(vectors.any(axis=1))
    rng = np.random.default_rng(seed)
    rows = rng.choice(nonzero, min(NUM_PROBE_QUERIES, len(nonzero)), replace=False)
    sample: NDArray[np.float32] = vectors[rows]
    return sample


def _longest(
    vectors: NDArray[np.float32],
    probes: NDArray[np.float32],
    truth: NDArray[np.int64],
    config: IndexConfig,
) -> BuiltIndex | None:
    """Exact search among the longest vectors, if that is enough; else None.

    Where lengths differ much, as those of ALS do with popularity, the largest inner products
    are all with long vectors, while cosines are too small for lists or graphs to follow.
    """
    order = np.argsort(-np.linalg.norm(vectors, axis=1), kind="stable")
    for number in (size for size in _LONGEST if size < len(vectors) / 4):
        index = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
        kept = order[:number]
        index.add_with_ids(vectors[kept], kept)
        recall = _recall(index, probes, truth)
        logger.info("the %d longest: recall@%d %.3f", number, config.recall_at, recall)
        if recall >= config.min_recall:
            return BuiltIndex(index, f"the {number} longest", recall)
    return None


def _train(factory: str, vectors: NDArray[np.float32], gpu: bool) -> faiss.Index:
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if gpu and not factory.startswith("HNSW"):
        index = faiss.index_cpu_to_all_gpus(index)
    if factory.startswith("IVF"):
        faiss.extract_index_ivf(index).cp.max_points_per_centroid = POINTS_PER_LIST
    index.train(vectors)
    index.add(vectors)
    return faiss.index_gpu_to_cpu(index) if gpu and not factory.startswith("HNSW") else index


def _tune(
    factory: str,
    setting: str,
    values: tuple[int, ...],
    vectors: NDArray[np.float32],
    probes: NDArray[np.float32],
    truth: NDArray[np.int64],
    config: IndexConfig,
    gpu: bool,
) -> BuiltIndex | None:
    """The index of one family at its smallest setting with enough recall."""
    num_lists = 2 ** round(np.log2(4 * np.sqrt(len(vectors))))
    index = _train(factory.format(num_lists=num_lists), vectors, gpu)
    for value in values:
        faiss.ParameterSpace().set_index_parameter(index, setting, value)
        recall = _recall(index, probes, truth)
        description = f"{factory.format(num_lists=num_lists)} {setting}={value}"
        logger.info("%s: recall@%d %.3f", description, config.recall_at, recall)
        if recall >= config.min_recall:
            return BuiltIndex(index, description, recall)
    return None


def _recall(index: faiss.Index, probes: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Recall@k of an index, k being the width of `truth`."""
    found = index.search(probes, truth.shape[1])[1]
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size
