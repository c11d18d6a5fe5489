"""Gowalla in LightGCN's split: graph filter, two-tower, and the sum of both.

PATH holds `gowalla_train.parquet` and `gowalla_test.parquet` with columns user and item, from 0.
`validation` hides a tenth of each user's training pairs; everything here was chosen on it:
the filter's powers, shrinkage and order on 1,536 of its users, the two-tower on 10,000, the
blend's weights on 2,500.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import polars as pl
from scipy import sparse

from offline.benchmark.ranking import (
    Matrix,
    Split,
    best_items,
    binary_matrix,
    hold_out,
    recall_and_ndcg,
    standardised,
)
from offline.benchmark.report import Floats, Line, difference
from offline.benchmark.setting import Setting, read_table
from offline.models.graph_filter import GraphFilterConfig, fit_graph_filter
from offline.models.two_tower.data import Ragged, TrainingData
from offline.models.two_tower.fitted import FittedTowers
from offline.models.two_tower.model import TowerConfig
from offline.models.two_tower.neighbours import with_neighbours
from offline.models.two_tower.train import TrainConfig, TwoTowerConfig, fit

K: Final = 20
SEED: Final = 2026
VALIDATION_SHARE: Final = 0.1
NUM_NEIGHBOURS: Final = 10
NEIGHBOUR_SHARE: Final = 0.5
BLOCK_USERS: Final = 1024


class Scorer(Protocol):
    """Ranks all items for users given only their histories."""

    def score(self, histories: sparse.csr_matrix) -> Matrix:
        """Histories (B, items) to scores (B, items), larger is better."""
        ...


@dataclass(frozen=True, slots=True)
class TowerScorer:
    """The two-tower over rows of a matrix."""

    towers: FittedTowers

    def score(self, histories: sparse.csr_matrix) -> Matrix:
        """Cosines (B, items)."""
        return self.towers.score(as_ragged(histories))


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model and what it took."""

    scorer: Scorer
    train_s: float
    examples_per_s: float | None = None


def run(setting: Setting) -> Iterator[str]:
    """Train in turn, rank for everybody once, give the lines."""
    split = read(setting)
    models = {
        "graph_filter": train_graph_filter(split.known),
        "two_tower": train_two_tower(split.known, setting),
    }
    lines = judge(models, split, setting)
    yield from (line.to_json() for line in lines.values())
    yield difference("blend_above_graph_filter", lines["blend"], lines["graph_filter"])


def read(setting: Setting) -> Split:
    """The published split, or the validation within its training part."""
    train, test = (read_table(setting, f"gowalla_{part}.parquet") for part in ("train", "test"))
    both = pl.concat([train, test])
    shape = (_number(both["user"]), _number(both["item"]))
    known, hidden = (
        binary_matrix(
            part["user"].to_numpy().astype(np.int64),
            part["item"].to_numpy().astype(np.int64),
            shape,
        )
        for part in (train, test)
    )
    if setting.period == "validation":
        return hold_out(known, VALIDATION_SHARE, SEED)
    return Split(known, hidden)


def _number(ids: pl.Series) -> int:
    return int(ids.to_numpy().max()) + 1


def train_graph_filter(known: sparse.csr_matrix) -> Trained:
    """The filter, whose powers were chosen on validation."""
    started = time.perf_counter()
    fitted = fit_graph_filter(known, GraphFilterConfig())
    return Trained(fitted, time.perf_counter() - started)


def train_two_tower(known: sparse.csr_matrix, setting: Setting) -> Trained:
    """The two-tower over sets, with each item's neighbours among its features."""
    started = time.perf_counter()
    neighbours = min(NUM_NEIGHBOURS, known.shape[1] - 1)
    catalogue = with_neighbours(known, neighbours, NEIGHBOUR_SHARE)
    data = TrainingData(as_ragged(known), catalogue, num_own=known.shape[1])
    config = TwoTowerConfig(
        TowerConfig(num_features=known.shape[1]), train=TrainConfig(device=setting.device)
    )
    result = fit(data, config, setting.progress)
    train_s = time.perf_counter() - started
    return Trained(TowerScorer(result.towers), train_s, result.examples_per_s)


def as_ragged(matrix: sparse.csr_matrix) -> Ragged:
    """Rows of a matrix as lists of items."""
    return Ragged(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64))


def judge(models: Mapping[str, Trained], split: Split, setting: Setting) -> dict[str, Line]:
    """Measures of every model and of the sum of their standardised scores."""
    users = np.flatnonzero(np.diff(split.hidden.indptr))
    measured: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in (*models, "blend")}
    with setting.progress.task("Ranking", len(users)) as advance:
        for start in range(0, len(users), BLOCK_USERS):
            block = users[start : start + BLOCK_USERS]
            known, hidden = split.known[block], split.hidden[block]
            scores = {name: model.scorer.score(known) for name, model in models.items()}
            parts = [standardised(values) for values in scores.values()]
            scores["blend"] = np.sum(parts, axis=0, dtype=np.float32)
            for name, values in scores.items():
                measured[name].append(recall_and_ndcg(best_items(values, known, K), hidden))
            advance(len(block))
    total_s = sum(model.train_s for model in models.values())
    spent = {name: (model.train_s, model.examples_per_s) for name, model in models.items()}
    spent["blend"] = (total_s, None)
    return {name: _line(name, parts, *spent[name]) for name, parts in measured.items()}


def _line(
    name: str, parts: list[tuple[Floats, Floats]], train_s: float, rate: float | None
) -> Line:
    recall, ndcg = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Line(name, {f"recall_at_{K}": recall, f"ndcg_at_{K}": ndcg}, train_s, rate)
