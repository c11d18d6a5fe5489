"""The ranker's features: what is known of a user and a candidate at one instant.

Training at past cut-offs and serving now call `ranking_features` with a user's state and a
bundle's item columns, and nothing else, so that both see the same numbers. It knows no store,
no model, and of the sources only their scores.

Times are days before the request. A purchase that was never made is `NEVER_DAYS` old.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import HALF_LIVES_DAYS, Rows, UserState

RATED_SOURCES: Final = ("linear", "als", "affinity")
"""The sources whose scores of each candidate are features."""

MODEL_FILE: Final = "ranker.onnx"
FEATURES_FILE: Final = "ranker_features.json"

NEVER_DAYS: Final = 400.0
GAP_PRIOR: Final = 2.0
"""How many gaps of the item's usual length a user's own gaps are averaged with."""

MAX_DUE_RATIO: Final = 10.0
MAX_RANK: Final = 40.0
"""Ranks are cut here, so that they do not depend on how many candidates a placement asks for."""

GROUPS: Final = ("type", "category", "brand", "price_band")
AFFINITY_HALF_LIFE: Final = HALF_LIVES_DAYS.index(90.0)
ACTIVITY_HALF_LIFE_DAYS: Final = 30.0

FEATURE_HALF_LIVES: Final = tuple(HALF_LIVES_DAYS.index(days) for days in (10.0, 30.0, 90.0, 270.0))

PAIR_FEATURES: Final = (
    "count_log",
    *(f"decayed_{HALF_LIVES_DAYS[number]:g}" for number in FEATURE_HALF_LIVES),
    "days_since_last",
    "days_since_first",
    "gap_days",
    "due_ratio",
    "due_days",
    "basket_share",
    "quantity_mean",
    "feedback",
    "engagement",
)
GROUP_FEATURES: Final = tuple(
    f"{group}_{name}" for group in GROUPS for name in ("decayed", "share", "days", "items")
)
ITEM_FEATURES: Final = (
    "buyers_7",
    "buyers_28",
    "trend_short",
    "trend_long",
    "first_buyers_7",
    "first_buyers_28",
    "repeat_rate",
    "item_gap",
    "price_log",
    "discount",
    "basket_mates",
    "promo",
    "promo_lift",
    "share_of_type",
)
"""The columns of `ItemColumns.values`, written by training as of the bundle's horizon."""

USER_FEATURES: Final = (
    "baskets_log",
    "baskets_30",
    "days_since_basket",
    "basket_size",
    "num_items_log",
)

_DECAY: Final = -1.0 / np.array(HALF_LIVES_DAYS)

PRICE_FLOOR: Final = 0.1
"""Added to a price before its logarithm, so that what is free has one."""

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """What a bundle knows of each item for ranking.

    `values` has shape (items, ITEM_FEATURES). `groups` has shape (items, GROUPS): a code for
    the item's type, category, brand and price band, each code belonging to one group only.
    `first_time` is the first sale in microseconds UTC, shape (items,).
    """

    values: Matrix
    groups: Codes
    first_time: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class History:
    """A user's items that the bundle holds, sorted by item index, as of one instant.

    `rows` are the state's rows (ITEM_DTYPE), `bought` says which were ever purchased, `decayed`
    holds their purchase counts, shape (n, half-lives), and `days_since` the days since the
    last purchase.
    """

    items: NDArray[np.int32]
    rows: Rows
    bought: NDArray[np.bool_]
    decayed: Floats
    days_since: Floats


def open_columns(bundle: Bundle) -> ItemColumns:
    """The item columns of an opened bundle, memory-mapped."""
    return ItemColumns(
        values=bundle.column("ranking/values"),
        groups=bundle.column("ranking/groups"),
        first_time=bundle.column("ranking/first_time"),
    )


