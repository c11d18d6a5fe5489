"""The ranker's features for the candidates of many queries, over columns.

The same numbers as `feature_store.ranking.ranking_features` gives for each of them, up to the
rounding of sums; a test holds them together.
"""

import numpy as np
from numpy.typing import NDArray

from feature_store.ranking import (
    ACTIVITY_HALF_LIFE_DAYS,
    AFFINITY_HALF_LIFE,
    GROUP,
    GROUP_FEATURES,
    GROUPS,
    MAX_RANK,
    NEVER_DAYS,
    NO_GROUP,
    USER,
    USER_FEATURES,
    Floats,
    ItemColumns,
    fill_features,
    group_totals,
)
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import BASKET_DTYPE, TOTALS_DTYPE
from online.together.queries import Queries
from online.together.ragged import Lists, Places, joined_rows, places_in, sortable, starts_of
from online.types import Scores


def features_together(
    queries: Queries, candidates: Lists, columns: ItemColumns, scores: Scores
) -> Scores:
    """Features of all candidates, shape (n, features); `scores` has shape (sources, n)."""
    past, history = queries.past, queries.history
    place, known = places_in(
        queries.keys(past.owner, past.items), queries.keys(candidates.owner, candidates.items)
    )
    states = [query.state for query in queries.each]
    totals = joined_rows([state.totals for state in states], TOTALS_DTYPE)[0]
    out = np.empty((len(candidates.items), USER.stop + 2 * len(scores)), np.float32)
    num_baskets = totals["num_baskets"].astype(np.float64)[past.owner]
    fill_features(out, columns, candidates.items, history, num_baskets, place, known, queries.time)
    out[:, GROUP] = _group_features(queries, candidates, columns)
    out[:, USER] = _user_features(queries, totals)[candidates.owner]
    out[:, USER.stop : USER.stop + len(scores)] = scores.T
    is_owned = out[:, 0] > 0
    for number, one in enumerate(scores, USER.stop + len(scores)):
        out[:, number] = _capped_ranks(candidates, one, is_owned)
    return out


def _group_features(queries: Queries, candidates: Lists, columns: ItemColumns) -> Scores:
    """GROUP_FEATURES of each candidate, shape (n, features)."""
    past, history = queries.past, queries.history
    wanted = columns.groups[candidates.items]
    if not len(past.items):
        return np.tile(NO_GROUP, (len(wanted), len(GROUPS)))
    own = columns.groups[past.items]
    num_codes = int(max(own.max(), wanted.max(initial=0))) + 1
    decayed = history.decayed[:, AFFINITY_HALF_LIFE]
    weight: Floats = np.bincount(past.owner, decayed, len(queries)).astype(np.float64)
    codes = own + past.owner[:, None] * np.int64(num_codes)
    keys, values = group_totals(history, codes, weight[past.owner])
    owner = keys // num_codes
    place = _look_up(
        owner, keys - owner * num_codes, candidates.starts, wanted, num_codes, len(queries)
    )
    with_none = np.append(values, NO_GROUP[None, :], axis=0)
    return with_none[place].reshape(len(wanted), len(GROUP_FEATURES))


def _look_up(
    owner: Places,
    codes: NDArray[np.int64],
    bounds: Places,
    wanted: NDArray[np.int32],
    num_codes: int,
    num_owners: int,
) -> NDArray[np.intp]:
    """Where each wanted code stands among its owner's, the number of codes where it does not."""
    table = np.full(num_codes, len(codes), np.intp)
    own = starts_of(owner, num_owners).tolist()
    place = np.empty(wanted.shape, np.intp)
    ends = bounds.tolist()
    for number in range(num_owners):
        mine = codes[own[number] : own[number + 1]]
        table[mine] = np.arange(own[number], own[number + 1])
        some = slice(ends[number], ends[number + 1])
        np.take(table, wanted[some], out=place[some])
        table[mine] = len(codes)
    return place


def _user_features(queries: Queries, totals: NDArray[np.void]) -> Scores:
    """USER_FEATURES of each query, shape (queries, features)."""
    baskets, starts, owner = joined_rows(
        [query.state.baskets for query in queries.each], BASKET_DTYPE
    )
    num_queries, past = len(queries), queries.past
    num_baskets = totals["num_baskets"].astype(np.float64)
    ages = np.maximum((queries.time - baskets["time"]) / MICROSECONDS_PER_DAY, 0.0)
    since = np.full(num_queries, NEVER_DAYS)
    filled = np.flatnonzero(np.diff(starts))
    since[filled] = ages[starts[filled + 1] - 1]
    fading = np.exp2(-ages / ACTIVITY_HALF_LIFE_DAYS)
    recent = np.bincount(owner, fading, minlength=num_queries)
    size = totals["num_purchases"] / np.maximum(num_baskets, 1.0)
    num_items = np.bincount(past.owner[queries.history.bought], minlength=num_queries)
    features = np.empty((num_queries, len(USER_FEATURES)), np.float32)
    features[:, 2] = since
    for column, values in ((0, num_baskets), (1, recent), (3, size), (4, num_items)):
        features[:, column] = np.log1p(values)
    return features


def _capped_ranks(candidates: Lists, scores: Scores, is_owned: NDArray[np.bool_]) -> Scores:
    """log(1 + rank) of each candidate among those of its owner that are owned, or are not.

    Cut at MAX_RANK; ties go to the lower item.
    """
    kind = 2 * candidates.owner + ~is_owned
    place = np.arange(len(scores)) - candidates.starts[candidates.owner]
    keys = sortable(kind, scores, place, int(place.max(initial=0)) + 1)
    order = np.argsort(keys)
    starts = starts_of(kind, 2 * len(candidates.starts))
    standing = np.arange(len(scores)) - starts[kind[order]]
    ranks = np.empty(len(scores), np.float32)
    ranks[order] = np.log1p(np.minimum(standing, MAX_RANK).astype(np.float32))
    return ranks
