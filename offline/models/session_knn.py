"""Session-kNN: sessions like this one vote for their items.

It reads the whole prefix jointly, which sums from item to item cannot, and needs no training. It
knows no wall time: sessions come oldest first.

V-SkNN (Ludewig and Jannach, UMUAI 2018) with the decays of STAN (Garg et al., SIGIR 2019): click
k of the prefix (0 is the latest) weighs exp(-k / query_decay); a past session's similarity is the
sum over shared clicks times idf, over its length^length_power, times exp(-age / recency); the
`num_neighbours` best vote, and a vote for an item fades with its distance in the past session from
the latest shared click, exp(-|distance| / vote_decay).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offline.models.sessions import Ids, Sessions, padded_tail

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SessionKnnConfig:
    """Decays in clicks, recency as a share of all sessions."""

    num_neighbours: int = 500
    history: int = 10
    query_decay: float = 1.5
    recency: float = 1.0
    vote_decay: float = 4.0
    length_power: float = 0.25
    idf_power: float = 0.75


@dataclass(frozen=True, slots=True)
class SessionIndex:
    """Past sessions and their inverted index.

    `click` holds positions in `sessions.items` grouped by item, those of item i from
    `item_starts[i]` to `item_starts[i + 1]`; `weight` (sessions,), `idf` (items,).
    """

    sessions: Sessions
    click: Ids
    item_starts: Ids
    weight: Floats
    idf: Floats


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Who votes, shape (n,): the prefix, the past session, its similarity, the shared click."""

    query: Ids
    session: Ids
    similarity: Floats
    anchor: Ids


def fit_session_knn(sessions: Sessions, num_items: int, config: SessionKnnConfig) -> SessionIndex:
    """Index the last click of each item in each session."""
    owner = sessions.session_of
    order = np.lexsort((np.arange(len(owner)), sessions.items))
    item, session = sessions.items[order], owner[order]
    last = np.append((item[1:] != item[:-1]) | (session[1:] != session[:-1]), True)
    click = order[last]
    count = np.bincount(sessions.items[click], minlength=num_items)
    age = (len(sessions) - 1 - np.arange(len(sessions))) / max(len(sessions), 1)
    lengths = sessions.lengths.astype(np.float64)
    weight = lengths**-config.length_power * np.exp(-age / config.recency)
    idf = np.log1p(len(sessions) / np.maximum(count, 1)) ** config.idf_power
    return SessionIndex(sessions, click, np.concatenate([[0], np.cumsum(count)]), weight, idf)


def score_session_knn(
    index: SessionIndex, prefixes: Sessions, config: SessionKnnConfig
) -> sparse.csr_matrix:
    """Votes (prefixes, items); ask in chunks of a few hundred prefixes."""
    query, click, part = _matches(index, prefixes, config)
    key = query * len(index.sessions) + index.sessions.session_of[click]
    pair, inverse = np.unique(key, return_inverse=True)
    query, session = np.divmod(pair, len(index.sessions))
    similarity = np.bincount(inverse, part, minlength=len(pair)) * index.weight[session]
    anchor = np.zeros(len(pair), np.int64)
    anchor[inverse[::-1]] = click[::-1]  # matches come latest first: the latest is written last
    kept = _best(query, similarity, config.num_neighbours)
    voters = _Neighbours(query[kept], session[kept], similarity[kept], anchor[kept])
    return _votes(index, voters, len(prefixes), config)


def _matches(
    index: SessionIndex, prefixes: Sessions, config: SessionKnnConfig
) -> tuple[Ids, Ids, Floats]:
    """All (prefix, past click, part of similarity) of shared items, latest prefix click first."""
    num_items = len(index.idf)
    tail = padded_tail(prefixes, config.history, num_items)
    for place in range(1, config.history):  # a repeated item counts once, at its latest place
        seen = (tail[:, :place] == tail[:, place : place + 1]).any(axis=1)
        tail[seen, place] = num_items
    back, query = np.nonzero(num_items > tail.T)
    item = tail[query, back]
    places, owner = _ranges(index.item_starts[item], np.diff(index.item_starts)[item])
    part = np.exp(-back / config.query_decay) * index.idf[item]
    return query[owner], index.click[places], part[owner]


def _ranges(start: Ids, size: Ids) -> tuple[Ids, Ids]:
    """The integers start[i] ... start[i] + size[i] - 1 for each i, and the i of each."""
    owner = np.repeat(np.arange(len(size)), size)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
    return start[owner] + within, owner


def _best(query: Ids, similarity: Floats, keep: int) -> Ids:
    order = np.lexsort((-similarity, query))
    ordered = query[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < keep]


def _votes(
    index: SessionIndex, voters: _Neighbours, num_prefixes: int, config: SessionKnnConfig
) -> sparse.csr_matrix:
    starts, lengths = index.sessions.starts[voters.session], index.sessions.lengths[voters.session]
    position, owner = _ranges(starts, lengths)
    distance = np.abs(position - voters.anchor[owner])
    vote = voters.similarity[owner] * np.exp(-distance / config.vote_decay)
    place = (voters.query[owner], index.sessions.items[position])
    return sparse.csr_matrix((vote, place), shape=(num_prefixes, len(index.idf)))
