"""`make bench-gpu`: a FAISS index on the GPU beside the same one on the CPU, as JSON lines.

For a host with `faiss-gpu` and a GPU; elsewhere it says so and ends with exit code 3. At each
size a flat and an IVF index are built, searched one query at a time and in batches, and the
answers of both devices compared. What the GPU does is passed in as a function, so that all the
rest runs, and is tested, without one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import open_bundle
from infra.bench.shop import add_arguments, from_arguments
from infra.bench.user_vectors import user_vectors

LIMIT: Final = 200
BATCHES: Final = (1, 16, 256)
SIZES: Final = (1_000_000, 10_000_000)
NUM_REPEATS: Final = 20
NUM_QUERIES: Final = 256
NUM_PROBES: Final = 32
POINTS_PER_LIST: Final = 64
TOLERANCE: Final = 1e-3
"""Largest difference of two scores, as a share of the larger: float16 products are not exact."""

NO_GPU: Final = 3

Vectors = NDArray[np.float32]
ToDevice = Callable[[faiss.Index], faiss.Index]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two answers are: of ids, the share in common; of scores, the largest difference."""

    id_overlap: float
    score_difference: float

    @property
    def is_same(self) -> bool:
        """Whether the answers are the same within float tolerance."""
        return self.score_difference <= TOLERANCE


def grown(vectors: Vectors, size: int, seed: int = 11) -> Vectors:
    """`size` vectors: those given, and as many perturbed copies of them as it takes.

    A copy differs from its model by a tenth of the model's length in a random direction.
    """
    if size <= len(vectors):
        return vectors[:size]
    rng = np.random.default_rng(seed)
    rows = np.arange(size) % len(vectors)
    result = vectors[rows]
    for start in range(len(vectors), size, len(vectors)):
        part = result[start : start + len(vectors)]
        noise = rng.standard_normal(part.shape, np.float32) / np.sqrt(part.shape[1])
        part += 0.1 * np.linalg.norm(part, axis=1, keepdims=True) * noise
    return result


def measure(
    vectors: Vectors,
    queries: Vectors,
    to_device: ToDevice,
    batches: tuple[int, ...] = BATCHES,
    num_repeats: int = NUM_REPEATS,
) -> Iterator[dict[str, Any]]:
    """A row for each kind of index and size of batch, both devices beside each other."""
    for kind, index in _cpu_indexes(vectors):
        started_s = perf_counter()
        other = to_device(index)
        transfer_s = perf_counter() - started_s
        agreement = compare(index.search(queries, LIMIT), other.search(queries, LIMIT))
        for batch in batches:
            yield {
                "index": kind,
                "num_items": len(vectors),
                "batch": batch,
                "cpu_us_per_query": _us_per_query(index, queries, batch, num_repeats),
                "gpu_us_per_query": _us_per_query(other, queries, batch, num_repeats),
                "transfer_s": round(transfer_s, 3),
                "id_overlap": round(agreement.id_overlap, 5),
                "score_difference": agreement.score_difference,
                "is_same": agreement.is_same,
            }


def compare(one: tuple[Any, Any], other: tuple[Any, Any]) -> Agreement:
    """How alike two results of `Index.search` are; places without an item count as equal."""
    (scores, ids), (other_scores, other_ids) = one, other
    both = (ids >= 0) & (other_ids >= 0)
    scale = np.maximum(np.abs(scores).max(axis=1, keepdims=True), 1e-12)
    gap = np.where(both, np.abs(scores - other_scores) / scale, 0.0)
    pairs = zip(ids, other_ids, strict=True)
    common = sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in pairs)
    return Agreement(common / max(1, int((ids >= 0).sum())), float(gap.max(initial=0.0)))


def _cpu_indexes(vectors: Vectors) -> Iterator[tuple[str, faiss.Index]]:
    """Exact search, and inverted lists as a GPU holds them too."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    yield "Flat", flat
    num_lists = max(1, int(2 ** round(np.log2(2 * np.sqrt(len(vectors))))))
    kind = f"IVF{num_lists},SQfp16"
    index: Any = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = POINTS_PER_LIST
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(NUM_PROBES, num_lists)
    yield kind, index


def _us_per_query(index: faiss.Index, queries: Vectors, batch: int, num_repeats: int) -> float:
    """The median over calls, in microseconds a query."""
    times = []
    for number in range(num_repeats + 1):
        start = number * batch % max(1, len(queries) - batch + 1)
        part = queries[start : start + batch]
        started_s = perf_counter()
        index.search(part, LIMIT)
        times.append((perf_counter() - started_s) / len(part))
    return round(1e6 * median(times[1:]), 1)  # the first one warms up


def gpu() -> ToDevice | None:
    """Moves an index to the first GPU; None where FAISS has none."""
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    resources = faiss.StandardGpuResources()
    return lambda index: faiss.index_cpu_to_gpu(resources, 0, index)


def main() -> int:
    """Measure on the GPU; exit code 3 where there is none, 1 where the answers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="products")
    args = parser.parse_args()
    to_device = gpu()
    if to_device is None:
        print(
            "error: FAISS sees no GPU here. On a host with one: make EXTRA=gpu bench-gpu",
            file=sys.stderr,
        )
        return NO_GPU
    shop = from_arguments(args)
    bundle = open_bundle(shop.bundle, verify=False)
    queries = user_vectors(shop, bundle, min(NUM_QUERIES, shop.num_users))
    vectors = np.array(bundle.array("als/vectors"))
    is_same = True
    for size in args.sizes:
        for row in measure(grown(vectors, size), queries, to_device):
            is_same &= row["is_same"]
            print(json.dumps(row), flush=True)
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
