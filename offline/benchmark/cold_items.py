"""Items that nobody has bought yet: whether the two-tower finds their buyers.

Some of the items are taken out of training, with every purchase of them, as if they came into the
catalogue at the cut. Who buys them afterwards is known. Both rankers rank the full catalogue: the
two-tower knows of a cold item what the catalogue says of it, and so does the baseline, which ranks
by how much of a user's purchases, faded, were of the item's type and category.

How well either does depends much on which few popular items are cold, so several draws of cold
items are judged, each with a training of its own. Pooled, a user counts once, with the mean over
the draws of which they bought an item.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from feature_store.ranking import GROUPS
from feature_store.schema import MICROSECONDS_PER_DAY
from offline.benchmark.report import Floats, Line, difference
from offline.benchmark.setting import Setting
from offline.dataset import Dataset, Purchases
from offline.errors import TrainingDataError
from offline.models.item_columns import group_codes
from offline.models.two_tower.data import Ids, Ragged, TrainingData, ragged
from offline.models.two_tower.features import describe
from offline.models.two_tower.fitted import FittedTowers
from offline.models.two_tower.model import TowerConfig
from offline.models.two_tower.sampling import SamplingConfig
from offline.models.two_tower.train import TrainConfig, TwoTowerConfig, fit
from offline.two_tower import facts_of

Matrix = NDArray[np.float32]

K: Final = 100
MEASURE: Final = f"recall_at_{K}"
ABOVE: Final = "cold_items_above_category_affinity"
COLD_SHARE: Final = 0.05
BLOCK_USERS: Final = 512
GROUP_WEIGHTS: Final = (1.0, 0.3, 0.0)
HALF_LIFE_DAYS: Final = 60.0
NUM_BUCKETS: Final = 65_536
DIM: Final = 64
TEMPERATURE: Final = 0.5
SAMPLING: Final = SamplingConfig(
    users_per_step=64, num_uniform=2048, hidden_share=0.1, anonymous_share=0.9
)
TRAIN: Final = TrainConfig(num_epochs=2, learning_rate=0.015)


@dataclass(frozen=True, slots=True)
class ColdTask:
    """A past without the cold items, and who bought which of them later.

    `is_cold` has shape (items,); `bought` is binary, shape (users, items).
    """

    past: Dataset
    is_cold: NDArray[np.bool_]
    bought: sparse.csr_matrix

    @property
    def users(self) -> Ids:
        """Who bought a cold item, ascending."""
        return np.flatnonzero(np.diff(self.bought.indptr))


def hide_items(past: Dataset, future: Purchases, seed: int) -> ColdTask:
    """Take a random COLD_SHARE of the items out of the past; `future` is in the past's indexes.

    Raises TrainingDataError when nobody bought any of them later.
    """
    is_cold = np.random.default_rng(seed).random(past.num_items) < COLD_SHARE
    bought, kept = past.purchases, ~is_cold[past.purchases.item]
    remaining = Purchases(
        bought.user[kept], bought.item[kept], bought.time[kept], bought.price[kept]
    )
    later = is_cold[future.item]
    if not later.any():
        raise TrainingDataError("nobody bought a cold item after the cut; ingest more data")
    place = (future.user[later], future.item[later])
    shape = (len(past.users), past.num_items)
    matrix = sparse.csr_matrix((np.ones(int(later.sum()), np.float32), place), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return ColdTask(replace(past, purchases=remaining), is_cold, matrix)


def run(tasks: Iterable[ColdTask], setting: Setting) -> Iterator[str]:
    """The difference by user in each draw, then a line for each ranker, and their difference."""
    draws = []
    for number, task in enumerate(tasks, 1):
        draws.append(judge(task, setting))
        yield difference(f"{ABOVE}_draw_{number}", *draws[-1])
    cold, baseline = (pooled(lines) for lines in zip(*draws, strict=True))
    yield baseline.to_json()
    yield cold.to_json()
    yield difference(ABOVE, cold, baseline)


def judge(task: ColdTask, setting: Setting) -> tuple[Line, Line]:
    """The two-tower and the baseline on one draw; NaN for who bought none of its items."""
    started = time.perf_counter()
    towers, rate = train(task.past, setting)
    train_s = time.perf_counter() - started
    histories = histories_of(task.past)

    def score(users: Ids) -> Matrix:
        return towers.score(taken(histories, users))

    baseline = recall(task, affinity(task.past))
    return (
        Line("cold_items", {MEASURE: recall(task, score)}, train_s, rate),
        Line("category_affinity", {MEASURE: baseline}, 0.0),
    )


def pooled(lines: Sequence[Line]) -> Line:
    """Each user's mean over the draws that concern them; seconds and rate are means too."""
    values = np.ma.masked_invalid([line.values[MEASURE] for line in lines])
    rates = [line.examples_per_s for line in lines if line.examples_per_s is not None]
    return Line(
        lines[0].model,
        {MEASURE: values.mean(axis=0).filled(np.nan)},
        float(np.mean([line.train_s for line in lines])),
        float(np.mean(rates)) if rates else None,
    )


