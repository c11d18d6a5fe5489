"""Sources that lead through the shop: what sells in a category, what is new, what is due.

Bound to the arrays of one bundle, like all sources; they read only the query.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.features import decayed_count
from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY
from online.offering.allowed import allows, few_allowed
from online.offering.attributes import Attributes
from online.stages.vectors import top
from online.types import NOTHING, Found, Indexes, Query, Reason, Scores, Source

MAX_KEPT: Final = 512
"""How many of the best of a category are kept at hand, and for how many categories."""

NUM_SEGMENTS: Final = 3
SEGMENT_HALF_LIFE: Final = 1
NEW_DAYS: Final = 60.0
MIN_PURCHASES_DUE: Final = 3
MAX_OVERDUE: Final = 3.0
"""After three times the usual interval the habit counts as given up."""


@dataclass(frozen=True, slots=True)
class Shelves:
    """What sells by category: `order` lists the items node by node of the category tree.

    Node n's own items, best first, lie in `order` and `score` between `starts[n]` and
    `starts[n + 1]`.
    """

    order: Indexes
    score: Scores
    starts: NDArray[np.int64]
    _best: OrderedDict[tuple[int, int], Found] = field(default_factory=OrderedDict)

    def best(self, query: Query, first: int, end: int, limit: int) -> Found:
        """The best allowed items of the nodes from `first` up to `end`."""
        kept = self._kept(first, end)
        mask = allows(query, kept.items)
        if np.count_nonzero(mask) >= limit or len(kept.items) < MAX_KEPT:
            return Found(kept.items[mask][:limit], kept.scores[mask][:limit])
        rows = slice(int(self.starts[first]), int(self.starts[end]))
        items, scores = self.order[rows], self.score[rows]
        mask = allows(query, items)
        return top(items[mask], scores[mask], limit)

    def _kept(self, first: int, end: int) -> Found:
        found = self._best.get((first, end))
        if found is None:
            rows = slice(int(self.starts[first]), int(self.starts[end]))
            found = top(self.order[rows], self.score[rows], MAX_KEPT)
            self._best[first, end] = found
            while len(self._best) > MAX_KEPT:
                self._best.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class PopularInCategory:
    """What sells in the category of the page, or that of its products."""

    name: str
    shelves: Shelves
    attributes: Attributes

    def retrieve(self, query: Query, limit: int) -> Found:
        """The best of the page's category and below it; nothing for a page without one."""
        nodes = self.nodes_of(query)
        return NOTHING if nodes is None else self.shelves.best(query, *nodes, limit)

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """In which category they sell."""
        nodes = self.nodes_of(query)
        category = "" if nodes is None else _last_level(self.attributes.paths[nodes[0]])
        return [Reason("popular_in_category", {"category": category})] * len(items)

    def nodes_of(self, query: Query) -> tuple[int, int] | None:
        """The range of nodes that the page is about."""
        if query.request.category:
            return self.attributes.subtree(query.request.category)
        if not len(query.context):
            return None
        node = int(self.attributes.path[query.context[0]])
        return node, int(self.attributes.path_end[node])


@dataclass(frozen=True, slots=True)
class Trending:
    """What sells of late in the departments that the user buys from most.

    `departments` are the nodes of the first level and, last, the number of all nodes.
    """

    name: str
    shelves: Shelves
    attributes: Attributes
    departments: NDArray[np.int64]

    def retrieve(self, query: Query, limit: int) -> Found:
        """The best of each department, in turns by its share; nothing for a stranger."""
        numbers, shares = self.segments_of(query)
        parts = []
        for number, share in zip(numbers.tolist(), shares.tolist(), strict=True):
            first, end = self.departments[number], self.departments[number + 1]
            found = self.shelves.best(query, int(first), int(end), limit)
            fall = 1.0 / (3.0 + np.arange(len(found.items), dtype=np.float32))
            parts.append(Found(found.items, (share * fall).astype(np.float32)))
        if not parts:
            return NOTHING
        items = np.concatenate([part.items for part in parts])
        return top(items, np.concatenate([part.scores for part in parts]), limit)

    def reasons(self, _query: Query, items: Indexes) -> list[Reason]:
        """In which department of the user's they sell."""
        paths = self.attributes.paths
        names = [paths[node] for node in self.departments[self.department_of(items)].tolist()]
        return [Reason("popular_in_category", {"category": name}) for name in names]

    def segments_of(self, query: Query) -> tuple[NDArray[np.intp], Scores]:
        """The numbers of the user's main departments, and the share of each in what they buy."""
        history = query.history
        if not len(history.items):
            return np.zeros(0, np.intp), np.zeros(0, np.float32)
        weight = history.decayed[:, SEGMENT_HALF_LIFE]
        number = self.department_of(history.items)
        total = np.bincount(number, weight, minlength=len(self.departments) - 1)
        main = np.argsort(-total, kind="stable")[:NUM_SEGMENTS]
        main = main[total[main] > 0]
        return main, (total[main] / max(total.sum(), 1e-12)).astype(np.float32)

    def department_of(self, items: Indexes) -> NDArray[np.intp]:
        """The number of each item's department, shape (n,)."""
        path = self.attributes.path[items]
        found: NDArray[np.intp] = np.searchsorted(self.departments, path, side="right") - 1
        return found


