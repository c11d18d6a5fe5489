"""The values that pass through the pipeline, and the four kinds of stage.

Candidates are columns, never lists of objects: stages work on whole arrays. The types make
illegal moves impossible: only a `Source` may add items, only a `Filter` may remove them,
only a `Scorer` may value them and only a `Selector` may put them in order. Nothing here
knows protobuf, the store or a clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.coupons import Discount
from feature_store.ranking import History
from feature_store.schema import Corpus
from feature_store.state import Rows, UserState
from online.offering.offer import AllowedSet, Offer
from online.placements import Placement

Indexes = NDArray[np.int32]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rate = Callable[[Indexes], Scores]

NO_ITEMS: Final[Indexes] = np.zeros(0, np.int32)
NO_SCORES: Final[Scores] = np.zeros(0, np.float32)


class Cause(StrEnum):
    """Why a stage was left out of an answer."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    UNAVAILABLE = "unavailable"


class PurchaseMode(StrEnum):
    """Whether the slate may hold items that the user has bought before."""

    ANY = "any"
    NEW_ONLY = "new_only"
    REPEAT_ONLY = "repeat_only"


@dataclass(frozen=True, slots=True)
class Quota:
    """How many places of a slate a corpus gets; `num` None: as many as its values earn.

    `kinds`: only these kinds of the corpus, empty for all.
    """

    corpus: Corpus
    num: int | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BasketLine:
    """One line of a cart; `amount` is what the whole line costs in micros, None: not said."""

    item: str
    quantity: float = 1.0
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question, as the edge understood it: ids are the shop's, the user is a pseudonym.

    `request_time` is in microseconds UTC and is the only clock that the engine knows.
    `page_size` 0 asks for the placement's default, and so does `diversity` None. `filter` is
    an expression as `online.expression` has it, `category` the page's own. `explores`: the
    placement's share of slots may be drawn. `corpora` empty: products only. `languages` are those
    that texts may be in, best first, none for any; `locale` is that of the reasons. `basket_lines`
    are the basket in money, for coupons; `channel` is "" where it is not known. `seed` is what is
    drawn by for nobody: without a user and a session, requests that share it share their draws.
    `query` is what was typed into the shop's search, "" for nothing. `takes_part`: in the shop's
    experiments; what asks to judge or to mail does not.
    """

    request_time: int
    placement: str = "home"
    user: bytes = b""
    session: bytes = b""
    session_items: tuple[str, ...] = ()
    context_items: tuple[str, ...] = ()
    basket_items: tuple[str, ...] = ()
    exclude_items: tuple[str, ...] = ()
    page_size: int = 0
    purchase_mode: PurchaseMode = PurchaseMode.ANY
    locale: str = "en"
    device: str = ""
    filter: str = ""
    region: str = ""
    category: str = ""
    diversity: float | None = None
    explores: bool = False
    corpora: tuple[Quota, ...] = ()
    languages: tuple[str, ...] = ()
    basket_lines: tuple[BasketLine, ...] = ()
    channel: str = ""
    seed: int = 0
    query: str = ""
    takes_part: bool = False

    @property
    def drawn_by(self) -> bytes:
        """Who asks, as draws are seeded."""
        return self.user or self.session or b"%d" % self.seed

    def kinds(self, corpus: Corpus) -> tuple[str, ...]:
        """The kinds that are wanted of a corpus, empty for all."""
        return next((quota.kinds for quota in self.corpora if quota.corpus is corpus), ())


@dataclass(frozen=True, slots=True)
class Query:
    """A request completed against one bundle and one read of the store.

    `state` is what is known of the user, `owned` the bundle's index of each row of
    `state.items` (-1 for an item that the bundle does not hold). `session`, `context`,
    `basket` and `blocked` are item indexes; `blocked` is sorted and holds all that must
    not be shown. `only` is None, or the sorted indexes that alone may be shown. `history` is
    the state as of the request, by item index, and `not_new` is `blocked` and what was ever
    bought, sorted. `offer` is what the shop sells here, of which the filter lets something
    through, `tired` what was shown of late, sorted, and `visit` the items of the session, the
    latest first. `profiles` keeps what `online.stages.sources.profile` has made of them. `arm` is
    the experiment and the arm of it that who asks is in, "" for none.
    """

    request: Request
    num_wanted: int
    state: UserState
    owned: Indexes
    session: Indexes
    context: Indexes
    basket: Indexes
    blocked: Indexes
    only: Indexes | None
    history: History
    not_new: Indexes
    offer: Offer
    placement: Placement
    tired: Indexes
    visit: Indexes
    profiles: dict[int, tuple[Indexes, Scores]] = field(default_factory=dict)
    arm: str = ""

    @property
    def allowed(self) -> AllowedSet:
        """What may be shown, but for what `blocked` and `only` say."""
        return self.offer.allowed

    @property
    def diversity(self) -> float:
        """How varied the slate should be, from 0 to 1."""
        asked = self.request.diversity
        return self.placement.diversity if asked is None else asked

    @property
    def time(self) -> int:
        """The instant of the request, microseconds UTC."""
        return self.request.request_time


@dataclass(frozen=True, slots=True)
class Found:
    """What one source found: item indexes without repeats, and its own score for each.

    `rate` is the source's score of any items, for a source that can tell: a ranker wants to know
    what every source says of a candidate, whichever source brought it.
    """

    items: Indexes
    scores: Scores
    rate: Rate | None = None


NOTHING: Final = Found(NO_ITEMS, NO_SCORES)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What all sources found, merged: `items` sorted by index, shape (n,).

    `scores` has shape (sources, n): the score of each source, NaN where it did not find the
    item. `rates` has the `Found.rate` of each source.
    """

    items: Indexes
    scores: Scores
    rates: tuple[Rate | None, ...]

    def __len__(self) -> int:
        """The number of candidates."""
        return len(self.items)

    def keep(self, which: Mask | NDArray[np.intp]) -> "Candidates":
        """The candidates where a mask is true, or at these positions."""
        return Candidates(self.items[which], self.scores[:, which], self.rates)

    def rated(self, sources: Sequence[int]) -> Scores:
        """What these sources say of every candidate, 0 for nothing; shape (sources, n)."""
        rated = np.zeros((len(sources), len(self.items)), np.float32)
        for row, source in zip(rated, sources, strict=True):
            rate = self.rates[source]
            if rate is not None:
                row[:] = rate(self.items)
        return rated


