"""What is bought together, by completing baskets that nobody learned from.

PATH holds canonical tables, as for `completejourney`, with its periods. Of each basket of the
period one item is hidden, drawn at random; the others ask for it as a cart does. What the bundle
serves as `bought_with`, a lift tempered by popularity, stands beside popularity, plain
co-occurrence and the plain lift: what is everywhere completes baskets and goes with nothing, so
what is no best-seller is also counted apart. A user counts once, with the mean of their baskets.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from offline.benchmark.completejourney import future, periods
from offline.benchmark.report import Floats, Line, difference
from offline.benchmark.setting import Setting
from offline.dataset import Dataset, Purchases, load_dataset
from offline.errors import TrainingDataError
from offline.models.item_to_item import (
    Counts,
    Neighbours,
    Score,
    baskets_of,
    discounted_lift,
    fit_neighbours,
    incidence,
    tempered_lift,
)
from offline.models.two_tower.data import Ids
from offline.recipe import completejourney

Matrix = NDArray[np.float32]

K: Final = 10
BEST_SELLING_SHARE: Final = 0.01
NUM_NEIGHBOURS: Final = 30
MIN_PAIRS: Final = 2
BLOCK_BASKETS: Final = 512
TIE: Final = 1e-12
MAX_SEEDS: Final = 12
FADING: Final = 0.85
"""How many items of a cart the server asks with, and what each older one counts."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Baskets to complete: what asks (baskets, items), what is hidden and whose each is, (n,).

    `asking` weighs the items of a basket as the server weighs those of a cart; `inside` is 1 for
    all of them, which are not offered again.
    """

    asking: sparse.csr_matrix
    inside: sparse.csr_matrix
    hidden: Ids
    user: Ids
    num_users: int


def run(setting: Setting) -> Iterator[str]:
    """A line for each ranker, and by how much the served one is above the others."""
    recipe, end_time = periods(completejourney(), setting)
    cut_time = recipe.data.cut_time
    assert cut_time is not None  # noqa: S101 - set by `periods`
    past = load_dataset(setting.data, recipe.data, cut_time)
    task = hide_one(future(setting.data, recipe, past, end_time), past)
    lines = {line.model: line for line in judge(past, task)}
    yield from (line.to_json() for line in lines.values())
    for name in ("popularity", *RIVALS):
        yield difference(f"{SERVED}_above_{name}", lines[SERVED], lines[name])


def hide_one(bought: Purchases, past: Dataset, seed: int = 0) -> Completion:
    """Hide an item of every basket with two or more; TrainingDataError when there is none."""
    basket = baskets_of(bought)
    _, first = np.unique(basket.astype(np.int64) * past.num_items + bought.item, return_index=True)
    first = first[np.lexsort((bought.item[first], bought.time[first], basket[first]))]
    basket, item, user = basket[first], bought.item[first], bought.user[first]
    sizes = np.bincount(basket)
    kept = sizes[basket] > 1
    if not kept.any():
        raise TrainingDataError("no basket after the cut holds two known items; ingest more data")
    basket, item, user = np.unique(basket[kept], return_inverse=True)[1], item[kept], user[kept]
    starts = np.searchsorted(basket, np.arange(int(basket[-1]) + 2))
    lengths = np.diff(starts)
    chosen = starts[:-1] + (np.random.default_rng(seed).random(len(lengths)) * lengths).astype(int)
    asks = np.ones(len(item), bool)
    asks[chosen] = False
    back = starts[1:][basket] - 1 - np.arange(len(item))
    back -= (np.arange(len(item)) < chosen[basket]).astype(back.dtype)
    weight = np.where(back < MAX_SEEDS, FADING ** back.astype(np.float64), 0.0)
    shape, place = (len(lengths), past.num_items), (basket[asks], item[asks])
    return Completion(
        sparse.csr_matrix((weight[asks].astype(np.float32), place), shape=shape),
        sparse.csr_matrix((np.ones(int(asks.sum()), np.float32), place), shape=shape),
        item[chosen].astype(np.int64),
        user[chosen].astype(np.int64),
        len(past.users),
    )


def judge(past: Dataset, task: Completion) -> Iterator[Line]:
    """Each ranker, learned from the past alone."""
    rows = incidence(baskets_of(past.purchases), past.purchases.item, past.num_items)
    selling = np.asarray(rows.sum(axis=0)).ravel().astype(np.float32)
    num_best = max(1, round(BEST_SELLING_SHARE * past.num_items))
    is_best = np.zeros(past.num_items, bool)
    is_best[np.argsort(-selling, kind="stable")[:num_best]] = True

    def popularity(block: sparse.csr_matrix) -> Matrix:
        return np.tile(selling, (block.shape[0], 1))

    yield _line("popularity", task, is_best, popularity, 0.0)
    for name, strength in (*RIVALS.items(), (SERVED, tempered_lift)):
        started = time.perf_counter()
        fitted = matrix_of(fit_neighbours(rows, strength, NUM_NEIGHBOURS, MIN_PAIRS))
        yield _line(name, task, is_best, _summed(fitted), time.perf_counter() - started)


def co_occurrence(pairs: Counts, _first: Counts, _second: Counts, _num_rows: int) -> Counts:
    """In how many baskets both are, whatever their popularity."""
    return pairs


SERVED: Final = "bought_with"
RIVALS: Final[dict[str, Score]] = {"co_occurrence": co_occurrence, "lift": discounted_lift}


def matrix_of(fitted: Neighbours) -> sparse.csr_matrix:
    """The scores of each item's neighbours, shape (items, items)."""
    starts = np.concatenate(([0], fitted.ends))
    size = len(fitted.ends)
    return sparse.csr_matrix((fitted.scores, fitted.items, starts), shape=(size, size))


