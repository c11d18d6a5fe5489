"""The two towers. An item is the sum of its features' embeddings; a user is what they had.

An item's own id is one of its features, hashed buckets of category, brand, price or text are
others, so an item never seen in training still has a vector. A user is a weighted mean of the
items of the history plus what is known of user and request. Both towers end on the unit sphere.
It knows nothing of sampling, files or devices.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """`attention` False: history is pooled by a weight of each item alone (the baseline).

    With `attention` a learned query and the place in the sequence, in `num_positions` steps back
    from the latest, weigh it too. `num_context` is the number of ids that describe user and
    request, 0: none.
    """

    num_features: int
    dim: int = 128
    temperature: float = 0.1
    attention: bool = False
    num_positions: int = 32
    num_context: int = 0


@dataclass(frozen=True, slots=True)
class Bags:
    """Ragged rows: `ids` (n,), where each row begins `offsets` (rows,), `rows` (n,) of each id.

    `weights` has shape (n,); None: all 1.
    """

    ids: Tensor
    offsets: Tensor
    rows: Tensor
    weights: Tensor | None = None

    def sum(self, table: Tensor) -> Tensor:
        """The weighted sum of rows of `table` (ids, d) for each row, shape (rows, d)."""
        return functional.embedding_bag(
            self.ids, table, self.offsets, mode="sum", per_sample_weights=self.weights
        )


@dataclass(frozen=True, slots=True)
class Histories:
    """Bags of positions in the batch's items; `ages` (n,), 0 for the latest of its user.

    Weights of the items, positive, say how much the user bought of each.

    `context` holds bags of ids that describe user and request; None where the tower takes none.
    """

    items: Bags
    ages: Tensor
    context: Bags | None = None


class TwoTower(nn.Module):
    """The parameters of both towers."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Parameter(
            torch.randn(config.num_features, config.dim) * config.dim**-0.5
        )
        self.salience = nn.Parameter(torch.zeros(config.num_features, 1))
        self.prior = nn.Parameter(torch.zeros(config.dim))
        self.query, self.recency, self.context = (
            nn.Parameter(torch.zeros(shape)) if used else None
            for used, shape in (
                (config.attention, (config.dim,)),
                (config.attention, (config.num_positions,)),
                (config.num_context > 0, (config.num_context, config.dim)),
            )
        )

    def forward(
        self, bags: Bags, histories: Histories, candidates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Unit users (U, d), and items over temperature (C, d); `candidates` are rows of `bags`."""
        vectors, salience = self.items(bags)
        directions = functional.normalize(vectors[candidates], dim=1)
        return self.users(vectors, salience, histories), directions / self.config.temperature

    def items(self, bags: Bags) -> tuple[Tensor, Tensor]:
        """Raw item vectors (M, d), whose length is meant for pooling, and log weights (M,)."""
        return bags.sum(self.features), bags.sum(self.salience).squeeze(1)

    def users(self, vectors: Tensor, salience: Tensor, histories: Histories) -> Tensor:
        """Unit vectors (U, d): softmax-weighted mean of the history, context, a learned prior."""
        bags = histories.items
        logits = self.attend(vectors, salience)[bags.ids] + self.place(histories.ages)
        if bags.weights is not None:
            logits = logits + bags.weights.log()
        weights = segment_softmax(logits, bags.rows, len(bags.offsets))
        pooled = replace(bags, weights=weights).sum(vectors) + self.prior
        if self.context is not None and histories.context is not None:
            pooled = pooled + histories.context.sum(self.context)
        return functional.normalize(pooled, dim=1)

    def attend(self, vectors: Tensor, salience: Tensor) -> Tensor:
        """The log weight (M,) of each item in a history, whatever its place."""
        if self.query is None:
            return salience
        weight: Tensor = salience + vectors @ self.query * self.config.dim**-0.5
        return weight

    def place(self, ages: Tensor) -> Tensor:
        """The log weight (n,) of places, counted from the latest."""
        if self.recency is None:
            return torch.zeros(ages.shape, device=ages.device)
        weight: Tensor = self.recency[ages.clamp(max=self.config.num_positions - 1)]
        return weight


def segment_softmax(logits: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Softmax (n,) within each row; rows without entries have none."""
    peak = logits.detach().new_full((num_rows,), -torch.inf)
    peak = peak.scatter_reduce(0, rows, logits.detach(), "amax")
    exponent = (logits - peak[rows]).exp()
    total = exponent.new_zeros(num_rows).index_add(0, rows, exponent)
    return exponent / total[rows]