@dataclass(frozen=True, slots=True)
class NewArrivals:
    """What came into the shop of late, first what the user's departments got.

    `order` lists the newest items, newest first.
    """

    name: str
    order: Indexes
    trending: Trending

    def retrieve(self, query: Query, limit: int) -> Found:
        """The newest allowed items of the last NEW_DAYS by age and the user's departments."""
        few = few_allowed(query)
        reach = 4 * limit + len(query.blocked) + int(limit / max(query.allowed.share, 0.05))
        items = self.order[:reach] if few is None else few
        created = self.trending.attributes.created_time[items]
        age_days = (query.time - created) / MICROSECONDS_PER_DAY
        mask = allows(query, items) & (age_days <= NEW_DAYS)
        items, age_days = items[mask], age_days[mask]
        taste = np.full(len(self.trending.departments), 0.1)
        numbers, shares = self.trending.segments_of(query)
        taste[numbers] += shares
        scores = taste[self.trending.department_of(items)] * (1.0 - age_days / (2 * NEW_DAYS))
        return top(items, scores.astype(np.float32), limit)


@dataclass(frozen=True, slots=True)
class Due:
    """What the user buys at intervals, when its time has come again."""

    name: str
    half_life: int

    def retrieve(self, query: Query, limit: int) -> Found:
        """Own items by habit times how near the next purchase is."""
        mask = (query.owned >= 0) & (query.state.items["count"] >= MIN_PURCHASES_DUE)
        items, rows = query.owned[mask], query.state.items[mask]
        ratio = (query.time - rows["last_time"]) / MICROSECONDS_PER_DAY / interval_days(rows)
        due = np.where(ratio <= MAX_OVERDUE, np.exp(-2.0 * np.log(np.maximum(ratio, 1e-3)) ** 2), 0)
        scores = (decayed_count(rows, self.half_life, query.time) * due).astype(np.float32)
        mask = allows(query, items) & (scores > 0)
        return top(items[mask], scores[mask], limit)

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """About how often the user buys each."""
        rows = query.state.items[[int((query.owned == item).argmax()) for item in items]]
        return [
            Reason("buy_again", {"interval_days": str(round(days))})
            for days in interval_days(rows).tolist()
        ]


def interval_days(rows: NDArray[np.void]) -> NDArray[np.float64]:
    """The mean days between purchases of each row, 1 at least; two purchases are needed."""
    span = (rows["last_time"] - rows["first_time"]) / MICROSECONDS_PER_DAY
    days: NDArray[np.float64] = np.maximum(span / np.maximum(rows["count"] - 1.0, 1.0), 1.0)
    return days


def browsing_sources(bundle: Bundle, attributes: Attributes) -> tuple[Source, ...]:
    """The sources of this module over an opened bundle."""
    shelves = Shelves(
        order=bundle.array("by_category/order"),
        score=bundle.array("by_category/score"),
        starts=bundle.array("by_category/starts"),
    )
    departments = np.append(attributes.department_starts(), len(attributes.paths))
    trending = Trending("trending", shelves, attributes, departments)
    return (
        PopularInCategory("popular_in_category", shelves, attributes),
        trending,
        NewArrivals("new_arrivals", bundle.array("new_arrivals/order"), trending),
        Due("due", bundle.json("serving.json")["repeat_half_life"]),
    )


def _last_level(path: str) -> str:
    return path.rpartition(CATEGORY_SEPARATOR)[2]
