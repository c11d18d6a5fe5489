"""The honest plain loop that the trainer's throughput is compared with: what one writes first.

A Dataset of (user, target) pairs, a DataLoader that pads histories without the target,
nn.Embedding, dense Adam, in-batch softmax with logQ correction and uniform negatives, float32.
The same towers, temperature and number of pairs a batch. For the benchmark only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from offline.models.two_tower.data import Ragged
from offline.models.two_tower.model import TowerConfig
from offline.progress import Progress


@dataclass(frozen=True, slots=True)
class PlainConfig:
    """`batch_size` in pairs; histories are cut to `max_history` items, at random."""

    batch_size: int = 8192
    num_uniform: int = 2048
    max_history: int = 100
    learning_rate: float = 0.005
    num_epochs: int = 20
    seed: int = 0


class Pairs(Dataset[tuple[Tensor, int]]):
    """Every (user, target) pair, with the user's other items as history."""

    def __init__(self, histories: Ragged, max_history: int) -> None:
        self.histories, self.max_history = histories, max_history
        self.users = np.repeat(np.arange(len(histories)), np.diff(histories.starts))

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.users)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The history (n,) without the target, and the target."""
        starts, ids = self.histories.starts, self.histories.ids
        first, last = starts[self.users[index]], starts[self.users[index] + 1]
        others = np.concatenate([ids[first:index], ids[index + 1 : last]])
        if len(others) > self.max_history:
            others = others[torch.randperm(len(others))[: self.max_history].numpy()]
        return torch.from_numpy(others), int(ids[index])


class PlainTowers(nn.Module):
    """Padded weighted-mean pooling over one shared embedding; row `num_features` is padding."""

    def __init__(self, config: TowerConfig, counts: Tensor) -> None:
        super().__init__()
        self.padding, self.temperature = config.num_features, config.temperature
        size = config.num_features + 1
        self.items = nn.Embedding(size, config.dim, padding_idx=self.padding)
        nn.init.normal_(self.items.weight, std=config.dim**-0.5)
        self.salience = nn.Embedding(size, 1, padding_idx=self.padding)
        with torch.no_grad():
            own = -0.5 * counts.clamp(min=1).log()
            self.salience.weight[:, 0] = torch.cat([own, torch.tensor([-1e9])])

    def users(self, history: Tensor) -> Tensor:
        """Padded histories (B, L) to unit vectors (B, d)."""
        weights = torch.softmax(self.salience(history).squeeze(2), 1)
        return functional.normalize((weights.unsqueeze(2) * self.items(history)).sum(1), dim=1)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        """Logits (B, C)."""
        directions = functional.normalize(self.items(candidates), dim=1)
        return self.users(history) @ directions.T / self.temperature


def loader(histories: Ragged, padding: int, config: PlainConfig) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches of padded histories and targets."""

    def collate(rows: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        histories = [row[0] for row in rows]
        padded = nn.utils.rnn.pad_sequence(histories, batch_first=True, padding_value=padding)
        return padded, torch.tensor([row[1] for row in rows])

    generator = torch.Generator().manual_seed(config.seed)
    pairs = Pairs(histories, config.max_history)
    return DataLoader(
        pairs, config.batch_size, shuffle=True, collate_fn=collate, generator=generator
    )


def train_plain(
    histories: Ragged,
    towers: TowerConfig,
    config: PlainConfig,
    progress: Progress,
    after_epoch: Callable[[int, PlainTowers, int], bool],
) -> PlainTowers:
    """Train until done or until `after_epoch(epoch, model, examples so far)` says to stop."""
    torch.manual_seed(config.seed)
    counts = torch.from_numpy(np.bincount(histories.ids, minlength=towers.num_features)).float()
    model, frequency = PlainTowers(towers, counts), counts / counts.sum()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    batches = loader(histories, towers.num_features, config)
    num_steps = config.num_epochs * len(batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    num_examples = 0
    with progress.task("Plain loop", num_steps) as advance:
        for epoch in range(config.num_epochs):
            for history, target in batches:
                uniform = torch.randint(towers.num_features, (config.num_uniform,))
                loss = _loss(model, history, target, uniform, frequency)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                num_examples += len(target)
                advance(1)
            if after_epoch(epoch, model, num_examples):
                break
    return model


def _loss(
    model: PlainTowers, history: Tensor, target: Tensor, uniform: Tensor, frequency: Tensor
) -> Tensor:
    candidates = torch.cat([target, uniform])
    expected = len(target) * frequency + len(uniform) / len(frequency)
    logits = model(history, candidates) - expected[candidates].log()
    same = candidates[None, :] == target[:, None]
    same.fill_diagonal_(False)
    return functional.cross_entropy(
        logits.masked_fill(same, -1e4), torch.arange(len(target), device=target.device)
    )
