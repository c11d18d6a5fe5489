"""How fast the two-tower trains, against the plain loop, to the same recall on validation.

PATH is that of the benchmark `gowalla`; a random NUM_USERS of its users take part, with all
items. Both loops see the same pairs of the same users with the same towers and as many pairs a
step. The plain loop trains for its epochs, and its best recall is the target; then ours trains
until it reaches that. Time is wall time without the time of measuring.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from offline.benchmark.gowalla import as_ragged, read
from offline.benchmark.plain_loop import PlainConfig, PlainTowers, train_plain
from offline.benchmark.ranking import Matrix, Split, best_items, hold_out, recall_and_ndcg
from offline.benchmark.setting import Setting
from offline.models.two_tower.data import TrainingData, only_ids
from offline.models.two_tower.fitted import FittedTowers
from offline.models.two_tower.model import TowerConfig, TwoTower
from offline.models.two_tower.sampling import SamplingConfig
from offline.models.two_tower.train import TrainConfig, TwoTowerConfig, fit

NUM_USERS: Final = 1_500
SHARE: Final = 0.1
SEED: Final = 2026
K: Final = 20
SAMPLING: Final = SamplingConfig(users_per_step=1024)
TRAIN: Final = TrainConfig(num_epochs=60)
PLAIN: Final = PlainConfig(num_epochs=8, learning_rate=TRAIN.learning_rate)


@dataclass(slots=True)
class Watch:
    """Wall time of training alone, with recall, seconds and examples after each epoch."""

    started: float = field(default_factory=time.perf_counter)
    epochs: list[tuple[float, float, int]] = field(default_factory=list)

    def measure(self, recall: Callable[[], float], num_examples: int) -> float:
        """Note an epoch's end; the time of `recall` does not count."""
        spent = time.perf_counter() - self.started
        found = recall()
        self.epochs.append((found, spent, num_examples))
        self.started = time.perf_counter() - spent
        return found

    def first(self, target: float) -> float | None:
        """Seconds to the first epoch with this recall; None when it was not reached."""
        return next((spent for found, spent, _ in self.epochs if found >= target), None)

    @property
    def examples_per_s(self) -> float:
        """Over all epochs."""
        _, spent, num_examples = self.epochs[-1]
        return num_examples / spent


def run(setting: Setting) -> Iterator[str]:
    """A line for each loop, then one with the ratios."""
    split = sample(read(setting))
    plain = watch_plain(split, setting)
    target = max(found for found, _, _ in plain.epochs)
    ours = watch_ours(split, setting, target)
    for name, watch in (("plain_loop", plain), ("two_tower", ours)):
        yield _line(name, watch, target)
    reached, needed = ours.first(target), plain.first(target)
    ratios = {
        "model": "throughput",
        "target_recall_at_20": round(target, 5),
        "examples_per_s_ratio": round(ours.examples_per_s / plain.examples_per_s, 2),
        "time_to_recall_ratio": round(needed / reached, 2) if needed and reached else None,
    }
    yield json.dumps(ratios)


def _line(name: str, watch: Watch, target: float) -> str:
    seconds = watch.first(target)
    record = {
        "model": name,
        "recall_at_20": round(max(found for found, _, _ in watch.epochs), 5),
        "train_s": round(watch.epochs[-1][1], 2),
        "examples_per_s": round(watch.examples_per_s),
        "time_to_recall_s": None if seconds is None else round(seconds, 2),
        "num_epochs": len(watch.epochs),
    }
    return json.dumps(record)


def sample(split: Split) -> Split:
    """Some users of the training part, a tenth of each one's pairs hidden."""
    num_users = split.known.shape[0]
    rng = np.random.default_rng(SEED)
    users = np.sort(rng.permutation(num_users)[: min(NUM_USERS, num_users)])
    return hold_out(split.known[users].tocsr(), SHARE, SEED)


def watch_plain(split: Split, setting: Setting) -> Watch:
    """The plain loop, measured after each epoch."""
    histories, watch = as_ragged(split.known), Watch()

    def after_epoch(_: int, model: PlainTowers, num_examples: int) -> bool:
        watch.measure(lambda: recall_of(_plain_scores(model, split), split), num_examples)
        return False

    towers = TowerConfig(num_features=split.known.shape[1])
    train_plain(histories, towers, PLAIN, setting.progress, after_epoch)
    return watch


def watch_ours(split: Split, setting: Setting, target: float) -> Watch:
    """The trainer, measured after each epoch, until it reaches the target."""
    histories, watch = as_ragged(split.known), Watch()
    catalogue = only_ids(split.known.shape[1])
    per_epoch = SAMPLING.hidden_share * len(histories.ids)

    def recall(model: TwoTower) -> float:
        return recall_of(FittedTowers.freeze(model, catalogue).score(histories), split)

    def after_epoch(epoch: int, model: TwoTower) -> bool:
        return watch.measure(lambda: recall(model), round(per_epoch * (epoch + 1))) >= target

    config = TwoTowerConfig(TowerConfig(num_features=split.known.shape[1]), SAMPLING, TRAIN)
    data = TrainingData(histories, catalogue, split.known.shape[1])
    fit(data, config, setting.progress, after_epoch=after_epoch)
    return watch


def recall_of(scores: Matrix, split: Split) -> float:
    """Mean recall over users with hidden items."""
    users = np.flatnonzero(np.diff(split.hidden.indptr))
    best = best_items(scores[users], split.known[users], K)
    return float(recall_and_ndcg(best, split.hidden[users])[0].mean())


@torch.no_grad()
def _plain_scores(model: PlainTowers, split: Split) -> Matrix:
    lists = [torch.from_numpy(row.indices.astype(np.int64)) for row in split.known]
    padded = torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=model.padding)
    users = torch.cat([model.users(part) for part in torch.split(padded, 64)])
    units = functional.normalize(model.items.weight[: model.padding], dim=1)
    scores: Matrix = (users @ units.T).numpy()
    return scores
