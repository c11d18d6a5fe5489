"""How fast the two-tower trains, against the plain loop, to the same recall on validation.

PATH is that of the benchmark `gowalla`; a random NUM_USERS of its users take part, with all
items. Both loops see the same pairs of the same users with the same towers, and as many pairs a
step as nearly as whole users allow. The plain loop trains for its epochs, and its best recall is
the target; then ours trains until it reaches that. Time is wall time without the time of measuring;
`cpu_ratio` is of CPU time, which tells more where others compute on the same machine.
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

NUM_USERS: Final = 1_120
SHARE: Final = 0.1
SEED: Final = 2026
K: Final = 20
SAMPLING: Final = SamplingConfig(users_per_step=1120)
TRAIN: Final = TrainConfig(num_epochs=60)
PLAIN: Final = PlainConfig(num_epochs=8, learning_rate=TRAIN.learning_rate)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch reached, and what it took since the first began, without measuring."""

    recall: float
    wall_s: float
    cpu_s: float
    num_examples: int


@dataclass(slots=True)
class Watch:
    """The epochs of a training, with the time of training alone."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)
    epochs: list[Epoch] = field(default_factory=list)

    def measure(self, recall: Callable[[], float], num_examples: int) -> float:
        """Note an epoch's end; the time of `recall` does not count."""
        wall_s, cpu_s = time.perf_counter() - self.wall, time.process_time() - self.cpu
        found = recall()
        self.epochs.append(Epoch(found, wall_s, cpu_s, num_examples))
        self.wall, self.cpu = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return found

    def first(self, target: float) -> float | None:
        """Seconds to the first epoch with this recall; None when it was not reached."""
        return next((epoch.wall_s for epoch in self.epochs if epoch.recall >= target), None)

    @property
    def best(self) -> float:
        """The best recall of any epoch."""
        return max(epoch.recall for epoch in self.epochs)

    @property
    def examples_per_s(self) -> float:
        """Over all epochs."""
        return self.epochs[-1].num_examples / self.epochs[-1].wall_s

    @property
    def examples_per_cpu_s(self) -> float:
        """Over all epochs."""
        return self.epochs[-1].num_examples / self.epochs[-1].cpu_s


def run(setting: Setting) -> Iterator[str]:
    """A line for each loop, then one with both beside each other."""
    split = sample(read(setting))
    plain = watch_plain(split, setting)
    ours = watch_ours(split, setting, plain.best)
    for name, watch in (("plain_loop", plain), ("two_tower", ours)):
        yield _line(name, watch, plain.best)
    reached, needed = ours.first(plain.best), plain.first(plain.best)
    ratios = {
        "model": "throughput",
        "examples_per_s": round(ours.examples_per_s),
        "plain_examples_per_s": round(plain.examples_per_s),
        "ratio": round(ours.examples_per_s / plain.examples_per_s, 2),
        "cpu_ratio": round(ours.examples_per_cpu_s / plain.examples_per_cpu_s, 2),
        "recall_at_20": round(ours.best, 5),
        "plain_recall_at_20": round(plain.best, 5),
        "time_to_recall_ratio": round(needed / reached, 2) if needed and reached else None,
    }
    yield json.dumps(ratios)


def _line(name: str, watch: Watch, target: float) -> str:
    seconds = watch.first(target)
    record = {
        "model": name,
        "recall_at_20": round(watch.best, 5),
        "train_s": round(watch.epochs[-1].wall_s, 2),
        "train_cpu_s": round(watch.epochs[-1].cpu_s, 2),
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
        return recall_of(
            FittedTowers.freeze(model, catalogue, len(catalogue)).score(histories), split
        )

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
