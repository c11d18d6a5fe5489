"""Content as a shelf: what is about the page first, then what is like the user's purchases.

The value of a piece is how often it is acted on, as the shop's own showings have it and a prior
where there are few, times what this page and this user make of it. One place of a slate may be
drawn among pieces that were hardly ever shown, so that they get their chance.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_store.language.postings import Weights
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY, Corpus, EventKind
from feature_store.state import HALF_LIVES_DAYS
from online.content.library import Library
from online.content.values import (
    MAX_VALUE,
    REASONS,
    SOURCE_EXPLORED,
    SOURCES,
    Weighed,
    rank_of,
    weigh,
)
from online.explain.findings import FilterFinding, SourceFinding, Standing
from online.known import Known
from online.types import Indexes, Mask, Query, Reason, SlateItem

PRIOR_VALUE: Final = 0.03
"""How often content is acted on, before anything was seen."""
PRIOR_OF_HELP: Final = 0.005
"""Help is for who asks; it comes up by itself only where it is linked."""
PRIOR_SHOWN: Final = 50.0
"""How many showings the prior stands for."""

LINK_LIFT: Final = 4.0
LIKENESS_LIFT: Final = 3.0
AFFINITY_LIFT: Final = 0.8
TASTE_LIFT: Final = 2.0
FRESH_LIFT: Final = 0.5
FRESH_DAYS: Final = 21.0
MIN_LIKENESS: Final = 0.3
"""Below this cosine two texts have nothing to do with each other."""
BASE_SMOOTHING: Final = 0.03
"""Added to both shares when a user's purchases are compared with everybody's."""
READ_FACTOR: Final = 0.2
READ_DAYS: Final = 60

HELP: Final = "help"
HALF_LIFE: Final = HALF_LIVES_DAYS.index(90.0)

EXPLORE_SHARE: Final = 0.3
"""How often the last place of a slate is drawn."""
EXPLORE_POOL: Final = 8
EXPLORE_SHOWN: Final = 100.0
"""Pieces shown more often than this are known well enough."""
MIN_EXPLORED_SLATE: Final = 2

_READ: Final = EVENT_KIND_CODE[EventKind.CONTENT_READ]


@dataclass(frozen=True, slots=True)
class ContentShelf:
    """The content of one bundle."""

    library: Library

    @property
    def corpus(self) -> Corpus:
        """What its items are."""
        return Corpus.CONTENT

    def recommend(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], num: int
    ) -> tuple[SlateItem, ...]:
        """See `online.corpora.Shelf`."""
        found = self._weigh(query, known, slate)
        order = self._in_order(query, found)
        chosen, propensities = self._explored(query, order, num)
        return tuple(
            self._item(query, found, piece, propensity)
            for piece, propensity in zip(chosen, propensities, strict=True)
        )

    def stand(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], item_id: str
    ) -> Standing | None:
        """See `online.corpora.Shelf`."""
        piece = int(self.library.pieces_of((item_id,))[0])
        if piece < 0:
            return None
        found = self._weigh(query, known, slate)
        order = self._in_order(query, found)
        place = np.flatnonzero(order == piece)
        return Standing(
            rank=int(place[0]) + 1 if len(place) else 0,
            score=float(found.values[piece]),
            sources=tuple(
                SourceFinding(source, rank_of(lift[order], lift[piece]), float(lift[piece]))
                for source, lift in zip(SOURCES, found.lifts, strict=True)
            ),
            filters=self._findings(query, piece),
            terms=found.terms(piece),
        )

    def _in_order(self, query: Query, found: Weighed) -> Indexes:
        """What may be shown, best first: what is linked to the page before all else."""
        shown = self.library.shown_at(query.time, query.request.kinds(Corpus.CONTENT))
        shown &= ~self._unwanted(query)
        order = np.lexsort((-found.values, ~found.is_linked)).astype(np.int32)
        return order[shown[order]]

    def _findings(self, query: Query, piece: int) -> tuple[FilterFinding, ...]:
        """What each filter makes of a piece."""
        kinds = query.request.kinds(Corpus.CONTENT)
        is_out = bool(self.library.shown_at(query.time, ())[piece])
        is_wanted = not kinds or self.library.kinds[piece] in kinds
        text = Reason("request_kinds", {"kinds": ", ".join(kinds) or "-"})
        return (
            FilterFinding("dates", is_out, Reason("dates")),
            FilterFinding("kinds", is_wanted, text),
            FilterFinding("unwanted", not self._unwanted(query)[piece], Reason("unwanted")),
        )

    def _weigh(self, query: Query, known: Known, slate: tuple[SlateItem, ...]) -> Weighed:
        """The value of every piece, and what it is made of."""
        library = self.library
        page = np.concatenate([query.context, query.basket]).astype(np.int32)
        links = library.links_of(page)
        near = _above(library.likeness(page))
        if not len(page):
            page = np.array([place.index for place in slate], np.int32)
            near = 0.3 * _above(library.likeness(page))
        affinity, taste = self._affinity(query)
        age_days = (query.time - library.columns.first_time) / MICROSECONDS_PER_DAY
        fresh = np.exp2(-np.maximum(age_days, 0) / FRESH_DAYS)
        fresh = np.where(library.columns.first_time > 0, fresh, 0.0)
        lifts = np.stack(
            [
                LINK_LIFT * links,
                LIKENESS_LIFT * near,
                AFFINITY_LIFT * affinity + TASTE_LIFT * taste,
                FRESH_LIFT * fresh,
            ]
        ).astype(np.float32)
        factors = np.where(self._read(query, known), READ_FACTOR, 1.0)
        return weigh(self._rates(links > 0), lifts, factors.astype(np.float32), links > 0)

    def _affinity(self, query: Query) -> tuple[Weights, Weights]:
        """How much more the user buys of what a piece is about than others do, and likes its text.

        The first is ln(user's share / everybody's), 0 where it is less; shapes (pieces,).
        """
        history = query.history
        weights = history.decayed[:, HALF_LIFE].astype(np.float32)
        if not len(weights) or weights.sum() <= 0:
            nothing = np.zeros(len(self.library), np.float32)
            return nothing, nothing
        shares = self.library.shares(history.items, weights)
        ratio = (shares + BASE_SMOOTHING) / (self.library.columns.base + BASE_SMOOTHING)
        taste = _above(self.library.likeness(history.items, weights))
        return np.maximum(np.log(ratio), 0.0).astype(np.float32), taste

    def _rates(self, is_linked: Mask) -> Weights:
        """How often each piece is acted on when shown: Beta-Bernoulli over a prior by kind."""
        columns = self.library.columns
        is_help = np.array([kind == HELP for kind in self.library.kinds])
        prior = np.where(is_help & ~is_linked, PRIOR_OF_HELP, PRIOR_VALUE)
        rates: Weights = (columns.acted + PRIOR_SHOWN * prior) / (columns.shown + PRIOR_SHOWN)
        return np.minimum(rates, MAX_VALUE)

    def _unwanted(self, query: Query) -> Mask:
        """What the user disliked or the request excludes."""
        library = self.library
        unwanted = np.zeros(len(library), bool)
        rows = query.state.items
        pieces = [
            library.pieces_of(query.request.exclude_items),
            library.columns.find(rows["key"][rows["feedback"] < 0]),
        ]
        for some in pieces:
            unwanted[some[some >= 0]] = True
        return unwanted

    def _read(self, query: Query, known: Known) -> Mask:
        """What was read of late."""
        read = np.zeros(len(self.library), bool)
        since = query.time - READ_DAYS * MICROSECONDS_PER_DAY
        for state in (known.user, known.session):
            rows = state.recent
            keys = rows["key"][(rows["kind"] == _READ) & (rows["time"] > since)]
            pieces = self.library.columns.find(keys)
            read[pieces[pieces >= 0]] = True
        return read

    def _explored(self, query: Query, order: Indexes, num: int) -> tuple[list[int], list[float]]:
        """The first `num`, the last of them at times drawn among the hardly ever shown.

        With each the probability that it got its place.
        """
        chosen = order[:num].tolist()
        propensities = [1.0] * len(chosen)
        pool = order[len(chosen) - 1 :][: EXPLORE_POOL * 4]
        pool = pool[self.library.columns.shown[pool] < EXPLORE_SHOWN][:EXPLORE_POOL]
        if not query.request.explores or len(chosen) < MIN_EXPLORED_SLATE or len(pool) < 2:
            return chosen, propensities
        dice = np.random.default_rng(_seed(query))
        best = chosen[-1]
        if dice.random() < EXPLORE_SHARE:
            chosen[-1] = int(dice.choice(pool))
        drawn = EXPLORE_SHARE / len(pool) if chosen[-1] in pool else 0.0
        propensities[-1] = drawn + (1 - EXPLORE_SHARE if chosen[-1] == best else 0.0)
        return chosen, propensities

    def _item(self, query: Query, found: Weighed, piece: int, propensity: float) -> SlateItem:
        library, request = self.library, query.request
        version = library.version(piece, request.languages or (request.locale,))
        source = SOURCE_EXPLORED if propensity < 0.5 else found.source(piece)
        return SlateItem(
            item=library.columns.id[piece],
            index=piece,
            corpus=Corpus.CONTENT,
            score=float(found.values[piece]),
            source=source,
            propensity=propensity,
            reason=Reason(REASONS[source]),
            card=library.card(piece, version),
        )


def _above(likeness: Weights) -> Weights:
    """What of a cosine says that two texts have to do with each other, from 0 to 1."""
    above: Weights = np.maximum(likeness - MIN_LIKENESS, 0.0) / (1 - MIN_LIKENESS)
    return above


def _seed(query: Query) -> int:
    """The same dice for the same user, place and day."""
    request = query.request
    day = query.time // MICROSECONDS_PER_DAY
    text = b"content|%s|%s|%d" % (request.drawn_by, request.placement.encode(), day)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
