"""The two towers. An item is the sum of its features' embeddings; a user is what they had.

An item's own id is one of its features, hashed buckets of category, brand, price or text are
others, so an item never seen in training still has a vector. A user is a weighted mean of the
items of the history plus what is known of user and request. Both towers end on the unit sphere.
With `affinity` each tower has a sparse part beside that, one place a feature: how much of what the
user had was like that, and whether an item is. Their product says exactly what a dense vector of a
user with hundreds of likings can only blur. It knows nothing of sampling, files or devices.
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
    request, 0: none. `affinity`: items are also judged by each of their features, by how much the
    user had of it and by how much everybody likes it.
    """

    num_features: int
    dim: int = 128
    temperature: float = 0.1
    attention: bool = False
    num_positions: int = 32
    num_context: int = 0
    affinity: bool = False


@dataclass(frozen=True, slots=True)
class Bags:
    """Ragged rows: `ids` (n,), where each row begins `offsets` (rows,), `rows` (n,) of each id.

    `weights` has shape (n,); None: all 1.
    """

    ids: Tensor
    offsets: Tensor
    rows: Tensor
    weights: Tensor | None = None

    def chosen(self, rows: Tensor) -> "Bags":
        """Some of the rows, which must ascend."""
        place = torch.full_like(self.offsets, -1)
        numbers = torch.arange(len(rows), device=rows.device)
        place[rows] = numbers
        owner = place[self.rows]
        kept = owner >= 0
        weights = None if self.weights is None else self.weights[kept]
        offsets = torch.searchsorted(owner[kept], numbers)
        return Bags(self.ids[kept], offsets, owner[kept], weights)

    def dense(self, num_columns: int) -> Tensor:
        """The same as a matrix, shape (rows, columns); no id twice in a row."""
        size = (len(self.offsets), num_columns)
        filled = torch.zeros(size, device=self.ids.device)
        filled[self.rows, self.ids] = torch.ones(()) if self.weights is None else self.weights
        return filled

    def sum(self, table: Tensor) -> Tensor:
        """The weighted sum of rows of `table` (ids, d) for each row, shape (rows, d)."""
        return functional.embedding_bag(
            self.ids, table, self.offsets, mode="sum", per_sample_weights=self.weights
        )


@dataclass(frozen=True, slots=True)
class Histories:
    """Bags of positions in the batch's items; `ages` (n,), 0 for the latest of its user.

    Weights of the items, positive, say how much the user bought of each.

    `context` holds bags of ids that describe user and request, `taste` how much the user had of
    each feature; None where the tower takes none.
    """

    items: Bags
    ages: Tensor
    context: Bags | None = None
    taste: Bags | None = None


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
        self.loyalty, self.appeal = (
            nn.Parameter(torch.zeros(config.num_features)) if config.affinity else None
            for _ in range(2)
        )

    def forward(
        self, bags: Bags, histories: Histories, candidates: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Unit users (U, d), items over temperature (C, d), and the affinities (U, C), if any.

        `candidates` are rows of `bags`.
        """
        vectors, salience = self.items(bags)
        directions = functional.normalize(vectors[candidates], dim=1)
        users = self.users(vectors, salience, histories)
        affinities = None
        if histories.taste is not None:
            affinities = self.affinities(bags.chosen(candidates), histories.taste)
        return users, directions / self.config.temperature, affinities

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

    def affinities(self, bags: Bags, taste: Bags) -> Tensor:
        """For each user and item, over the item's features: loyalty * taste + appeal, (U, M)."""
        if self.loyalty is None or self.appeal is None:
            raise ValueError("these towers were made without `affinity`")
        liked = taste.dense(self.config.num_features) * self.loyalty + self.appeal
        return bags.sum(liked.T.contiguous()).T

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
