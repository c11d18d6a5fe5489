"""Many queries of one placement and moment, each as its stages know it, and all of them as columns.

A stage that has a method for many of them reads the columns; any other is asked one by one. The
columns hold what the single queries hold, in the same order. It knows no snapshot and no store.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from feature_store.ranking import History
from feature_store.state import Rows
from online.offering.allowed import holds
from online.offering.offer import AllowedSet
from online.together.ragged import Keys, Lists, Places, lists, places_among, starts_of
from online.types import Candidates, Found, Indexes, Mask, Query, Rate, Scores

RateTogether = Callable[[Places, Indexes], Scores]
"""A source's scores of items (n,), each for the owner of that number, ascending (n,)."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries of one placement, instant, purchase mode, offer and page; `each` of them alone.

    `owned` is the index of each row of all states' items (`rows`), or -1. `past` says whose the
    entries of `history` are. The lists are those of the same name of a query. Nobody has a page
    or a basket.
    """

    each: tuple[Query, ...]
    num_items: int
    rows: Rows
    owned: Lists
    history: History
    past: Lists
    session: Lists
    blocked: Lists
    not_new: Lists

    def __len__(self) -> int:
        """How many there are."""
        return len(self.each)

    @property
    def allowed(self) -> AllowedSet:
        """What may be shown to all of them, but for what is blocked."""
        return self.each[0].offer.allowed

    @property
    def time(self) -> int:
        """The instant of the requests, microseconds UTC."""
        return self.each[0].request.request_time

    def unowned(self) -> "Queries":
        """The same queries for what their users have never bought."""
        each = tuple(replace(query, blocked=query.not_new) for query in self.each)
        return replace(self, each=each, blocked=self.not_new)

    def keys(self, owner: Places, items: Indexes) -> Keys:
        """One number for each pair, that sorts by owner and then by item."""
        return owner * np.int64(self.num_items) + items

    def allows(self, owner: Places, items: Indexes) -> Mask:
        """Which items the query of the same number may show; shape (n,)."""
        mask = holds(self.allowed, items)
        blocked = self.keys(self.blocked.owner, self.blocked.items)
        if len(blocked):
            keys = self.keys(owner, items)
            place = np.minimum(np.searchsorted(blocked, keys), len(blocked) - 1)
            mask &= blocked[place] != keys
        return mask


@dataclass(frozen=True, slots=True)
class FoundTogether:
    """What one source found for many queries, by owner; `rate` as `Found.rate`."""

    lists: Lists
    scores: Scores
    rate: RateTogether | None = None


@dataclass(frozen=True, slots=True)
class CandidatesTogether:
    """The candidates of many queries, sorted by owner and item; else as `Candidates`.

    `rates` has the `FoundTogether.rate` of each source.
    """

    lists: Lists
    scores: Scores
    rates: tuple[RateTogether | None, ...]

    def of(self, number: int) -> Candidates:
        """Those of one query, which cannot be rated."""
        first, end = self.lists.starts[number : number + 2].tolist()
        nothing: tuple[Rate | None, ...] = (None,) * len(self.rates)
        return Candidates(self.lists.items[first:end], self.scores[:, first:end], nothing)

    def keep(self, which: Mask) -> "CandidatesTogether":
        """The candidates where a mask is true."""
        owner = self.lists.owner[which]
        kept = lists(self.lists.items[which], owner, len(self.lists.starts) - 1)
        return CandidatesTogether(kept, self.scores[:, which], self.rates)

    def rated(self, sources: tuple[int, ...]) -> Scores:
        """What these sources say of every candidate, 0 for nothing; shape (sources, n)."""
        rated = np.zeros((len(sources), len(self.lists.items)), np.float32)
        for row, source in zip(rated, sources, strict=True):
            rate = self.rates[source]
            if rate is not None:
                row[:] = rate(self.lists.owner, self.lists.items)
        return rated


@runtime_checkable
class SourceTogether(Protocol):
    """A source that finds for many queries at once what it finds for each of them."""

    def retrieve_together(self, queries: Queries, limits: Places, /) -> FoundTogether:
        """At most `limits[n]` items for query n."""
        ...


def nothing_found(num_queries: int) -> FoundTogether:
    """What a source without an answer finds."""
    none = lists(np.zeros(0, np.int32), np.zeros(0, np.intp), num_queries)
    return FoundTogether(none, np.zeros(0, np.float32))


def together(found: list[Found]) -> FoundTogether:
    """What was found for one query after the other."""
    owner = np.repeat(np.arange(len(found)), [len(one.items) for one in found])
    starts = starts_of(owner, len(found))
    rates = [one.rate for one in found]

    def rate(owners: Places, items: Indexes) -> Scores:
        scores = np.zeros(len(items), np.float32)
        bounds = starts_of(owners, len(found))
        for number, one in enumerate(rates):
            own = slice(bounds[number], bounds[number + 1])
            if one is not None and own.stop > own.start:
                scores[own] = one(items[own])
        return scores

    return FoundTogether(
        Lists(np.concatenate([one.items for one in found]), owner, starts),
        np.concatenate([one.scores for one in found]),
        rate if any(one is not None for one in rates) else None,
    )


def without(queries: Queries, candidates: CandidatesTogether) -> NDArray[np.bool_]:
    """Which candidates their queries allow: the blocked are few, so they are looked for."""
    found, blocked = candidates.lists, queries.blocked
    mask = holds(queries.allowed, found.items)
    keys = queries.keys(found.owner, found.items)
    mask[places_among(keys, queries.keys(blocked.owner, blocked.items))] = False
    return mask
