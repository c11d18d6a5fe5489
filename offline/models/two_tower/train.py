"""Training the two towers: one process or torchrun, CPU or CUDA, interrupted or not.

    python -m offline.models.two_tower.train --data arrays.npz --out FOLDER [--device cuda]
    torchrun --nproc-per-node 2 -m offline.models.two_tower.train --data arrays.npz --out FOLDER

The archive is that of `data.write_arrays`. The checkpoint in FOLDER is continued; the item
tables go beside it. It knows no shop, no split and no measures.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from offline.errors import DeviceError
from offline.models.two_tower import checkpoint
from offline.models.two_tower.data import TrainingData, read_arrays
from offline.models.two_tower.fitted import FittedTowers
from offline.models.two_tower.loss import sampled_softmax
from offline.models.two_tower.model import TowerConfig, TwoTower
from offline.models.two_tower.progress import track
from offline.models.two_tower.sampling import Batch, Sampler, SamplingConfig
from offline.progress import Progress

SALIENCE_POWER: Final = 0.5
LOYALTY: Final = 3.0
CPU_BLOCK_ROWS: Final = 128

DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How long, how fast, where.

    `max_steps` stops early without changing the schedule, as an interruption would. With
    `low_precision` products run in bfloat16. `checkpoint_steps` 0: none are written.
    """

    num_epochs: int = 20
    learning_rate: float = 0.015
    num_warmup_steps: int = 30
    seed: int = 0
    device: DeviceName = "auto"
    low_precision: bool = True
    checkpoint_steps: int = 0
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class TwoTowerConfig:
    """The whole configuration of a training run."""

    towers: TowerConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The towers, seconds, and examples (a user and a target) per second of all processes."""

    towers: FittedTowers
    train_s: float
    examples_per_s: float


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size`, and where it computes."""

    rank: int
    size: int
    device: torch.device


def fit(
    data: TrainingData,
    config: TwoTowerConfig,
    progress: Progress,
    folder: Path | None = None,
    after_epoch: Callable[[int, TwoTower], bool] = lambda _epoch, _model: False,
) -> TrainResult:
    """Train from scratch, or from `folder`'s checkpoint when it holds one.

    `after_epoch` gets the number of the epoch that ended and the model, on its device, and says
    whether to stop. Raises DeviceError when CUDA is asked for and there is none.
    """
    world = _join(config.train.device)
    sampler = Sampler(data, config.sampling, affinity=config.towers.affinity)
    model = build(sampler, config).to(world.device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config.train.learning_rate, betas=(0.9, 0.99), fused=True
    )
    first = checkpoint.load(folder, model, optimizer) if folder else 0
    run = _Run(model, optimizer, sampler, config.train, world, folder)
    started = time.perf_counter()
    num_examples = run.steps(first, progress, after_epoch)
    train_s = time.perf_counter() - started
    towers = FittedTowers.freeze(model, data.catalogue, data.num_own)
    return TrainResult(towers, train_s, num_examples / train_s)


def build(sampler: Sampler, config: TwoTowerConfig) -> TwoTower:
    """A seeded model; items start with pooling weight count^-1/2, so popular ones say less."""
    torch.manual_seed(config.train.seed)
    model = TwoTower(config.towers)
    num_own = min(sampler.data.num_own, len(sampler.counts))
    counts = np.maximum(sampler.counts[:num_own], 1)
    with torch.no_grad():
        model.salience[:num_own, 0] = torch.from_numpy(-SALIENCE_POWER * np.log(counts)).float()
        if model.loyalty is not None:
            model.loyalty.copy_(_rarity(sampler, config.towers.num_features))
    return model


