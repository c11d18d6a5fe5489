"""Where a slate is shown: one row of one table for each placement.

A row names the sources with their sizes and weights; everything else of the pipeline
follows from it. The table is data: adding a placement is adding a row.
"""

from dataclasses import dataclass
from typing import Final

from feature_store.schema import EventKind


@dataclass(frozen=True, slots=True)
class SourceUse:
    """A source by name, how many candidates it may add, and its weight in a blend.

    `size_new` counts when only new items are wanted, by default the same. `only_new`: it is
    asked only for what the user never bought. `is_optional`: bundles may lack it, since not every
    recipe asks for it, and not every shop has what it is learned from.
    """

    source: str
    size: int
    weight: float
    size_new: int | None = None
    only_new: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Fatigue:
    """What was shown within `hours`, by a page or a mail, is shown later or not at all.

    Its score is multiplied by `factor`; at 0 it is not shown.
    """

    hours: float
    factor: float = 0.0
    kinds: tuple[EventKind, ...] = (EventKind.IMPRESSION,)


@dataclass(frozen=True, slots=True)
class Placement:
    """One place of a shop where a slate is shown.

    `is_ranked`: candidates are valued by the bundle's ranker, where it has one, not blended.
    `hides_context`: what the user is looking at, or has in the basket, is not offered again, and
    `hides_seen`: nor what this visit has looked at, and `waits_until_due`: nor what the user bought
    and does not need again yet. At most `max_per_category` and
    `max_per_brand` items of a kind while there are enough others, 0: any number. `diversity` is
    from 0 to 1, `explore_share` the share of slots that is drawn, and `fatigue` says for how
    long what was shown is not shown again; None: it may be. `fresh_weight` is what products that
    came after the training weigh in a blend; 0: they are not shown. `answers_search`: what fits the
    search of a request leads, where elsewhere a search only lifts it.
    """

    name: str
    sources: tuple[SourceUse, ...]
    page_size: int = 20
    is_ranked: bool = False
    hides_context: bool = True
    hides_seen: bool = False
    waits_until_due: bool = False
    max_per_category: int = 0
    max_per_brand: int = 0
    diversity: float = 0.0
    explore_share: float = 0.0
    fatigue: Fatigue | None = None
    fresh_weight: float = 0.05
    answers_search: bool = False

    @property
    def tires(self) -> bool:
        """Whether what is shown here makes tired of it, so that the state must know at once.

        What a mail would show is not shown before it is sent.
        """
        return self.fatigue is not None and EventKind.MAIL_SENT not in self.fatigue.kinds


MAX_PAGE_SIZE: Final = 200

POPULAR_LISTS: Final = ("popular", "popular_recent", "popular_week", "rising", "promoted")
"""Sources that are one list for everybody."""

_FOR_USER: Final = (
    SourceUse("repeat", 170, 1.0),
    SourceUse("linear", 60, 0.12, size_new=130, only_new=True),
    SourceUse("als", 40, 0.06, size_new=80, only_new=True),
    SourceUse("affinity", 50, 0.06, size_new=110, only_new=True),
    SourceUse("rising", 30, 0.02, size_new=50, only_new=True),
    SourceUse("popular_week", 20, 0.06, size_new=30, only_new=True),
    SourceUse("promoted", 10, 0.02, size_new=30, only_new=True),
    SourceUse("two_tower", 40, 0.06, size_new=80, only_new=True, is_optional=True),
    SourceUse("next_in_visit", 40, 0.6, is_optional=True),
)

_FOR_PRODUCT: Final = (
    SourceUse("similar", 100, 1.0),
    SourceUse("als_similar", 100, 0.8),
    SourceUse("bought_with", 60, 0.3),
    SourceUse("popular_in_category", 60, 0.2),
    SourceUse("als", 60, 0.1),
    SourceUse("next_in_visit", 60, 0.5, is_optional=True),
)
_FOR_BASKET: Final = (
    SourceUse("bought_with_basket", 100, 1.0),
    SourceUse("similar_to_visit", 60, 0.3),
    SourceUse("repeat", 100, 0.5),
    SourceUse("due", 40, 0.5),
    SourceUse("als", 60, 0.2),
    SourceUse("next_in_visit", 60, 0.6, is_optional=True),
)
_PAGES: Final = Fatigue(hours=0.25, factor=0.7)
_MAILED: Final = Fatigue(hours=6 * 24, kinds=(EventKind.MAIL_SENT, EventKind.IMPRESSION))

PLACEMENTS: Final[dict[str, Placement]] = {
    row.name: row
    for row in (
        Placement("home", _FOR_USER, is_ranked=True),
        Placement("email", _FOR_USER, is_ranked=True, waits_until_due=True, fatigue=_MAILED),
        Placement("search_empty", _FOR_USER, is_ranked=True, answers_search=True),
        Placement(
            "chat",
            (*_FOR_USER, SourceUse("similar_to_visit", 60, 0.3)),
            page_size=5,
            max_per_category=2,
            diversity=0.3,
            fatigue=Fatigue(hours=0.5),
        ),
        Placement(
            "buy_again",
            (SourceUse("repeat", 200, 1.0), SourceUse("due", 100, 0.5)),
            fresh_weight=0.0,
        ),
        Placement(
            "trending",
            (SourceUse("trending", 200, 1.0), SourceUse("popular_recent", 100, 0.3)),
            max_per_category=5,
            explore_share=0.1,
        ),
        Placement(
            "new_arrivals",
            (SourceUse("new_arrivals", 200, 1.0),),
            fresh_weight=1.0,
            max_per_category=5,
            diversity=0.2,
            explore_share=0.1,
            fatigue=Fatigue(hours=1.0),
        ),
        Placement(
            "product_similar", _FOR_PRODUCT, hides_seen=True, fatigue=_PAGES, fresh_weight=0.5
        ),
        Placement(
            "product_bought_together",
            (SourceUse("bought_with", 100, 1.0), SourceUse("similar", 60, 0.1)),
            page_size=10,
            fresh_weight=0.0,
            max_per_category=4,
            fatigue=_PAGES,
        ),
        Placement("cart", _FOR_BASKET, diversity=0.1, fatigue=_PAGES),
    )
}
