"""The ranker's features: what is known of a user and a candidate at one instant.

Training at past cut-offs and serving now call `ranking_features` with a user's state and a
bundle's item columns, and nothing else, so that both see the same numbers. It knows no store,
no model, and of the sources only their scores.

Times are days before the request. A purchase that was never made is `NEVER_DAYS` old.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

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

_RANKS: Final = np.log1p(np.arange(MAX_RANK + 1, dtype=np.float32))
"""log(1 + rank) of each rank up to the highest."""

GROUPS: Final = ("type", "category", "brand", "price_band")
AFFINITY_HALF_LIFE: Final = HALF_LIVES_DAYS.index(90.0)
ACTIVITY_HALF_LIFE_DAYS: Final = 30.0

FEATURE_HALF_LIVES: Final = tuple(HALF_LIVES_DAYS.index(days) for days in (10.0, 30.0, 90.0, 270.0))
_FEATURE_ROWS: Final = np.array(FEATURE_HALF_LIVES)

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

_WIDTHS: Final = (
    len(PAIR_FEATURES), len(GROUP_FEATURES), len(ITEM_FEATURES), 1, len(USER_FEATURES),
)  # fmt: skip
PAIR, GROUP, ITEM, DAYS, USER = (
    slice(sum(_WIDTHS[:n]), sum(_WIDTHS[: n + 1])) for n in range(len(_WIDTHS))
)
"""Where the features of each kind stand; scores and ranks follow."""

_DECAY: Final = -1.0 / np.array(HALF_LIVES_DAYS)

NO_GROUP: Final = np.array([0.0, 0.0, NEVER_DAYS, 0.0], np.float32)
"""What is said of a group that the user never bought from."""

PRICE_FLOOR: Final = 0.1
"""Added to a price before its logarithm, so that what is free has one."""

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
Code = TypeVar("Code", np.int32, np.int64)


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

    def part(self, first: int, end: int) -> "History":
        """The entries from `first` to before `end`."""
        return History(
            self.items[first:end],
            self.rows[first:end],
            self.bought[first:end],
            self.decayed[first:end],
            self.days_since[first:end],
        )


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
    return history_of(state.items.take(kept), index.take(kept), time)


def history_of(rows: Rows, items: NDArray[np.int32], time: int) -> History:
    """The history that these rows tell, each of the item at its place, in their order."""
    since = (time - rows["last_time"]) / MICROSECONDS_PER_DAY
    np.maximum(since, 0.0, out=since)
    np.minimum(since, NEVER_DAYS, out=since)
    decayed = rows["decayed"] * np.exp2(since[:, None] * _DECAY)
    return History(items, rows, rows["count"] > 0, decayed, since)


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
    out = np.empty((len(items), USER.stop + 2 * len(scores)), np.float32)
    num_baskets = np.full(len(history.items), state.totals["num_baskets"][0], np.float64)
    fill_features(out, columns, items, history, num_baskets, place, known, time)
    out[:, GROUP] = _group_features(history, columns.groups, items)
    out[:, USER] = _user_features(state, history, time)
    out[:, USER.stop : USER.stop + len(scores)] = scores.T
    out[:, USER.stop + len(scores) :] = _capped_ranks(scores, out[:, 0] > 0).T
    return out


def fill_features(
    out: Matrix,
    columns: ItemColumns,
    items: NDArray[np.int32],
    history: History,
    num_baskets: Floats,
    place: NDArray[np.intp],
    known: NDArray[np.bool_],
    time: int,
) -> None:
    """Fill in PAIR, ITEM and DAYS of the features `out` of some candidates.

    `place` says where in the history each of `items` stands, if it is `known` there; shape (n,).
    `num_baskets` is how often the owner of each row of the history has bought anything.
    """
    item = out[:, ITEM]
    item[:] = columns.values.take(items, 0)
    item_gap = item[:, ITEM_FEATURES.index("item_gap")]
    _pair_features(out[:, PAIR], num_baskets, history, place, known, item_gap, time)
    age_days = (time - columns.first_time.take(items)) / MICROSECONDS_PER_DAY
    out[:, DAYS] = np.minimum(age_days, NEVER_DAYS)[:, None]


def _places(
    known: NDArray[np.int32], items: NDArray[np.int32]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each of `items` is in the sorted `known`, and whether it is there."""
    if not len(known):
        return np.zeros(len(items), np.intp), np.zeros(len(items), bool)
    place = known.searchsorted(items)
    np.minimum(place, len(known) - 1, out=place)
    return place, known.take(place) == items


def _pair_features(
    out: Matrix,
    num_baskets: Floats,
    history: History,
    place: NDArray[np.intp],
    known: NDArray[np.bool_],
    item_gap: Matrix,
    time: int,
) -> None:
    """PAIR_FEATURES: how often, how long ago, and whether it is due (gap against days since)."""
    num = len(FEATURE_HALF_LIVES)
    gap = item_gap.astype(np.float64)
    out[:] = 0.0
    out[:, num + 1 : num + 3] = NEVER_DAYS
    out[:, num + 3] = gap
    out[:, num + 4] = np.minimum(NEVER_DAYS / np.maximum(gap, 1e-6), MAX_DUE_RATIO)
    out[:, num + 5] = NEVER_DAYS - gap
    where = known.nonzero()[0]
    if len(where):
        own = _own_features(history, num_baskets, place[where], gap[where], time)
        out[where] = own


