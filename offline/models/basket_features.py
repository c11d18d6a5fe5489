"""Candidates and features for ranking the next basket, from the order of baskets alone.

Learning at several hidden baskets and predicting from the newest state compute the same numbers.
"Time" is the number of a user's baskets ago. It knows no labels and no files.

The sources: a linear filter on decayed rows, transitions from basket to next basket damped by
popularity, user-kNN on TIFU vectors, and what is popular in newest baskets.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offline.models.basket_knn import BasketKnnConfig, frequency_vectors, neighbour_scores
from offline.models.baskets import Baskets, Floats, Ids
from offline.models.linear import fit_linear
from offline.recipe import LinearConfig

Matrix = NDArray[np.float32]

DECAYS: Final = (0.5, 0.8, 0.95)
NEVER: Final = 99
CHUNK: Final = 500
TRANSITION_DEPTH: Final = 20
TRANSITION_DECAY: Final = 0.6
SOURCES: Final = ("linear", "transition", "knn")
PAIR_FEATURES: Final = (
    *("count", "decay_50", "decay_80", "decay_95", "last_back", "first_back"),
    *("gap", "due_ratio", "basket_share"),
)
ITEM_FEATURES: Final = (
    *("popularity", "newest_popularity", "second_popularity"),
    *("trend", "repeat_rate", "item_users"),
)
USER_FEATURES: Final = ("num_baskets", "basket_size", "newest_size", "num_items", "repeat_share")
FEATURES: Final = (
    *PAIR_FEATURES,
    *ITEM_FEATURES,
    *USER_FEATURES,
    *(f"{name}_score" for name in SOURCES),
    *(f"{name}_rank" for name in SOURCES),
)


@dataclass(frozen=True, slots=True)
class BasketSourceConfig:
    """Candidates of each source, and the models; items of fewer users are left to "owned"."""

    linear: LinearConfig = field(default_factory=lambda: LinearConfig(l2=200.0, num_neighbours=200))
    knn: BasketKnnConfig = field(default_factory=BasketKnnConfig)
    linear_decay: float = 0.9
    min_users: int = 8
    per_source: int = 60
    num_popular: int = 80
    max_owned: int = 120


@dataclass(frozen=True, slots=True)
class BasketRows:
    """Candidates, `user` and `item` (n,) sorted by both, with `features` (n, FEATURES)."""

    user: Ids
    item: Ids
    features: Matrix

    def column(self, name: str) -> Floats:
        """One feature of all rows, shape (n,)."""
        return self.features[:, FEATURES.index(name)].astype(np.float64)


def build_rows(history: Baskets, users: Ids, config: BasketSourceConfig) -> BasketRows:
    """Candidates of `users`, ascending, from a history that ends before what is predicted."""
    scores = _source_scores(history, config)
    newest = np.asarray(history.only(0).sum(axis=0)).ravel()
    popular = np.argsort(-newest, kind="stable")[: config.num_popular]
    owned = history.matrix(config.linear_decay**history.back)
    parts = []
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK]
        dense = [matrix[chunk].toarray() for matrix in scores]
        row, item = np.nonzero(_chosen(owned[chunk].toarray(), dense, popular, config))
        parts.append((chunk[row], item, np.column_stack([rated[row, item] for rated in dense])))
    user, item, score = (np.concatenate(part) for part in zip(*parts, strict=True))
    return BasketRows(user, item, _features(history, user, item, score))


def transition_weights(history: Baskets) -> sparse.csr_matrix:
    """Bought one basket after the other, over the root of both popularities, (items, items)."""
    total = sparse.csr_matrix((history.num_items, history.num_items))
    for back in range(min(int(history.back.max()), TRANSITION_DEPTH)):
        total = total + history.only(back + 1).T @ history.only(back)
    popularity = np.bincount(history.item, minlength=history.num_items) + 5.0
    damp = sparse.diags(popularity**-0.5)
    weights = (damp @ total @ damp).tocsr()
    return (weights - sparse.diags(weights.diagonal())).tocsr()


def _source_scores(history: Baskets, config: BasketSourceConfig) -> list[sparse.csr_matrix]:
    """Scores (users, items) of each of SOURCES."""
    profile = history.matrix(config.linear_decay**history.back)
    profile.data = np.log1p(profile.data)
    recent = history.matrix(TRANSITION_DECAY**history.back)
    return [
        _linear_scores(profile, config),
        (recent @ transition_weights(history)).tocsr(),
        neighbour_scores(frequency_vectors(history, config.knn), config.knn),
    ]


def _linear_scores(profile: sparse.csr_matrix, config: BasketSourceConfig) -> sparse.csr_matrix:
    """The linear filter over the items that enough users bought."""
    number = np.bincount(profile.indices, minlength=profile.shape[1])
    kept = np.flatnonzero(number >= config.min_users)
    fitted = fit_linear(profile[:, kept].astype(np.float32).tocsr(), config.linear)
    rows = np.repeat(np.arange(len(kept)), fitted.neighbours.shape[1])
    place = (rows, kept[fitted.neighbours.ravel()])
    shape = (len(kept), profile.shape[1])
    weights = sparse.csr_matrix((fitted.weights.ravel(), place), shape=shape)
    return (profile[:, kept] @ weights).tocsr()


def _chosen(
    owned: Floats, scores: list[Floats], popular: Ids, config: BasketSourceConfig
) -> NDArray[np.bool_]:
    """Which items are candidates, shape (users, items)."""
    chosen = np.zeros(owned.shape, bool)
    chosen[:, popular] = True
    rows = np.arange(len(owned))[:, None]
    limits = (config.max_owned, *(config.per_source for _ in scores))
    for score, limit in zip((owned, *scores), limits, strict=True):
        keep = min(limit, score.shape[1] - 1)
        best = np.argpartition(-score, keep, axis=1)[:, :keep]
        chosen[rows, best] |= score[rows, best] > 0
    return chosen


def _features(history: Baskets, user: Ids, item: Ids, score: Floats) -> Matrix:
    columns = _pair_columns(history, user, item) + _item_columns(history, item)
    columns += _user_columns(history, user)
    columns += [score[:, source] for source in range(score.shape[1])]
    columns += [_log_rank(user, score[:, source]) for source in range(score.shape[1])]
    return np.column_stack(columns).astype(np.float32)


def _pair_columns(history: Baskets, user: Ids, item: Ids) -> list[Floats]:
    """PAIR_FEATURES: what the user did with the item."""
    key = history.user * history.num_items + history.item
    pair, inverse, count = np.unique(key, return_inverse=True, return_counts=True)
    last, first = np.full(len(pair), float(NEVER)), np.zeros(len(pair))
    np.minimum.at(last, inverse, history.back)
    np.maximum.at(first, inverse, history.back)
    wanted = user * history.num_items + item
    slot = np.searchsorted(pair, wanted).clip(max=len(pair) - 1)
    known = pair[slot] == wanted

    def look_up(values: NDArray[np.generic], absent: float) -> Floats:
        return np.where(known, values[slot], absent)

    number, newest, oldest = look_up(count, 0), look_up(last, NEVER), look_up(first, NEVER)
    decayed = [np.bincount(inverse, decay**history.back) for decay in DECAYS]
    gap = (oldest - newest + 4.0) / (np.maximum(number - 1, 0) + 1.0)
    share = number / np.maximum(history.num_baskets()[user], 1)
    faded = [look_up(values, 0.0) for values in decayed]
    return [number, *faded, newest, oldest, gap, (newest + 1.0) / gap, share]


def _item_columns(history: Baskets, item: Ids) -> list[Floats]:
    """ITEM_FEATURES: how popular the item is, of late, and again with the same user."""
    total, newest, second = (
        np.bincount(history.item[mask], minlength=history.num_items).astype(np.float64)
        for mask in (history.back >= 0, history.back == 0, history.back == 1)
    )
    pair, count = np.unique(history.user * history.num_items + history.item, return_counts=True)
    buyers = np.bincount(pair % history.num_items, minlength=history.num_items)
    again = np.bincount(pair % history.num_items, count > 1, minlength=history.num_items)
    trend = np.log((newest + 3.0) / (total * newest.sum() / total.sum() + 3.0))
    repeat = (again + 2.0) / (buyers + 20.0)
    logs = [np.log1p(values) for values in (total, newest, second)]
    return [column[item] for column in (*logs, trend, repeat, np.log1p(buyers))]


def _user_columns(history: Baskets, user: Ids) -> list[Floats]:
    """USER_FEATURES: how much, how often and how varied the user buys."""
    pair = np.unique(history.user * history.num_items + history.item) // history.num_items
    lines, newest, distinct = (
        np.bincount(users, minlength=history.num_users).astype(np.float64)
        for users in (history.user, history.user[history.back == 0], pair)
    )
    baskets = np.maximum(history.num_baskets(), 1).astype(np.float64)
    repeat = 1.0 - distinct / np.maximum(lines, 1.0)
    return [column[user] for column in (baskets, lines / baskets, newest, distinct, repeat)]


def _log_rank(user: Ids, score: Floats) -> Floats:
    """log(1 + place) of each row among its user's, best first."""
    order = np.lexsort((-score, user))
    grouped = user[order]
    rank = np.empty(len(user))
    rank[order] = np.arange(len(user)) - np.searchsorted(grouped, grouped)
    return np.log1p(rank)