def _rarity(sampler: Sampler, num_features: int) -> Tensor:
    """How much each feature tells, from 0, all have it, to 1: log(N / n) / log N, (features,)."""
    catalogue = sampler.data.catalogue
    known = np.repeat(sampler.counts > 0, np.diff(catalogue.starts))
    have = np.maximum(np.bincount(catalogue.ids[known], minlength=num_features), 1)
    whole = max(2, len(sampler.known))
    told = LOYALTY * np.log(np.maximum(whole / have, 1)) / np.log(whole)
    told[: sampler.data.num_own] = 0
    return torch.from_numpy(told).float()


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same from the first step to the last."""

    model: TwoTower
    optimizer: torch.optim.Optimizer
    sampler: Sampler
    config: TrainConfig
    world: World
    folder: Path | None

    def steps(
        self, first: int, progress: Progress, after_epoch: Callable[[int, TwoTower], bool]
    ) -> int:
        """From step `first` to the end; returns the number of examples seen."""
        per_epoch = self.sampler.num_steps(self.world.size)
        total = per_epoch * self.config.num_epochs
        last = min(total, self.config.max_steps or total)
        module: nn.Module = self.model
        if self.world.size > 1:
            module = DistributedDataParallel(self.model)
        num_examples = 0
        with track(last - first, progress.quiet or self.world.rank > 0) as advance:
            for step, batch in enumerate(self._batches(first, last), first):
                set_rate(self.optimizer, self.config, step, total)
                train_step(module, self.optimizer, to_device(batch, self.world.device), self.config)
                num_examples += len(batch.targets.rows) * self.world.size
                advance(len(batch.targets.rows) * self.world.size)
                self._save(step + 1)
                is_end = (step + 1) % per_epoch == 0
                if is_end and after_epoch(step // per_epoch, self.model):
                    break
        return num_examples

    def _batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps `first` to `last`."""
        per_epoch = self.sampler.num_steps(self.world.size)
        step = first
        while step < last:
            epoch, place = divmod(step, per_epoch)
            world = (self.world.rank, self.world.size)
            for batch in self.sampler.epoch(self.config.seed, epoch, place, *world):
                yield batch
                step += 1
                if step == last:
                    return

    def _save(self, step: int) -> None:
        every = self.config.checkpoint_steps
        if self.folder and every and self.world.rank == 0 and step % every == 0:
            checkpoint.save(self.folder, step, self.model, self.optimizer)


def train_step(
    module: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainConfig
) -> Tensor:
    """One forward, backward and update; returns the detached loss."""
    kind = batch.candidates.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=config.low_precision and kind == "cuda"):
        users, items, added = module(batch.bags, batch.histories, batch.candidates)
    block_rows = CPU_BLOCK_ROWS if kind == "cpu" else max(1, len(users))
    loss = sampled_softmax(
        users.float(), items.float(), batch.targets, config.low_precision, block_rows, added
    )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def set_rate(
    optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, num_steps: int
) -> None:
    """Linear warm-up, then half a cosine to zero (Loshchilov and Hutter 2017)."""
    warm = min(1.0, (step + 1) / max(1, config.num_warmup_steps))
    for group in optimizer.param_groups:
        cosine = 0.5 * (1 + math.cos(math.pi * step / num_steps))
        group["lr"] = config.learning_rate * warm * cosine


def to_device(value: Any, device: torch.device) -> Any:
    """A copy of nested dataclasses with their tensors on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    moved = {part.name: to_device(getattr(value, part.name), device) for part in fields(value)}
    return replace(value, **moved)


def _join(name: DeviceName) -> World:
    """Alone unless torchrun says otherwise."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise DeviceError("--device cuda needs a GPU, torch sees none; use --device auto")
    kind = "cuda" if has_cuda and name != "cpu" else "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World(0, 1, torch.device(kind))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    device = torch.device(kind)
    if kind == "cuda":
        device = torch.device(kind, int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return World(dist.get_rank(), dist.get_world_size(), device)


def main(arguments: list[str] | None = None) -> int:
    """Train on an archive of arrays; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--epochs", type=int, default=TrainConfig().num_epochs)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--checkpoint-steps", type=int, default=200)
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args(arguments)
    data = read_arrays(args.data)
    config = TwoTowerConfig(
        TowerConfig(num_features=int(data.catalogue.ids.max()) + 1, dim=args.dim),
        train=TrainConfig(args.epochs, device=args.device, checkpoint_steps=args.checkpoint_steps),
    )
    result = fit(data, config, Progress(args.quiet), args.out)
    if int(os.environ.get("RANK", "0")) == 0:
        result.towers.save(args.out)
        print(f"train_s {result.train_s:.1f} examples_per_s {result.examples_per_s:.0f}")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
