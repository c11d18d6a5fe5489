"""`make bench-retrieval`: recall and time of filtered search against flat search, as JSON lines.

Searches through the index object that serves, one query at a time on one thread, as a request
does. Allowed sets are of two kinds: `price`, a band of prices, which has nothing to do with
where vectors lie, and `category`, whole categories, which lie together and mostly not where the
user's vector points. The reference is exact search over the same allowed set.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from feature_store.bundle import Bundle, open_bundle
from infra.bench.shop import add_arguments, from_arguments
from infra.bench.user_vectors import user_vectors
from online.completion import complete
from online.known import Known
from online.offering.allowed import allowed_where
from online.snapshot import Snapshot, open_snapshot
from online.types import Found, Query, Request

LIMIT: Final = 200
SELECTIVITIES: Final = (1.0, 0.1, 0.01, 0.001)
NUM_WARM_UPS: Final = 5

Vector = NDArray[np.float32]
Search = Callable[[Vector], NDArray[np.integer[Any]]]


@dataclass(frozen=True, slots=True)
class Allowed:
    """A set of items as sorted indexes; None: every item."""

    kind: str
    selectivity: float
    items: NDArray[np.int32] | None


def allowed_sets(bundle: Bundle, seed: int = 5) -> Iterator[Allowed]:
    """No filter, then a price band and some categories at each smaller selectivity."""
    price, category = bundle.array("items/price"), _categories(bundle)
    rng = np.random.default_rng(seed)
    yield Allowed("none", 1.0, None)
    for share in SELECTIVITIES[1:]:
        size = max(1, round(share * len(price)))
        first = rng.integers(0, len(price) - size + 1)
        yield Allowed("price", share, _sorted(np.argsort(price, kind="stable")[first:][:size]))
        order = rng.permutation(int(category.max()) + 1)
        by_category = np.argsort(order[category], kind="stable")
        yield Allowed("category", share, _sorted(by_category[:size]))


def measure(
    snapshot: Snapshot, vectors: Vector, source: str = "als", num_timed: int = 30
) -> Iterator[dict[str, Any]]:
    """A row for each allowed set: recall over all `vectors`, medians over `num_timed` of them."""
    served = index_of(snapshot, source)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(np.ascontiguousarray(served.vectors))
    for allowed in allowed_sets(snapshot.bundle):
        query = _query(snapshot, allowed)
        exact = _exact(flat, allowed)
        found = _served(served, query)
        flat_us, us = _times_us((exact, found), vectors[:num_timed])
        yield {
            "kind": allowed.kind,
            "selectivity": allowed.selectivity,
            "recall_at_200": round(_recall(found, exact, vectors, served.vectors), 4),
            "us_per_query": round(us, 1),
            "flat_us_per_query": round(flat_us, 1),
            "speedup_over_flat": round(flat_us / us, 1),
            "num_items": len(snapshot.catalog),
            "num_queries": len(vectors),
        }


def index_of(snapshot: Snapshot, source: str) -> Any:
    """The index that the placement `home` searches for a source."""
    for use in snapshot.pipelines["home"].sources:
        if use.source.name == source:
            found: Any = use.source
            while not hasattr(found, "index"):
                found = found.source  # it narrows what another source is asked for
            return found.index
    raise LookupError(f"home has no source {source}")


def _categories(bundle: Bundle) -> NDArray[np.intp]:
    """A number for the category of each item."""
    numbers: NDArray[np.intp] = np.unique(
        bundle.strings("items/category").tolist(), return_inverse=True
    )[1]
    return numbers


def _sorted(items: NDArray[np.intp]) -> NDArray[np.int32]:
    return np.sort(items).astype(np.int32)


def _query(snapshot: Snapshot, allowed: Allowed) -> Query:
    """A request that may show the allowed items, as the engine completes it.

    The set is compiled once, as the server keeps that of a filter which it has met before.
    """
    query, _ = complete(snapshot, Request(snapshot.bundle.horizon_time), Known())
    mask = np.full(len(snapshot.catalog), allowed.items is None)
    if allowed.items is not None:
        mask[allowed.items] = True
    return replace(query, offer=replace(query.offer, allowed=allowed_where(mask)))


def _exact(flat: faiss.Index, allowed: Allowed) -> Search:
    if allowed.items is None:
        return lambda vector: flat.search(vector[None], LIMIT)[1][0]
    bitmap = np.zeros(flat.ntotal, bool)
    bitmap[allowed.items] = True
    packed = np.packbits(bitmap, bitorder="little")
    chosen = faiss.IDSelectorBitmap(packed)  # type: ignore[call-arg,arg-type]  # wrapped by FAISS
    parameters = faiss.SearchParameters(sel=chosen)  # type: ignore[call-arg]  # wrapped by FAISS

    def search(vector: Vector) -> NDArray[np.int64]:
        found = flat.search(vector[None], LIMIT, params=parameters)[1][0]
        return found[found >= 0]  # type: ignore[no-any-return]

    return search


def _served(index: Any, query: Query) -> Search:
    def search(vector: Vector) -> NDArray[np.int32]:
        found: Found = index.search(query, vector, LIMIT)
        return found.items

    return search


def _times_us(searches: tuple[Search, ...], vectors: Vector) -> list[float]:
    """The median of each search in microseconds, all searches in turns."""
    times: list[list[float]] = [[] for _ in searches]
    for number, vector in enumerate((*vectors[:NUM_WARM_UPS], *vectors)):
        for search, row in zip(searches, times, strict=True):
            started_s = perf_counter()
            search(vector)
            if number >= NUM_WARM_UPS:
                row.append(1e6 * (perf_counter() - started_s))
    return [median(row) for row in times]


def _recall(found: Search, exact: Search, vectors: Vector, items: Vector) -> float:
    """The share of the exact answers that are found; an empty answer counts as found.

    An item that scores as high as the last of the exact answer is as right as that one.
    """
    hits = total = 0
    for vector in vectors:
        right = items[exact(vector)] @ vector
        if len(right):
            near = 1e-5 * np.abs(right).max()
            hits += min(
                len(right), int((items[found(vector)] @ vector >= right.min() - near).sum())
            )
        total += len(right)
    return hits / total if total else 1.0


def main() -> int:
    """Build the shop if needed, measure, print a line for each allowed set."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--queries", type=int, default=200, help="default: %(default)s")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    shop = from_arguments(args)
    bundle = open_bundle(shop.bundle, verify=False)
    vectors = user_vectors(shop, bundle, min(args.queries, shop.num_users))
    with threadpool_limits(1):
        for row in measure(open_snapshot(bundle), vectors):
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
