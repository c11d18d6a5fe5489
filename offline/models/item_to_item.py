"""Item to item: what is bought together, and what the same users buy.

Each item keeps its strongest neighbours only. Pairs are counted a block of items at a time,
so that memory depends on the block and not on the square of the catalogue.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offline.dataset import Purchases

BASKET_GAP_MICROSECONDS: Final = 30 * 60 * 1_000_000
"""Purchases of a user that follow each other within half an hour are one basket."""

MAX_ROW_ITEMS: Final = 200
"""More items of one basket or user say little of each pair, and cost their square."""

MAX_BLOCK_PAIRS: Final = 20_000_000

POPULARITY_POWER: Final = 0.6
PRIOR_ROWS: Final = 10.0
"""Chosen by completing baskets, see `offline.benchmark.baskets`."""

Counts = NDArray[np.float64]
Score = Callable[[Counts, Counts, Counts, int], Counts]
"""(pairs of a and b, rows with a, rows with b, all rows) -> how strongly a speaks for b."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The neighbours of item i, best first, lie before `ends[i]` and after `ends[i - 1]`."""

    ends: NDArray[np.int64]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]


def fit_bought_with(
    purchases: Purchases, num_items: int, num_neighbours: int = 30, min_pairs: int = 2
) -> Neighbours:
    """What is in the same baskets more often than its popularity explains."""
    rows = incidence(baskets_of(purchases), purchases.item, num_items)
    return fit_neighbours(rows, tempered_lift, num_neighbours, min_pairs)


def fit_also_bought(
    purchases: Purchases, num_items: int, num_neighbours: int = 30, min_pairs: int = 2
) -> Neighbours:
    """What the same users buy, by the cosine of the items' users."""
    rows = incidence(purchases.user, purchases.item, num_items)
    return fit_neighbours(rows, shrunk_cosine, num_neighbours, min_pairs)


def tempered_lift(pairs: Counts, first: Counts, second: Counts, num_rows: int) -> Counts:
    """The share of a's rows that have b, over b's popularity to POPULARITY_POWER.

    0 where popularity alone explains as many pairs. A power of 0 gives what is everywhere, 1 the
    lift, which favours what hardly anybody buys. A pair less and PRIOR_ROWS more keep chance down.
    """
    share = (pairs - 1.0) / (first + PRIOR_ROWS)
    tempered = share * (num_rows / (second + PRIOR_ROWS)) ** POPULARITY_POWER
    lifted: Counts = np.where(pairs * num_rows > first * second, tempered, 0.0)
    return lifted


def discounted_lift(pairs: Counts, first: Counts, second: Counts, num_rows: int) -> Counts:
    """Log of pairs over the pairs expected by popularity, drawn to 0 where pairs are few.

    Pointwise mutual information with the discount of Pantel and Lin 2002.
    """
    lift = np.log(pairs * num_rows / (first * second))
    fewer = np.minimum(first, second)
    discounted: Counts = lift * pairs / (pairs + 1.0) * fewer / (fewer + 1.0)
    return discounted


def shrunk_cosine(pairs: Counts, first: Counts, second: Counts, _num_rows: int) -> Counts:
    """Cosine of the two items' rows, with a few rows added that they do not share."""
    cosine: Counts = pairs / np.sqrt((first + 5.0) * (second + 5.0))
    return cosine


def baskets_of(purchases: Purchases) -> NDArray[np.int64]:
    """The number of each purchase's basket: what one user buys without a long pause."""
    order = np.lexsort((purchases.time, purchases.user))
    user, time = purchases.user[order], purchases.time[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(user) != 0) | (np.diff(time) > BASKET_GAP_MICROSECONDS)
    baskets = np.empty(len(order), np.int64)
    baskets[order] = np.cumsum(begins) - 1
    return baskets


