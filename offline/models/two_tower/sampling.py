"""From histories to batches: who is asked, what is hidden from them, what they choose among.

Many targets of one user share one pass of the user tower, and one sample of candidates is shared
by the whole batch, so that a step costs (users x candidates) and not (examples x candidates).
Every draw comes from a generator seeded by (seed, epoch, step, rank): a resumed run sees the
batches that it would have seen. It knows no parameters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from offline.models.two_tower.data import (
    Ids,
    TrainingData,
    Weights,
    as_bags,
    likeness_of,
    likings,
)
from offline.models.two_tower.loss import Targets
from offline.models.two_tower.model import Bags, Histories

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How a batch is drawn.

    `ordered`: from a random cut on, up to `max_targets` later items are to be found from at most
    `max_history` earlier ones; else a random `hidden_share` of the set from the rest of it.
    `anonymous_share` of a batch's items are shown without their own id, so that what they are
    like learns to speak for them, as it must for an item that nobody has bought yet.
    """

    users_per_step: int = 1024
    num_uniform: int = 2048
    hidden_share: float = 0.3
    ordered: bool = False
    max_targets: int = 8
    max_history: int = 64
    anonymous_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step needs, as tensors; see `TwoTower.forward` and `Targets` for shapes."""

    bags: Bags
    histories: Histories
    candidates: Tensor
    targets: Targets


@dataclass(frozen=True, slots=True)
class _Entries:
    """Some entries of the batch's histories: item, row and weight of each, shape (n,)."""

    items: Ids
    rows: Ids
    weights: Weights | None


class Sampler:
    """Turns users into batches; holds the item frequencies that the logQ correction needs.

    Uniform negatives are items that somebody has: one that nobody could buy yet is not disliked.
    With `affinity` batches tell what each user likes, as towers with `affinity` ask.
    """

    def __init__(
        self, data: TrainingData, config: SamplingConfig, *, affinity: bool = False
    ) -> None:
        self.data, self.config = data, config
        self.likeness = likeness_of(data.catalogue, data.num_own) if affinity else None
        self.counts = np.bincount(data.histories.ids, minlength=data.num_items)
        self.known = np.flatnonzero(self.counts)
        self.users = np.flatnonzero(np.diff(data.histories.starts) > 1)

    def num_steps(self, num_processes: int = 1) -> int:
        """Steps of an epoch, each of about `users_per_step` users on each process."""
        return max(1, round(len(self.users) / (self.config.users_per_step * num_processes)))

    def epoch(
        self, seed: int, epoch: int, first: int, rank: int = 0, num_processes: int = 1
    ) -> Iterator[Batch]:
        """The batches `first`, `first` + 1, ... of an epoch for one process."""
        order = np.random.default_rng([seed, epoch]).permutation(self.users)
        steps = np.array_split(order, self.num_steps(num_processes))
        for step in range(first, len(steps)):
            rng = np.random.default_rng([seed, epoch, step, rank])
            yield self.batch(steps[step][rank::num_processes], rng)

    def batch(self, users: Ids, rng: np.random.Generator) -> Batch:
        """One batch of the given users; every draw comes from `rng`."""
        places, rows = self.data.histories.places(users)
        items = self.data.histories.ids[places]
        strength = self.data.histories.weights
        hidden, kept = (
            _Entries(items[m], rows[m], None if strength is None else strength[places[m]])
            for m in self._split(rows, len(users), rng)
        )
        uniform = self.known[rng.integers(0, len(self.known), self.config.num_uniform)]
        candidates = np.unique(np.concatenate([hidden.items, uniform]))
        needed = np.unique(np.concatenate([kept.items, candidates]))
        positions = replace(kept, items=np.searchsorted(needed, kept.items))
        return Batch(
            bags=self._item_bags(needed, rng),
            histories=replace(
                self._histories(users, positions), taste=self._taste(kept, len(users))
            ),
            candidates=torch.from_numpy(np.searchsorted(needed, candidates)),
            targets=self._targets(candidates, hidden, kept),
        )

    def _split(self, rows: Ids, num_rows: int, rng: np.random.Generator) -> tuple[Mask, Mask]:
        """Which entries are to be found and which are known; never the same one."""
        if not self.config.ordered:
            hidden = rng.random(len(rows)) < self.config.hidden_share
            return hidden, ~hidden
        lengths = np.bincount(rows, minlength=num_rows)
        cut = (rng.random(num_rows) * lengths).astype(np.int64)
        after = np.arange(len(rows)) - (np.cumsum(lengths) - lengths + cut)[rows]
        hidden = (after >= 0) & (after < self.config.max_targets)
        return hidden, (after < 0) & (after >= -self.config.max_history)

    def _item_bags(self, items: Ids, rng: np.random.Generator) -> Bags:
        """The features of the items, own ids withheld from some of them."""
        bags = self.data.catalogue.bags(items)
        if not self.config.anonymous_share:
            return bags
        anonymous = torch.from_numpy(rng.random(len(items)) < self.config.anonymous_share)
        shown = (bags.ids >= self.data.num_own) | ~anonymous[bags.rows]
        weights = torch.ones(len(bags.ids)) if bags.weights is None else bags.weights
        return replace(bags, weights=weights * shown)

    def _histories(self, users: Ids, kept: _Entries) -> Histories:
        ends = np.searchsorted(kept.rows, np.arange(len(users)), side="right")
        ages = torch.from_numpy(ends[kept.rows] - 1 - np.arange(len(kept.rows)))
        bags = as_bags(kept.items, kept.rows, len(users))
        if kept.weights is not None:
            bags = replace(bags, weights=torch.from_numpy(kept.weights))
        context = self.data.context
        return Histories(bags, ages, None if context is None else context.bags(users))

    def _taste(self, kept: _Entries, num_rows: int) -> Bags | None:
        """What the users like, as far as their known items say."""
        if self.likeness is None:
            return None
        weights = np.ones(len(kept.items), np.float32) if kept.weights is None else kept.weights
        shape = (num_rows, self.data.num_items)
        matrix = sparse.csr_matrix((weights, (kept.rows, kept.items)), shape)
        return likings(matrix, self.likeness)

    def _targets(self, candidates: Ids, hidden: _Entries, kept: _Entries) -> Targets:
        """Positives, known items that are no negatives, and P(a candidate is in the sample)."""
        num = len(hidden.items)
        share = self.counts[candidates] / max(1, self.counts.sum())
        expected = num * share + self.config.num_uniform / len(self.known)
        weights = np.ones(num, np.float32) if hidden.weights is None else hidden.weights
        place = np.searchsorted(candidates, kept.items)
        known = candidates[np.minimum(place, len(candidates) - 1)] == kept.items
        arrays = (
            hidden.rows,
            np.searchsorted(candidates, hidden.items),
            weights / max(1.0, weights.sum()),
            kept.rows[known],
            place[known],
            np.log(-np.expm1(-expected)).astype(np.float32),
        )
        return Targets(*(torch.from_numpy(values) for values in arrays))