def feature_names(sources: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the columns of `ranking_features`, in order."""
    scores = tuple(f"{source}_score" for source in sources)
    ranks = tuple(f"{source}_rank" for source in sources)
    fixed = PAIR_FEATURES + GROUP_FEATURES + ITEM_FEATURES + ("item_days",) + USER_FEATURES
    return fixed + scores + ranks


def history_at(state: UserState, index: NDArray[np.int32], time: int) -> History:
    """The user's history; `index` is the item index of each row of `state.items`, or -1."""
    kept = (index >= 0).nonzero()[0]
    kept = kept[index[kept].argsort(kind="stable")]
    rows = state.items[kept]
    since = (time - rows["last_time"]) / MICROSECONDS_PER_DAY
    np.maximum(since, 0.0, out=since)
    np.minimum(since, NEVER_DAYS, out=since)
    decayed = rows["decayed"] * np.exp2(since[:, None] * _DECAY)
    return History(index[kept], rows, rows["count"] > 0, decayed, since)


def ranking_features(
    state: UserState,
    history: History,
    columns: ItemColumns,
    items: NDArray[np.int32],
    scores: Matrix,
    time: int,
) -> Matrix:
    """Features of the candidates `items`, shape (n, features), columns as in `feature_names`.

    `scores` has shape (sources, n): what each source says of every candidate.
    """
    place, known = _places(history.items, items)
    out = np.empty((len(items), len(feature_names(("",) * len(scores)))), np.float32)
    widths = (len(PAIR_FEATURES), len(GROUP_FEATURES), len(ITEM_FEATURES), 1, len(USER_FEATURES))
    pair, group, item, days, user, source = np.split(out, np.cumsum(widths), axis=1)
    item[:] = columns.values[items]
    item_gap = item[:, ITEM_FEATURES.index("item_gap")]
    _pair_features(pair, state, history, place, known, item_gap, time)
    _group_features(group, history, columns.groups, items)
    age_days = (time - columns.first_time[items]) / MICROSECONDS_PER_DAY
    days[:, 0] = np.minimum(age_days, NEVER_DAYS)
    user[:] = _user_features(state, history, time)
    source[:, : len(scores)] = scores.T
    source[:, len(scores) :] = _capped_ranks(scores, pair[:, 0] > 0).T
    return out


def _places(
    known: NDArray[np.int32], items: NDArray[np.int32]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each of `items` is in the sorted `known`, and whether it is there."""
    if not len(known):
        return np.zeros(len(items), np.intp), np.zeros(len(items), bool)
    place = np.minimum(np.searchsorted(known, items), len(known) - 1)
    return place, known[place] == items


def _pair_features(
    out: Matrix,
    state: UserState,
    history: History,
    place: NDArray[np.intp],
    known: NDArray[np.bool_],
    item_gap: Matrix,
    time: int,
) -> None:
    """PAIR_FEATURES: how often, how long ago, and whether it is due (gap against days since)."""
    out[:] = 0.0
    where = np.flatnonzero(known)
    rows, decayed = history.rows[place[where]], history.decayed[place[where]]
    count = rows["count"].astype(np.float64)
    first = np.full(len(where), NEVER_DAYS)
    np.divide(time - rows["first_time"], MICROSECONDS_PER_DAY, out=first, where=count > 0)
    since_all, first_all = np.full(len(out), NEVER_DAYS), np.full(len(out), NEVER_DAYS)
    gaps, weight = np.zeros(len(out)), np.full(len(out), GAP_PRIOR)
    since_all[where], first_all[where] = history.days_since[place[where]], first
    gaps[where] = np.maximum(first - since_all[where], 0.0)
    weight[where] += np.maximum(count - 1.0, 0.0)
    gap = (gaps + GAP_PRIOR * item_gap) / weight
    num = len(FEATURE_HALF_LIVES)
    out[where, 0] = np.log1p(count)
    out[where, 1 : num + 1] = np.log1p(decayed[:, FEATURE_HALF_LIVES])
    out[:, num + 1] = since_all
    out[:, num + 2] = first_all
    out[:, num + 3] = gap
    out[:, num + 4] = np.minimum(since_all / np.maximum(gap, 1e-6), MAX_DUE_RATIO)
    out[:, num + 5] = since_all - gap
    out[where, num + 6] = count / max(float(state.totals["num_baskets"][0]), 1.0)
    out[where, num + 7] = rows["quantity"] / np.maximum(count, 1.0)
    out[where, num + 8] = rows["feedback"]
    out[where, num + 9] = rows["engagement"]


def _group_features(out: Matrix, history: History, groups: Codes, items: NDArray[np.int32]) -> None:
    """GROUP_FEATURES: decayed purchases in the candidate's group, their share, days, breadth."""
    table = np.zeros((len(items) * len(GROUPS), len(GROUP_FEATURES) // len(GROUPS)), np.float32)
    table[:, 2] = NEVER_DAYS
    if len(history.items):
        known, values = _group_totals(history, groups)
        place, hit = _places(known, groups[items].ravel())
        table[hit] = values[place[hit]]
    out[:] = table.reshape(out.shape)


def _group_totals(history: History, groups: Codes) -> tuple[Codes, Matrix]:
    """The codes of the user's groups, sorted, and the GROUP_FEATURES of each."""
    codes = groups[history.items].ravel()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.concatenate(([True], np.diff(codes[order]) != 0)))
    row = order // len(GROUPS)
    weight = history.decayed[:, AFFINITY_HALF_LIFE]
    total = np.add.reduceat(weight[row], starts)
    days = np.minimum.reduceat(history.days_since[row], starts)
    breadth = np.log1p(np.diff(starts, append=len(order)))
    share = total / max(weight.sum(), 1e-9)
    values = np.column_stack((np.log1p(total), share, days, breadth)).astype(np.float32)
    return codes[order][starts], values


def _user_features(state: UserState, history: History, time: int) -> list[float]:
    totals = state.totals[0]
    num_baskets = float(totals["num_baskets"])
    ages = (time - state.baskets["time"]) / MICROSECONDS_PER_DAY
    since = max(float(ages[-1]), 0.0) if len(ages) else NEVER_DAYS
    recent = float(np.exp2(-np.maximum(ages, 0.0) / ACTIVITY_HALF_LIFE_DAYS).sum())
    size = float(totals["num_purchases"]) / max(num_baskets, 1.0)
    logs = np.log1p([num_baskets, recent, size, history.bought.sum()])
    return [float(logs[0]), float(logs[1]), since, float(logs[2]), float(logs[3])]


def _capped_ranks(scores: Matrix, owned: NDArray[np.bool_]) -> Matrix:
    """log(1 + rank) of each candidate by each source, among the owned or among the others.

    Shape (sources, n). Cut at MAX_RANK, and taken within the two kinds, the ranks are the same
    whether a placement asked a source for 60 candidates or for 140.
    """
    num_owned = int(owned.sum())
    order = np.lexsort((-scores, np.broadcast_to(~owned, scores.shape)), axis=1)
    standing = np.arange(scores.shape[1], dtype=np.float32)
    standing[num_owned:] -= num_owned
    ranks = np.empty_like(scores)
    np.put_along_axis(ranks, order, np.broadcast_to(standing, scores.shape), axis=1)
    capped: Matrix = np.log1p(np.minimum(ranks, MAX_RANK))
    return capped