def incidence(
    rows: NDArray[np.integer], items: NDArray[np.int32], num_items: int
) -> sparse.csr_matrix:
    """1 where a row (basket or user) holds an item, shape (rows, items).

    Of rows with more than MAX_ROW_ITEMS distinct items, evenly spaced ones are kept.
    """
    num_rows = int(rows.max(initial=-1)) + 1
    pairs = np.unique(rows.astype(np.int64) * num_items + items)
    row, item = np.divmod(pairs, num_items)
    starts = np.searchsorted(row, np.arange(num_rows))
    sizes = np.diff(starts, append=len(row))
    place = np.arange(len(row)) - starts[row]
    steps = np.maximum(sizes[row] / MAX_ROW_ITEMS, 1.0)
    kept = np.floor(place / steps) != np.floor((place - 1) / steps)
    data = np.ones(int(kept.sum()), np.float32)
    return sparse.csr_matrix((data, (row[kept], item[kept])), shape=(num_rows, num_items))


def fit_neighbours(
    rows: sparse.csr_matrix, score: Score, num_neighbours: int, min_pairs: int
) -> Neighbours:
    """The best neighbours of each item by positive score; ties go to the lower index."""
    num_rows = rows.shape[0]
    frequency = np.asarray(rows.sum(axis=0)).ravel().astype(np.float64)
    columns = rows.tocsc()
    sizes = [np.zeros(0, np.int64)]
    items, scores = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for start, end in _blocks(rows, columns):
        pairs = (columns[:, start:end].T @ rows).tocoo()
        first, second, counts = pairs.row, pairs.col, pairs.data.astype(np.float64)
        kept = (counts >= min_pairs) & (first + start != second)
        first, second, counts = first[kept], second[kept], counts[kept]
        values = score(counts, frequency[first + start], frequency[second], num_rows)
        chosen = _best_of_each(first, second, values, num_neighbours)
        sizes.append(np.bincount(first[chosen], minlength=end - start))
        items.append(second[chosen].astype(np.int32))
        scores.append(values[chosen].astype(np.float32))
    ends = np.cumsum(np.concatenate(sizes), dtype=np.int64)
    return Neighbours(ends, np.concatenate(items), np.concatenate(scores))


def _blocks(rows: sparse.csr_matrix, columns: sparse.csc_matrix) -> Iterator[tuple[int, int]]:
    """Ranges of items whose pairs, counted with repeats, fit into memory."""
    sizes = np.diff(rows.indptr).astype(np.float64)
    cost = np.concatenate(([0.0], np.cumsum(sizes[columns.indices])))[columns.indptr]
    start, num_items = 0, rows.shape[1]
    while start < num_items:
        end = int(np.searchsorted(cost, cost[start] + MAX_BLOCK_PAIRS, side="right")) - 1
        end = min(max(end, start + 1), num_items)
        yield start, end
        start = end


def _best_of_each(
    first: NDArray[np.integer], second: NDArray[np.integer], values: Counts, limit: int
) -> NDArray[np.intp]:
    """Positions of the best `limit` positive values of each `first` (ascending), in that order."""
    positive = np.flatnonzero(values > 0)
    positive = positive[_is_among_best(first[positive], values[positive], limit)]
    order = positive[np.lexsort((second[positive], -values[positive], first[positive]))]
    group = first[order]
    rank = np.arange(len(order)) - np.searchsorted(group, group)
    kept: NDArray[np.intp] = order[rank < limit]
    return kept


def _is_among_best(group: NDArray[np.integer], values: Counts, limit: int) -> NDArray[np.bool_]:
    """Whether a value is not below the `limit`-th best of its group; ties pass.

    Sorting what passes is many times cheaper than sorting everything.
    """
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    bounds = [*starts.tolist(), len(group)]
    passes = np.ones(len(group), bool)
    for start, end in pairwise(bounds):
        if end - start > limit:
            part = values[start:end]
            passes[start:end] = part >= np.partition(part, -limit)[-limit]
    return passes
