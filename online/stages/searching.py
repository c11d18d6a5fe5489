"""Nearest vectors for many queries in one search of the index.

The same answers as `VectorIndex.search` gives one by one: where an index has to be searched in a
way of its own for each query, it is.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from online.offering.allowed import few_allowed
from online.stages.vectors import NEARLY_ALL, Vector, VectorIndex
from online.together.queries import FoundTogether, Queries, together
from online.together.ragged import Places, lists, starts_of
from online.types import NOTHING, Indexes, Scores

MAX_DEEP: Final = 512
"""Who needs more neighbours than this, since much is blocked, is searched for alone."""


def search_together(
    index: VectorIndex, queries: Queries, asked: Places, vectors: Vector, limits: Places
) -> FoundTogether:
    """The allowed items nearest to the vectors (queries, dimensions) of the queries `asked`.

    Any other item is rated by the same vectors, by those of `asked` only.
    """
    found = _search(index, queries, asked, vectors, limits)

    def rate(owner: Places, wanted: Indexes) -> Scores:
        scores = np.zeros(len(wanted), np.float32)
        bounds = starts_of(owner, len(queries)).tolist()
        for number in asked.tolist():
            own = slice(bounds[number], bounds[number + 1])
            scores[own] = index.vectors[wanted[own]] @ vectors[number]
        return scores

    return replace(found, rate=rate)


def _search(
    index: VectorIndex, queries: Queries, asked: Places, vectors: Vector, limits: Places
) -> FoundTogether:
    """See `search_together`, without rating."""
    if few_allowed(queries.each[0]) is not None or queries.allowed.share <= NEARLY_ALL:
        return _search_each(index, queries, asked, vectors, limits)
    if index.is_flat:
        return _search_each(index, queries, asked, vectors, limits)
    deep = ((limits + queries.blocked.lengths) / queries.allowed.share).astype(np.intp) + 8
    usual = asked[deep[asked] <= MAX_DEEP]
    others = asked[deep[asked] > MAX_DEEP]
    found = _search_index(index, queries, usual, vectors, deep, limits)
    short = usual[found.lists.lengths[usual] < limits[usual]]
    alone = np.concatenate((others, short))
    if not len(alone):
        return found
    return _with(found, _search_each(index, queries, alone, vectors, limits), alone)


def _search_index(
    index: VectorIndex,
    queries: Queries,
    asked: Places,
    vectors: Vector,
    deep: Places,
    limits: Places,
) -> FoundTogether:
    """One search of the index as it is; of each query as deep as it would be searched alone."""
    if not len(asked):
        return together([NOTHING] * len(queries))
    deepest = min(int(deep[asked].max()), index.index.ntotal)
    scores, items = index.index.search(vectors[asked], deepest)
    row, column = np.nonzero((items >= 0) & (np.arange(deepest) < deep[asked][:, None]))
    owner, scores = asked[row], scores[row, column]
    near: Indexes = items[row, column].astype(np.int32)
    allowed = queries.allows(owner, near)
    owner, near, scores = owner[allowed], near[allowed], scores[allowed]
    place = np.arange(len(owner)) - starts_of(owner, len(queries))[owner]
    kept = place < limits[owner]
    return FoundTogether(lists(near[kept], owner[kept], len(queries)), scores[kept])


def _search_each(
    index: VectorIndex, queries: Queries, asked: Places, vectors: Vector, limits: Places
) -> FoundTogether:
    found = [NOTHING] * len(queries)
    for number in asked.tolist():
        found[number] = index.search(queries.each[number], vectors[number], int(limits[number]))
    return together(found)


def _with(found: FoundTogether, instead: FoundTogether, numbers: Places) -> FoundTogether:
    """What was found, for these queries something else."""
    kept = ~np.isin(found.lists.owner, numbers)
    owner = np.concatenate((found.lists.owner[kept], instead.lists.owner))
    order = np.argsort(owner, kind="stable")
    items = np.concatenate((found.lists.items[kept], instead.lists.items))[order]
    scores = np.concatenate((found.scores[kept], instead.scores))[order]
    return FoundTogether(lists(items, owner[order], len(found.lists.starts) - 1), scores)