def recall(task: ColdTask, score: Callable[[Ids], Matrix]) -> Floats:
    """Hits among the best K of all items / min(K, cold items bought), (users,).

    NaN for users who bought no cold item.
    """
    found = np.full(len(task.past.users), np.nan)
    for start in range(0, len(task.users), BLOCK_USERS):
        users = task.users[start : start + BLOCK_USERS]
        k = min(K, task.past.num_items)
        best = torch.from_numpy(score(users)).topk(k, dim=1).indices.numpy()
        rows = np.repeat(users, k)
        hits = np.asarray(task.bought[rows, best.ravel()]).reshape(best.shape).sum(axis=1)
        found[users] = hits / np.minimum(K, np.diff(task.bought.indptr)[users])
    return found


def affinity(past: Dataset) -> Callable[[Ids], Matrix]:
    """Scores (B, items) by the user's faded purchases in the item's groups; ties at random."""
    codes = group_codes(past.items, np.zeros(past.num_items))[:, : GROUPS.index("price_band")]
    bought = past.purchases
    weight = np.tile(faded(past), codes.shape[1])
    place = (np.tile(bought.user, codes.shape[1]), codes[bought.item].T.ravel())
    shape = (len(past.users), int(codes.max()) + 1)
    taste = sparse.csr_matrix((weight, place), shape=shape)
    taste.data = np.log1p(taste.data)
    dice = np.random.default_rng(0).random(past.num_items).astype(np.float32) * 1e-4

    def score(users: Ids) -> Matrix:
        known = taste[users].toarray().astype(np.float32)
        parts = [w * known[:, column] for w, column in zip(GROUP_WEIGHTS, codes.T, strict=True)]
        scores: Matrix = np.sum(parts, axis=0, dtype=np.float32) + dice
        return scores

    return score


def train(past: Dataset, setting: Setting) -> tuple[FittedTowers, float]:
    """The two-tower over all that is known of each item, and its examples per second."""
    is_known = np.bincount(past.purchases.item, minlength=past.num_items) > 0
    catalogue = describe(facts_of(past), NUM_BUCKETS, is_known)
    data = TrainingData(histories_of(past), catalogue, past.num_items)
    num_features = past.num_items + NUM_BUCKETS
    config = TwoTowerConfig(
        TowerConfig(num_features, dim=DIM, temperature=TEMPERATURE, affinity=True),
        SAMPLING,
        replace(TRAIN, device=setting.device),
    )
    result = fit(data, config, setting.progress)
    return result.towers, result.examples_per_s


def histories_of(past: Dataset) -> Ragged:
    """The distinct items of each user, weighted by log(1 + faded purchases)."""
    bought = past.purchases
    shape = (len(past.users), past.num_items)
    strength = sparse.csr_matrix((faded(past), (bought.user, bought.item)), shape=shape)
    weights = np.log1p(strength.data).astype(np.float32)
    return Ragged(strength.indptr.astype(np.int64), strength.indices.astype(np.int64), weights)


def faded(past: Dataset) -> Floats:
    """What is left of each purchase at the horizon, shape (purchases,)."""
    age_days = (past.horizon_time - past.purchases.time) / MICROSECONDS_PER_DAY
    weight: Floats = np.exp2(-age_days / HALF_LIFE_DAYS)
    return weight


def taken(histories: Ragged, users: Ids) -> Ragged:
    """The histories of some users."""
    places, owner = histories.places(users)
    weights = None if histories.weights is None else histories.weights[places]
    return ragged(owner, histories.ids[places], len(users), weights)
