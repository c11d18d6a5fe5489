"""Nearest vectors among what a query may show, found whatever share of the items that is.

Few allowed items are compared one by one. Nearly all of them are searched for in the index as
it is, a little deeper. In between, inverted lists are chosen by what they hold of the allowed
items, and vectors that are not in lists are compared from the longest on until no other can be
nearer. FAISS pads short answers with -1; those never leave this module.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from online.columns import highest
from online.offering.allowed import allows, few_allowed, mask_of
from online.offering.offer import AllowedSet
from online.recent import Recent
from online.types import Found, Indexes, Query, Scores

NEARLY_ALL: Final = 0.8
"""Above this share of allowed items the index is searched without a selector."""

TUNED_AT: Final = 200
"""The number of neighbours that training tunes an index for."""

THINNING: Final = 0.65
"""Of fewer allowed items fewer are compared, by this power of their share: set by recall."""

CHUNK: Final = 4_096
MAX_PLANS: Final = 32

Vector = NDArray[np.float32]


def top(items: Indexes, scores: Scores, limit: int) -> Found:
    """The `limit` highest scores, best first; ties go to the lower index."""
    if len(items) > 2 * limit:  # else all of them are as soon sorted
        kept = highest(items, scores, limit)
        items, scores = items.take(kept), scores.take(kept)
    order = np.lexsort((items, -scores))[:limit]
    return Found(items.take(order), scores.take(order))


def top_allowed(query: Query, items: Indexes, scores: Scores, limit: int) -> Found:
    """The `limit` highest scores of what the query allows, best first.

    Where nearly everything is allowed only the highest are looked at, and all if they do not do.
    """
    reach = limit + len(query.blocked) + limit // 4
    if query.only is None and query.allowed.share > NEARLY_ALL and len(items) > 2 * reach:
        high = highest(items, scores, reach)
        high = high[allows(query, items.take(high))]
        if len(high) >= limit:
            return top(items.take(high), scores.take(high), limit)
    mask = allows(query, items)
    return top(items[mask], scores[mask], limit)


@dataclass(frozen=True, slots=True)
class _Lists:
    """The inverted lists of an index: their centroids, and the list of each item."""

    centroids: Vector
    list_of: NDArray[np.int32]
    num_probes: int


@dataclass(frozen=True, slots=True)
class _ListPlan:
    """Which lists hold allowed items, how many each, and the selector of those items."""

    lists: NDArray[np.int64]
    sizes: NDArray[np.int64]
    selector: Any


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """A FAISS index over item vectors by inner product, with the vectors beside it.

    `vectors` has shape (items, dimensions), with room for items that are not in the index.
    """

    index: faiss.Index
    vectors: Vector
    _recent: Recent[AllowedSet, Any] = field(default_factory=lambda: Recent(MAX_PLANS))
    _lists: list[_Lists | None] = field(default_factory=list)
    _flat: list[tuple[Indexes, Vector] | None] = field(default_factory=list)

    def search(self, query: Query, vector: Vector, limit: int) -> Found:
        """The allowed items nearest to `vector` (shape (dimensions,)), best first.

        Shorter than `limit` only when fewer items are allowed.
        """
        few = few_allowed(query)
        if few is not None:
            return top(few, self.vectors[few] @ vector, limit)
        allowed = query.allowed
        if allowed.share > NEARLY_ALL:
            found = self._search_all(query, vector, limit)
            if len(found.items) == limit:
                return found
        lists = self._open_lists()
        if lists is not None:
            return self._search_lists(lists, query, vector, limit)
        return self._search_longest(query, vector, limit)

    def _search_all(self, query: Query, vector: Vector, limit: int) -> Found:
        """The index as it is, so deep that enough allowed items should be among what it finds."""
        flat = self._open_flat()
        if flat is not None:
            items, vectors = flat
            return top_allowed(query, items, vectors @ vector, limit)
        deep = int((limit + len(query.blocked)) / query.allowed.share) + 8
        scores, found = self.index.search(vector[None, :], min(deep, self.index.ntotal))
        return _first_allowed(query, found[0], scores[0], limit)

    def _search_lists(self, lists: _Lists, query: Query, vector: Vector, limit: int) -> Found:
        """The nearest lists that hold enough allowed items, by what the index was tuned to need."""
        allowed = query.allowed
        plan: _ListPlan = self._recent.get(allowed, lambda: _plan_lists(lists, allowed))
        nearness = lists.centroids[plan.lists] @ vector
        order = np.argsort(-nearness)
        held = np.cumsum(plan.sizes[order])
        num_items = self.index.ntotal
        usual = lists.num_probes * num_items / len(lists.centroids)
        usual *= query.allowed.share**THINNING
        wanted = usual * max(1.0, (limit + len(query.blocked)) / TUNED_AT)
        num_lists = max(int(np.searchsorted(held, wanted)) + 1, lists.num_probes)
        while True:
            near = order[:num_lists]
            found = self._probe(plan, near, nearness, query, vector, limit)
            if len(found.items) == limit or num_lists >= len(order):
                return found
            num_lists *= 4

    def _probe(
        self,
        plan: _ListPlan,
        near: NDArray[np.intp],
        nearness: Scores,
        query: Query,
        vector: Vector,
        limit: int,
    ) -> Found:
        """Search these lists alone, inside the allowed set."""
        deep = min(limit + len(query.blocked), query.allowed.size)
        scores, found = np.empty(deep, np.float32), np.empty(deep, np.int64)
        lists, distances = plan.lists[near], nearness[near].astype(np.float32)
        point = np.ascontiguousarray(vector, np.float32)
        pointer = faiss.swig_ptr
        kind: Any = faiss.SearchParametersIVF  # the stubs lack what FAISS wraps
        index: Any = self.index
        index.search_preassigned_c(
            1,
            pointer(point),
            deep,
            pointer(lists),
            pointer(distances),
            pointer(scores),
            pointer(found),
            False,
            kind(sel=plan.selector, nprobe=len(near)),
        )
        return _first_allowed(query, found, scores, limit)

    def _search_longest(self, query: Query, vector: Vector, limit: int) -> Found:
        """Exact: an inner product is at most the product of the lengths (Cauchy and Schwarz)."""
        order, lengths = self._recent.get(query.allowed, lambda: self._by_length(query.allowed))
        reach = float(np.linalg.norm(vector))
        items, scores = np.zeros(0, np.int32), np.zeros(0, np.float32)
        for start in range(0, len(order), CHUNK):
            if len(items) == limit and scores[-1] >= reach * lengths[start]:
                break
            some = order[start : start + CHUNK]
            some = some[allows(query, some)]
            more = self.vectors[some] @ vector
            best = top(np.concatenate((items, some)), np.concatenate((scores, more)), limit)
            items, scores = best.items, best.scores
        return Found(items, scores)

    def _by_length(self, allowed: AllowedSet) -> tuple[Indexes, Scores]:
        items = np.flatnonzero(mask_of(allowed)).astype(np.int32)
        lengths = np.linalg.norm(self.vectors[items], axis=1)
        order = np.argsort(-lengths, kind="stable")
        return items[order], lengths[order]

    @property
    def is_flat(self) -> bool:
        """Whether the index compares with every vector."""
        return self._open_flat() is not None

    def _open_flat(self) -> tuple[Indexes, Vector] | None:
        """What an index without lists compares with: some of the items, and their vectors."""
        if not self._flat:
            self._flat.append(_read_flat(self.index))
        return self._flat[0]

    def _open_lists(self) -> _Lists | None:
        """The inverted lists, read at the first use; None for an index of another kind."""
        if not self._lists:
            self._lists.append(_read_lists(self.index))
        return self._lists[0]


def _first_allowed(query: Query, found: NDArray[np.int64], scores: Scores, limit: int) -> Found:
    real = found >= 0
    items, scores = found[real].astype(np.int32), scores[real]
    mask = allows(query, items)
    return Found(items[mask][:limit], scores[mask][:limit])


def _read_flat(index: Any) -> tuple[Indexes, Vector] | None:
    """The ids and vectors of a flat index; None for one of another kind."""
    has_ids = isinstance(index, faiss.IndexIDMap)
    flat = faiss.downcast_index(index.index) if has_ids else index
    if not isinstance(flat, faiss.IndexFlat):
        return None
    ids = faiss.vector_to_array(index.id_map) if has_ids else np.arange(flat.ntotal)
    vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    return ids.astype(np.int32), vectors.reshape(flat.ntotal, flat.d)


def _read_lists(index: Any) -> _Lists | None:
    lists = index.invlists if isinstance(index, faiss.IndexIVF) else None
    if lists is None:
        return None
    members = {
        number: faiss.rev_swig_ptr(lists.get_ids(number), size)
        for number in range(index.nlist)
        if (size := lists.list_size(number))
    }
    list_of = np.zeros(1 + max(int(ids.max()) for ids in members.values()), np.int32)
    for number, ids in members.items():
        list_of[ids] = number
    centroids = index.quantizer.reconstruct_n(0, index.nlist)
    return _Lists(centroids, list_of, index.nprobe)


def _plan_lists(lists: _Lists, allowed: AllowedSet) -> _ListPlan:
    items = np.flatnonzero(mask_of(allowed)[: len(lists.list_of)])
    sizes = np.bincount(lists.list_of[items], minlength=len(lists.centroids))
    holding = np.flatnonzero(sizes)
    make: Any = faiss.IDSelectorBitmap  # the stubs lack what FAISS wraps
    return _ListPlan(holding, sizes[holding], make(allowed.bits))
