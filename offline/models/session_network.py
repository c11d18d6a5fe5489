"""A small attentive recurrent network for the next click, with embeddings on the unit sphere.

It learns what transitions and session-kNN cannot, items that never met in one session, and
blends well with both. It knows no files and not how its scores are mixed.

The architecture: item embeddings of length 1 (NISER, Gupta et al. 2019: no popularity bias of
the dot product), a GRU, a causal attentive read-out of the clicks by the current state (NARM, Li
et al. 2017), and a linear map to a unit query. All prefixes of a session are trained in one pass,
by the sampled softmax of the two-tower.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from offline.models.sessions import Ids, Sessions
from offline.models.two_tower.loss import Targets, sampled_softmax
from offline.progress import Progress


@dataclass(frozen=True, slots=True)
class SessionNetworkConfig:
    """Sizes, length of training and seed.

    `scale` is the softmax scale of the cosines. Over `recency`, a share of all sessions, a
    session's weight in the loss falls by e.
    """

    dim: int = 96
    history: int = 20
    dropout: float = 0.3
    scale: float = 14.0
    num_negatives: int = 8192
    batch_size: int = 512
    num_epochs: int = 6
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    recency: float = 1.0
    seed: int = 0


class SessionNetwork(nn.Module):
    """Clicks (B, T), 1-based items with 0 on the right as padding, to unit queries (B, T, d)."""

    def __init__(self, num_items: int, config: SessionNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(num_items + 1, config.dim, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=config.dim**-0.5)
        self.gru = nn.GRU(config.dim, config.dim, batch_first=True)
        self.attend_key = nn.Linear(config.dim, config.dim, bias=False)
        self.attend_state = nn.Linear(config.dim, config.dim)
        self.attend_score = nn.Linear(config.dim, 1, bias=False)
        self.project = nn.Linear(3 * config.dim, config.dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def items(self, index: Tensor) -> Tensor:
        """Unit item vectors (..., d)."""
        return functional.normalize(self.embedding(index), dim=-1)

    def forward(self, clicks: Tensor) -> Tensor:
        """Unit queries (B, T, d): after each click, what comes next."""
        vectors = self.dropout(self.items(clicks))
        states, _ = self.gru(vectors)
        pooled = self._read_out(vectors, states, clicks)
        query = self.project(self.dropout(torch.cat([states, pooled, vectors], dim=-1)))
        return functional.normalize(query, dim=-1)

    def _read_out(self, vectors: Tensor, states: Tensor, clicks: Tensor) -> Tensor:
        """The clicks up to each place, weighted by a gate of click and state, (B, T, d)."""
        keys, asking = self.attend_key(vectors)[:, None], self.attend_state(states)[:, :, None]
        weight = self.attend_score(torch.sigmoid(keys + asking)).squeeze(-1)
        length = clicks.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        weight = weight.masked_fill(~(causal & (clicks != 0)[:, None]), 0.0)
        return torch.einsum("bts,bsd->btd", weight, vectors)


def fit_session_network(
    sessions: Sessions,
    num_items: int,
    config: SessionNetworkConfig,
    progress: Progress,
    after_epoch: Callable[[int, SessionNetwork], None] = lambda _epoch, _network: None,
) -> SessionNetwork:
    """Fit on all prefixes of all sessions, which come oldest first."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network = SessionNetwork(num_items, config)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    num_steps = config.num_epochs * -(-len(sessions) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=num_steps, pct_start=0.1
    )
    age = (len(sessions) - 1 - np.arange(len(sessions))) / len(sessions)
    weight = np.exp(-age / config.recency).astype(np.float32)
    candidates = _Candidates(sessions, num_items, config)
    with progress.task("Session network", num_steps) as advance:
        for epoch in range(config.num_epochs):
            network.train()
            for rows in _batches(sessions.lengths, config.batch_size, rng):
                loss = _loss(network, sessions, rows, weight[rows], candidates, rng)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                advance(1)
            after_epoch(epoch, network)
    return network


class _Candidates:
    """Draws what a batch's clicks are told from: their targets and uniform negatives."""

    def __init__(self, sessions: Sessions, num_items: int, config: SessionNetworkConfig) -> None:
        counts = np.bincount(sessions.items, minlength=num_items)
        self.frequency = counts / max(1, counts.sum())
        self.num_negatives = config.num_negatives

    def draw(self, targets: Ids, rng: np.random.Generator) -> tuple[Ids, NDArray[np.float32]]:
        """Distinct items (C,), ascending, and the log probability that each is drawn."""
        num_items = len(self.frequency)
        uniform = rng.integers(0, num_items, self.num_negatives)
        items = np.unique(np.concatenate([targets, uniform]))
        expected = len(targets) * self.frequency[items] + self.num_negatives / num_items
        return items, np.log(-np.expm1(-expected)).astype(np.float32)


def _batches(lengths: Ids, size: int, rng: np.random.Generator) -> Iterator[Ids]:
    """Random batches of sessions of like length, sorted inside windows of 32 batches."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * 32):
        window = order[start : start + size * 32]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[at : at + size] for at in range(0, len(window), size)]
    for at in rng.permutation(len(batches)):
        yield batches[at]


def _padded(sessions: Sessions, rows: Ids, length: int) -> Ids:
    """The last `length` clicks of each row, 1-based, 0 on the right as padding."""
    stop = sessions.starts[rows + 1]
    start = np.maximum(sessions.starts[rows], stop - length)
    position = start[:, None] + np.arange(int((stop - start).max()))[None, :]
    inside = position < stop[:, None]
    return np.where(inside, sessions.items[np.minimum(position, len(sessions.items) - 1)] + 1, 0)


def _loss(
    network: SessionNetwork,
    sessions: Sessions,
    rows: Ids,
    weight: NDArray[np.float32],
    candidates: _Candidates,
    rng: np.random.Generator,
) -> Tensor:
    clicks = _padded(sessions, rows, network.config.history + 1)
    real = clicks[:, 1:] != 0
    truth = clicks[:, 1:][real] - 1
    items, log_inclusion = candidates.draw(truth, rng)
    query = network(torch.from_numpy(clicks[:, :-1].copy()))[torch.from_numpy(real)]
    vectors = network.config.scale * network.items(torch.from_numpy(items + 1))
    share = np.broadcast_to(weight[:, None], real.shape)[real]
    nothing = torch.zeros(0, dtype=torch.int64)
    targets = Targets(
        rows=torch.arange(len(truth)),
        columns=torch.from_numpy(np.searchsorted(items, truth)),
        weights=torch.from_numpy(share / share.sum()),
        excluded_rows=nothing,
        excluded_columns=nothing,
        log_inclusion=torch.from_numpy(log_inclusion),
    )
    return sampled_softmax(query, vectors, targets, low_precision=True)


@torch.no_grad()
def score_session_network(
    network: SessionNetwork, prefixes: Sessions, chunk: int = 512
) -> Iterator[NDArray[np.float32]]:
    """Cosines (chunk, items) of consecutive chunks of prefixes, in order."""
    network.eval()
    catalogue = network.items(torch.arange(1, network.embedding.num_embeddings))
    for start in range(0, len(prefixes), chunk):
        rows = np.arange(start, min(start + chunk, len(prefixes)))
        clicks = _padded(prefixes, rows, network.config.history)
        last = (clicks != 0).sum(axis=1) - 1
        query = network(torch.from_numpy(clicks))[torch.arange(len(rows)), torch.from_numpy(last)]
        yield (query @ catalogue.T).numpy()
