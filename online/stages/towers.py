"""The two-tower as a source: items near the vector that the user tower makes of the history.

The history is the profile that training learned from, in the order of the last purchases, with
what the visit showed interest in behind: the last click moves the vector. Bound to one bundle;
reads only the query.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.state import NO_TIME
from feature_store.two_tower import INDEX, LENGTH, SALIENCE, SETTINGS, SOURCE, USER_TOWER, VECTORS
from online.stages.searching import search_together
from online.stages.sources import profile
from online.stages.vectors import Vector, VectorIndex
from online.together.queries import FoundTogether, Queries, nothing_found
from online.together.ragged import Places
from online.types import NOTHING, Found, Indexes, Query, Scores

QUERIES_AT_ONCE = 64
"""So many histories are laid side by side, each as long as the longest of them."""


@dataclass(frozen=True, slots=True)
class TwoTower:
    """Items near the user's vector, by cosine.

    `index` holds item vectors of length 1, `length` and `salience`, shape (items,), are what the
    user tower, `session`, wants to know of each beside. The `max_history` latest items count.
    """

    name: str
    index: VectorIndex
    length: Scores
    salience: Scores
    session: onnxruntime.InferenceSession
    half_life: int
    max_history: int

    def retrieve(self, query: Query, limit: int) -> Found:
        """The nearest allowed items; nothing for a user without a history or session."""
        items, strength = latest(query, self.half_life, self.max_history)
        if not len(items):
            return NOTHING
        vector = self.embed([(items, strength)])[0]
        found = self.index.search(query, vector, limit)
        return Found(found.items, found.scores, lambda wanted: self.index.vectors[wanted] @ vector)

    def retrieve_together(self, queries: Queries, limits: Places) -> FoundTogether:
        """The nearest allowed items for each query whose user has a history or session."""
        known = [latest(query, self.half_life, self.max_history) for query in queries.each]
        lengths = np.array([len(items) for items, _ in known])
        asked = np.flatnonzero(lengths)
        if not len(asked):
            return nothing_found(len(queries))
        vectors = np.zeros((len(queries), self.index.vectors.shape[1]), np.float32)
        by_length = asked[np.argsort(lengths[asked], kind="stable")]
        for start in range(0, len(by_length), QUERIES_AT_ONCE):
            some = by_length[start : start + QUERIES_AT_ONCE]
            vectors[some] = self.embed([known[number] for number in some.tolist()])
        return search_together(self.index, queries, asked, vectors, limits)

    def embed(self, histories: Sequence[tuple[Indexes, Scores]]) -> Vector:
        """Unit vectors of users with these items and strengths, shape (users, dimensions)."""
        longest = max(len(items) for items, _ in histories)
        items = np.zeros((len(histories), longest), np.int32)
        strength = np.zeros((len(histories), longest), np.float32)
        for row, (own, had) in enumerate(histories):
            items[row, : len(own)], strength[row, : len(own)] = own, had
        users: Vector = self.session.run(
            None,
            {
                "vectors": self.index.vectors[items] * self.length[items][:, :, None],
                "salience": self.salience[items],
                "strength": strength,
            },
        )[0]
        return users


def latest(query: Query, half_life: int, limit: int) -> tuple[Indexes, Scores]:
    """The user's items, the latest last, and their strength in the profile; `limit` at most.

    What the visit dealt with comes after what is in the basket, and that after purchases.
    """
    items, strength = profile(query, half_life)
    order = np.argsort(_times(query, items), kind="stable")[-limit:]
    return items[order], strength[order]


def _times(query: Query, items: Indexes) -> NDArray[np.int64]:
    """When each of `items`, sorted, was bought last, or dealt with now; shape (n,)."""
    history, times = query.history, np.full(len(items), NO_TIME)
    place = np.searchsorted(items, history.items)
    inside = np.flatnonzero(place < len(items))
    hit = inside[items[place[inside]] == history.items[inside]]
    times[place[hit]] = history.rows["last_time"][hit]
    now = np.concatenate((query.basket, query.visit[::-1]))
    times[np.searchsorted(items, now)] = query.time + 1 + np.arange(len(now))
    return times


def open_two_tower(bundle: Bundle) -> TwoTower:
    """The source of an opened bundle that has it; its user tower runs on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        bundle.path(USER_TOWER).read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    settings = bundle.json(SETTINGS)
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
    return TwoTower(
        name=SOURCE,
        index=VectorIndex(faiss.read_index(str(bundle.path(INDEX)), flags), bundle.column(VECTORS)),
        length=bundle.column(LENGTH),
        salience=bundle.column(SALIENCE),
        session=session,
        half_life=settings["half_life"],
        max_history=settings["max_history"],
    )
