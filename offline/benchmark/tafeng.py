"""Ta-Feng: the items of a user's last basket, by simple models and a boosted blend of them.

PATH holds `tafeng_baskets.parquet` (user, basket, item, is_test); the last basket of each user is
the test. `validation` hides one basket more and judges that one; sources, features and trees were
chosen on it. The blend learns to rank candidates at the baskets before what is judged.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offline.benchmark.report import Floats, Line
from offline.benchmark.setting import Setting, read_table
from offline.errors import TrainingDataError
from offline.models.basket_features import BasketRows, BasketSourceConfig, build_rows
from offline.models.baskets import Baskets, Ids, from_positions
from offline.models.ranker import fit_teacher, keep_negatives, teacher_logits
from offline.recipe import RankerConfig

K: Final = 10
NUM_LABEL_BASKETS: Final = 2
OWN_SHARE: Final = 0.3
SEEDS: Final = (0, 1)
SOURCES: Final = BasketSourceConfig()
TREES: Final = RankerConfig(num_trees=250, negative_share=0.3, min_rows_in_leaf=200)


@dataclass(frozen=True, slots=True)
class Stage:
    """Candidates with one basket hidden: labels (n,), and that basket (users, items)."""

    rows: BasketRows
    labels: NDArray[np.float32]
    truth: sparse.csr_matrix


def run(setting: Setting) -> Iterator[str]:
    """Learn from the baskets before the judged one, judge once, give the lines."""
    baskets = read(setting)
    judged = 1 if setting.period == "test" else 2
    started = time.perf_counter()
    hidden = range(judged + 1, judged + 1 + NUM_LABEL_BASKETS)
    with setting.progress.task("Candidates", NUM_LABEL_BASKETS + 1) as advance:
        stages = []
        for number in hidden:
            stages.append(stage(baskets, number))
            advance(1)
        before = time.perf_counter()
        asked = stage(baskets, judged)
        source_s = time.perf_counter() - before
        advance(1)
    blend = _learned(stages, asked.rows, setting)
    train_s = time.perf_counter() - started
    for name, score in (*_simple(asked.rows).items(), ("blend", blend)):
        spent = train_s if name == "blend" else source_s
        values = {f"recall_at_{K}": recall(asked.rows, score, asked.truth)}
        yield Line(name, values, spent).to_json()


def read(setting: Setting) -> Baskets:
    """All baskets; the test basket has no later one. TrainingDataError when it is not the last."""
    frame = read_table(setting, "tafeng_baskets.parquet")
    user = frame["user"].rank("dense").to_numpy().astype(np.int64) - 1
    position, item = (frame[name].to_numpy().astype(np.int64) for name in ("basket", "item"))
    baskets = from_positions(user, position, item, int(user.max()) + 1, int(item.max()) + 1)
    if not np.array_equal(baskets.back == 0, frame["is_test"].to_numpy().astype(bool)):
        raise TrainingDataError("is_test must mark the last basket of each user and no other")
    return baskets


def stage(baskets: Baskets, num_hidden: int) -> Stage:
    """Candidates from the history without the newest `num_hidden`, labels from the first hidden."""
    history, truth = baskets.without_newest(num_hidden), baskets.only(num_hidden - 1)
    users = np.flatnonzero((history.num_baskets() > 0) & (np.diff(truth.indptr) > 0))
    rows = build_rows(history, users, SOURCES)
    labels = np.asarray(truth[rows.user, rows.item], np.float32).ravel()
    return Stage(rows, labels, truth)


def _learned(stages: list[Stage], asked: BasketRows, setting: Setting) -> Floats:
    """The mean of boosted trees of several seeds, shape (n,)."""
    masks = [
        keep_negatives(one.labels, TREES.negative_share, seed) for seed, one in enumerate(stages)
    ]
    pairs = list(zip(stages, masks, strict=True))
    features = np.concatenate([one.rows.features[mask] for one, mask in pairs])
    labels = np.concatenate([one.labels[mask] for one, mask in pairs])
    teachers = [fit_teacher(features, labels, TREES, seed, setting.progress) for seed in SEEDS]
    logits = [teacher_logits(teacher, asked.features) for teacher in teachers]
    mean: Floats = np.mean(logits, axis=0, dtype=np.float64)
    return mean


def _simple(rows: BasketRows) -> dict[str, Floats]:
    """What the blend must beat, shape (n,) each."""
    popularity = rows.column("popularity")
    own = rows.column("decay_95") / rows.column("num_baskets")
    return {
        "popularity": popularity,
        "own_frequency": rows.column("count") + 1e-3 * popularity,
        "linear": rows.column("linear_score"),
        "tifu_knn": OWN_SHARE * own + (1 - OWN_SHARE) * rows.column("knn_score"),
    }


def recall(rows: BasketRows, score: Floats, truth: sparse.csr_matrix) -> Floats:
    """By user with a hidden basket: its items among the best K over its size."""
    user, item = best_rows(rows.user, rows.item, score)
    hit = np.asarray(truth[user, item]).ravel() > 0
    size = np.diff(truth.indptr)
    hits = np.bincount(user, hit, minlength=len(size))
    shares: Floats = hits[size > 0] / size[size > 0]
    return shares


def best_rows(user: Ids, item: Ids, score: Floats) -> tuple[Ids, Ids]:
    """User and item of each user's best K rows; ties go to the lower item."""
    order = np.lexsort((item, -score, user))
    ordered = user[order]
    kept = np.arange(len(order)) - np.searchsorted(ordered, ordered) < K
    return ordered[kept], item[order][kept]