def _own_features(
    history: History,
    num_baskets: Floats,
    place: NDArray[np.intp],
    item_gap: Floats,
    time: int,
) -> Floats:
    """PAIR_FEATURES of what stands in the history at these places, shape (n, features)."""
    rows, since = history.rows.take(place), history.days_since.take(place)
    count = rows["count"].astype(np.float64)
    once = np.maximum(count, 1.0)
    num = len(FEATURE_HALF_LIVES)
    own = np.empty((len(PAIR_FEATURES), len(place)))
    np.log1p(count, out=own[0])
    np.log1p(history.decayed.take(place, 0).T[_FEATURE_ROWS], out=own[1 : num + 1])
    own[num + 1], first, gap = since, own[num + 2], own[num + 3]
    first[:] = NEVER_DAYS
    np.divide(time - rows["first_time"], MICROSECONDS_PER_DAY, out=first, where=count > 0)
    np.maximum(first - since, 0.0, out=gap)
    gap += GAP_PRIOR * item_gap
    gap /= once + (GAP_PRIOR - 1.0)
    np.minimum(since / np.maximum(gap, 1e-6), MAX_DUE_RATIO, out=own[num + 4])
    np.subtract(since, gap, out=own[num + 5])
    np.divide(count, np.maximum(num_baskets[place], 1.0), out=own[num + 6])
    np.divide(rows["quantity"], once, out=own[num + 7])
    own[num + 8], own[num + 9] = rows["feedback"], rows["engagement"]
    return own.T


def _group_features(history: History, groups: Codes, items: NDArray[np.int32]) -> Matrix:
    """GROUP_FEATURES: decayed purchases in the candidate's group, their share, days, breadth.

    As `group_totals` has them, for one user.
    """
    if not len(history.items):
        return np.tile(NO_GROUP, (len(items), len(GROUPS)))
    weight = history.decayed[:, AFFINITY_HALF_LIFE]
    codes = groups.take(history.items, 0).ravel()
    num_codes = int(codes.max()) + 1
    total = np.bincount(codes, weight.repeat(len(GROUPS)), num_codes + 1)  # the last is of others
    breadth = np.bincount(codes, minlength=num_codes + 1)
    days = np.full(num_codes + 1, NEVER_DAYS)
    np.minimum.at(days, codes, history.days_since.repeat(len(GROUPS)))
    wanted = groups.take(items, 0).astype(np.intp)
    np.minimum(wanted, num_codes, out=wanted)
    decayed = total.take(wanted)
    each = np.empty((len(items), len(GROUPS), len(NO_GROUP)), np.float32)
    each[:, :, 0] = np.log1p(decayed)
    each[:, :, 1] = decayed / max(float(weight.sum()), 1e-9)
    each[:, :, 2] = days.take(wanted)
    each[:, :, 3] = np.log1p(breadth.take(wanted))
    return each.reshape(len(items), -1)


def group_totals(
    history: History, codes: NDArray[Code], all_weight: np.floating | Floats
) -> tuple[NDArray[Code], Matrix]:
    """The distinct codes, sorted, and the GROUP_FEATURES of each, shape (codes, features a group).

    `codes` are the groups of each row, shape (n, GROUPS), `all_weight` the decayed purchases that
    shares are of: of everything, or of the owner of each row, whose codes are then nobody else's.
    """
    flat = codes.ravel()
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    is_first = np.empty(len(ordered), bool)
    is_first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    starts = is_first.nonzero()[0]
    row = order // len(GROUPS)
    total = np.add.reduceat(history.decayed[row, AFFINITY_HALF_LIFE], starts)
    days = np.minimum.reduceat(history.days_since[row], starts)
    breadth = np.log1p(np.diff(starts, append=len(order)))
    of_group = all_weight[row[starts]] if isinstance(all_weight, np.ndarray) else all_weight
    share = total / np.maximum(of_group, 1e-9)
    values = np.empty((len(starts), 4), np.float32)
    values[:, 0], values[:, 1], values[:, 2], values[:, 3] = np.log1p(total), share, days, breadth
    return ordered[starts], values


def _user_features(state: UserState, history: History, time: int) -> list[float]:
    """USER_FEATURES; `user_features` does the same for many."""
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
    num, num_owned = scores.shape[1], int(np.count_nonzero(owned))
    keys = (np.float32(0.0) - scores).view(np.int32).astype(np.int64)
    keys ^= (keys >> 31) & 0x7FFFFFFF  # as whole numbers, they have the order of the floats now
    keys += np.where(owned, 0, 1 << 33)
    keys <<= num.bit_length()
    keys |= np.arange(num)  # ties keep their order
    keys.sort(axis=1)
    order = keys & ((1 << num.bit_length()) - 1)
    standing = np.full(num, _RANKS[-1])
    for first, end in ((0, num_owned), (num_owned, num)):
        standing[first : min(end, first + len(_RANKS))] = _RANKS[: end - first]
    ranks = np.empty_like(scores)
    ranks[np.arange(len(scores))[:, None], order] = standing
    return ranks
