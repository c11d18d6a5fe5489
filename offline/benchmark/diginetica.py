"""Diginetica in SR-GNN's split: what is clicked next, by three session models and their blend.

PATH holds `diginetica_train.parquet` (session, items) and `diginetica_test.parquet` (prefix,
target), items from 1. `validation` trains on the first 90% of the training sessions and judges
12,000 prefixes of the others; decays, sizes and weights were chosen on it. P@20 of the public
tables is `recall_at_20`: one target a prefix.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from offline.benchmark.report import Line
from offline.benchmark.setting import Setting, read_table
from offline.models.session_knn import (
    SessionIndex,
    SessionKnnConfig,
    fit_session_knn,
    score_session_knn,
)
from offline.models.session_network import (
    SessionNetwork,
    SessionNetworkConfig,
    fit_session_network,
    score_session_network,
)
from offline.models.sessions import Ids, Sessions, chosen, from_lists, prefixes
from offline.models.transitions import TransitionConfig, fit_transitions, score_transitions

Matrix = NDArray[np.float32]

K: Final = 20
TRAIN_SHARE: Final = 0.9
NUM_VALIDATION_PREFIXES: Final = 12_000
CHUNK: Final = 512
TRANSITION_WEIGHT: Final = 0.1
MEMORY_WEIGHT: Final = 0.8
FLOOR: Final = 1e-4
TRANSITIONS: Final = TransitionConfig()
KNN: Final = SessionKnnConfig()
NETWORK: Final = SessionNetworkConfig()


@dataclass(frozen=True, slots=True)
class Task:
    """Sessions to learn from, prefixes to complete, and the item (prefixes,) that followed."""

    sessions: Sessions
    asked: Sessions
    targets: Ids
    num_items: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """The three models, and the seconds that each took."""

    transitions: sparse.csr_matrix
    knn: SessionIndex
    network: SessionNetwork
    train_s: dict[str, float]


def run(setting: Setting) -> Iterator[str]:
    """Train all, rank once, give the lines."""
    task = read(setting)
    fitted = train(task, setting)
    ranks: dict[str, list[Ids]] = {}
    with setting.progress.task("Ranking", len(task.targets)) as advance:
        for start, scores in _scores(fitted, task):
            for name, values in scores.items():
                targets = task.targets[start : start + len(values)]
                ranks.setdefault(name, []).append(ranks_of(values, targets))
            advance(min(CHUNK, len(task.targets) - start))
    for name, parts in ranks.items():
        rank = np.concatenate(parts)
        hit = (rank < K).astype(np.float64)
        measures = {f"recall_at_{K}": hit, f"mrr_at_{K}": hit / (rank + 1.0)}
        yield Line(name, measures, fitted.train_s[name]).to_json()


def read(setting: Setting) -> Task:
    """The published split, or the validation within its training part."""
    train, test = (read_table(setting, f"diginetica_{part}.parquet") for part in ("train", "test"))
    sessions, asked = _sessions(train.sort("session")["items"]), _sessions(test["prefix"])
    targets = test["target"].to_numpy().astype(np.int64) - 1
    num_items = int(max(sessions.items.max(), asked.items.max(), targets.max())) + 1
    if setting.period == "test":
        return Task(sessions, asked, targets, num_items)
    cut = int(len(sessions) * TRAIN_SHARE)
    asked, targets = prefixes(sessions.between(cut, len(sessions)))
    number = min(NUM_VALIDATION_PREFIXES, len(targets))
    rows = np.sort(np.random.default_rng(0).choice(len(targets), number, replace=False))
    return Task(sessions.between(0, cut), chosen(asked, rows), targets[rows], num_items)


def _sessions(column: pl.Series) -> Sessions:
    return from_lists([[item - 1 for item in row] for row in column.to_list()])


def train(task: Task, setting: Setting) -> Fitted:
    """Fit the three models on the same sessions."""
    started = time.perf_counter()
    transitions = fit_transitions(task.sessions, task.num_items, TRANSITIONS)
    after_transitions = time.perf_counter()
    knn = fit_session_knn(task.sessions, task.num_items, KNN)
    after_knn = time.perf_counter()
    network = fit_session_network(task.sessions, task.num_items, NETWORK, setting.progress)
    end = time.perf_counter()
    train_s = {
        "transitions": after_transitions - started,
        "session_knn": after_knn - after_transitions,
        "session_network": end - after_knn,
        "blend": end - started,
    }
    return Fitted(transitions, knn, network, train_s)


def _scores(fitted: Fitted, task: Task) -> Iterator[tuple[int, dict[str, Matrix]]]:
    """The first prefix of each chunk, and scores (chunk, items) of each model and the blend."""
    for number, cosines in enumerate(score_session_network(fitted.network, task.asked, CHUNK)):
        start = number * CHUNK
        part = task.asked.between(start, start + len(cosines))
        moves = score_transitions(fitted.transitions, part, TRANSITIONS)
        votes = score_session_knn(fitted.knn, part, KNN)
        scores = {
            "transitions": _shares(moves.toarray().astype(np.float32)),
            "session_knn": _shares(votes.toarray().astype(np.float32)),
            "session_network": _softmax(cosines),
        }
        yield start, scores | {"blend": _pooled(**scores)}


def _pooled(transitions: Matrix, session_knn: Matrix, session_network: Matrix) -> Matrix:
    """The product of the network's probability and a power of what memory says, (chunk, items)."""
    memory = session_knn + TRANSITION_WEIGHT * transitions + FLOOR
    pooled: Matrix = session_network * np.power(memory, MEMORY_WEIGHT, dtype=np.float32)
    return pooled


def _shares(scores: Matrix) -> Matrix:
    """Rows divided by their sums: votes as probabilities."""
    shares: Matrix = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-9)
    return shares


def _softmax(cosines: Matrix) -> Matrix:
    above = cosines - cosines.max(axis=1, keepdims=True)
    return _shares(np.exp(np.float32(NETWORK.scale) * above))


def ranks_of(scores: Matrix, targets: Ids) -> Ids:
    """The place of each target, from 0; ties go to the lower index, what scores 0 comes last."""
    own = scores[np.arange(len(scores)), targets][:, None]
    before = np.arange(scores.shape[1])[None, :] < targets[:, None]
    rank: Ids = (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)
    return np.where(own[:, 0] > 0, rank, scores.shape[1])