@dataclass(frozen=True, slots=True)
class Selection:
    """Positions among the candidates, best first, and the propensity of each.

    The propensity is the probability that the item got its place: 1 where nothing was drawn.
    """

    positions: NDArray[np.intp]
    propensities: Scores


class Stage(Protocol):
    """A step of the pipeline."""

    @property
    def name(self) -> str:
        """What answers, logs and metrics call it."""
        ...


class Source(Stage, Protocol):
    """Finds candidates."""

    def retrieve(self, query: Query, limit: int, /) -> Found:
        """At most `limit` items that the query allows, best first where it can say."""
        ...


class Filter(Stage, Protocol):
    """Removes candidates."""

    def keep(self, query: Query, candidates: Candidates, /) -> Mask:
        """True for each candidate that stays, shape (n,)."""
        ...


class Scorer(Stage, Protocol):
    """Values candidates."""

    def score(self, query: Query, candidates: Candidates, /) -> Scores:
        """The higher the better, shape (n,)."""
        ...

    def main_sources(
        self, query: Query, candidates: Candidates, positions: NDArray[np.intp], /
    ) -> NDArray[np.intp]:
        """Which source moved each candidate at `positions` most: a row of `candidates.scores`."""
        ...


class Selector(Stage, Protocol):
    """Puts candidates in order."""

    def select(self, query: Query, candidates: Candidates, scores: Scores, /) -> Selection:
        """At most `query.num_wanted` of the candidates."""
        ...


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is in the slate: a code with parameters, which the edge puts into words."""

    code: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContentDetail:
    """What a page shows of a piece of content beside its title; `publish_time` 0: not known."""

    kind: str
    language: str
    summary: str = ""
    product_ids: tuple[str, ...] = ()
    publish_time: int = 0


@dataclass(frozen=True, slots=True)
class CouponDetail:
    """What a page shows of a coupon for this user and basket; money in micros, 0 for none.

    `saving` is what it gives on the basket, `missing` what the basket lacks of `minimum_basket`,
    `end_time` microseconds UTC (0: no end), `claim_id` the user's open claim.
    """

    discount: Discount
    terms: str = ""
    saving: int = 0
    minimum_basket: int = 0
    missing: int = 0
    end_time: int = 0
    claim_id: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """What a page shows of an item that is no product, in the language chosen for who asks."""

    title: str
    category: str = ""
    image_url: str = ""
    url: str = ""
    detail: ContentDetail | CouponDetail | None = None


@dataclass(slots=True)  # a frozen one takes three times as long to make
class SlateItem:
    """One place of a slate, not to be changed.

    `index` counts within the corpus. In a slate of several corpora `score` is the calibrated
    value. A product has no `card`: the catalogue shows it.
    """

    item: str
    index: int
    corpus: Corpus
    score: float
    source: str
    propensity: float
    reason: Reason
    card: Card | None = None


@dataclass(frozen=True, slots=True)
class Degraded:
    """A stage that was left out of an answer, and why."""

    stage: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Slate:
    """The answer: items best first, and how it came about."""

    items: tuple[SlateItem, ...]
    model_version: str
    missing: tuple[str, ...] = ()
    degraded: tuple[Degraded, ...] = ()
    arm: str = ""


def bought(items: Rows) -> Mask:
    """Which rows of a user's items were ever purchased."""
    mask: Mask = items["count"] > 0
    return mask


def unwanted(items: Rows) -> Mask:
    """Which rows of a user's items were disliked, or not to be shown again."""
    mask: Mask = items["feedback"] < 0
    return mask