def _summed(weights: sparse.csr_matrix) -> Callable[[sparse.csr_matrix], Matrix]:
    def score(block: sparse.csr_matrix) -> Matrix:
        summed: Matrix = (block @ weights).toarray().astype(np.float32)
        return summed

    return score


def _line(
    name: str,
    task: Completion,
    is_best: NDArray[np.bool_],
    score: Callable[[sparse.csr_matrix], Matrix],
    train_s: float,
) -> Line:
    """The means of each user's baskets; NaN for users without one."""
    rank, shown = np.empty(len(task.hidden), np.int64), np.empty(len(task.hidden))
    for start in range(0, len(task.hidden), BLOCK_BASKETS):
        some = slice(start, min(start + BLOCK_BASKETS, len(task.hidden)))
        best = _best(score(task.asking[some]), task.inside[some])
        hit = best == task.hidden[some, None]
        rank[some] = np.where(hit.any(axis=1), hit.argmax(axis=1), K)
        shown[some] = (is_best[best] & (best >= 0)).mean(axis=1)
    hit = (rank < K).astype(np.float64)
    rare = np.where(is_best[task.hidden], np.nan, hit)
    values = {
        f"recall_at_{K}": hit,
        f"mrr_at_{K}": hit / (rank + 1.0),
        f"recall_at_{K}_no_best_seller": rare,
        "best_seller_share": shown,
    }
    return Line(name, {key: _by_user(task, one) for key, one in values.items()}, train_s)


def _best(scores: Matrix, inside: sparse.csr_matrix) -> Ids:
    """The K best items of each row, -1 where nothing speaks for more; ties go to the lower."""
    rows = np.repeat(np.arange(inside.shape[0]), np.diff(inside.indptr))
    scores[rows, inside.indices] = 0.0
    apart = scores.astype(np.float64) - TIE * np.arange(scores.shape[1])
    items = torch.from_numpy(apart).topk(min(K, scores.shape[1]), dim=1).indices.numpy()
    best: Ids = np.where(np.take_along_axis(scores, items, axis=1) > 0, items, -1)
    return best


def _by_user(task: Completion, values: Floats) -> Floats:
    known = ~np.isnan(values)
    total = np.bincount(task.user[known], values[known], task.num_users)
    number = np.bincount(task.user[known], minlength=task.num_users)
    means: Floats = np.full(task.num_users, np.nan)
    np.divide(total, number, out=means, where=number > 0)
    return means
