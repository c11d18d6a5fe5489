"""The feature views: every value that is kept for features or served as one, declared once.

A declaration says whose value it is, from which events, over which time, and what stands there
when nothing is known. It computes nothing: states are changed by `feature_store.features`,
read by `feature_store.ranking`, and an item's columns are learned offline. Tests hold the
declarations to what is computed, and `fingerprint` names the whole, so that a bundle says which
features it was trained on.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Final

from feature_store.effects import (
    ENGAGEMENT_HALF_LIFE_DAYS,
    ENGAGEMENT_WEIGHT,
    FEEDBACK,
    SHOWN_KINDS,
)
from feature_store.ranking import (
    ACTIVITY_HALF_LIFE_DAYS,
    AFFINITY_HALF_LIFE,
    FEATURE_HALF_LIVES,
    GROUPS,
    NEVER_DAYS,
    feature_names,
)
from feature_store.schema import EVENT_KINDS, EventKind
from feature_store.state import (
    BASKET_DTYPE,
    HALF_LIVES_DAYS,
    ITEM_DTYPE,
    MAX_BASKETS,
    MAX_ITEMS,
    MAX_RECENT,
    MAX_SEEN,
    MAX_SHOWN,
    RECENT_DTYPE,
    STATE_LAYOUT,
    TOTALS_DTYPE,
)


class Entity(StrEnum):
    """Whose value it is."""

    USER = "user"
    ITEM = "item"
    PAIR = "user x item"
    SOURCE = "request x item"


class Kept(StrEnum):
    """Where the value comes from when a request is answered, and so how fresh it is."""

    STATE = "state"
    """The online store: fresh with the user's last acknowledged event."""
    BUNDLE = "bundle"
    """The bundle: as of its horizon."""
    READ = "read"
    """Computed at the instant of the request from the two."""


Kinds = tuple[EventKind, ...]
_PURCHASES: Final[Kinds] = (EventKind.PURCHASE,)
_ENGAGEMENTS: Final[Kinds] = tuple(ENGAGEMENT_WEIGHT)
_JUDGEMENTS: Final[Kinds] = tuple(FEEDBACK)
_SHOWN: Final[Kinds] = SHOWN_KINDS
_ACTIONS: Final[Kinds] = tuple(kind for kind in EVENT_KINDS if kind not in SHOWN_KINDS)


@dataclass(frozen=True, slots=True)
class View:
    """One declared value.

    `kinds` are the events that it is made of. `window_days` and `half_life_days` say how far
    back they count (None: for ever), `cap` that only so many of the latest are kept. After
    `ttl_days` without a new event the value has become its default (None: it stays). `default`
    is None where the value follows from others even for who is unknown, or has no single one.
    """

    name: str
    entity: Entity
    kept: Kept
    kinds: Kinds
    dtype: str = "float32"
    default: float | None = 0.0
    window_days: float | None = None
    half_life_days: tuple[float, ...] = ()
    cap: int | None = None
    ttl_days: float | None = None


def _state_views() -> tuple[View, ...]:
    """The columns of a user's state."""
    items = {
        "key": (_ACTIONS, None, ()),
        "first_time": (_PURCHASES, None, ()),
        "last_time": (_PURCHASES, None, ()),
        "engaged_time": (_ENGAGEMENTS, None, ()),
        "feedback_time": (_JUDGEMENTS, None, ()),
        "count": (_PURCHASES, 0.0, ()),
        "decayed": (_PURCHASES, 0.0, HALF_LIVES_DAYS),
        "quantity": (_PURCHASES, 0.0, ()),
        "spend": (_PURCHASES, 0.0, ()),
        "engagement": (_ENGAGEMENTS, 0.0, (ENGAGEMENT_HALF_LIFE_DAYS,)),
        "feedback": (_JUDGEMENTS, 0.0, ()),
    }
    pairs = tuple(
        View(
            f"items.{name}", Entity.PAIR, Kept.STATE, kinds, str(ITEM_DTYPE[name].base), default,
            half_life_days=half_lives, cap=MAX_ITEMS,
        )
        for name, (kinds, default, half_lives) in items.items()
    )  # fmt: skip
    totals = {"num_purchases": _PURCHASES, "num_baskets": _PURCHASES, "spend": _PURCHASES}
    return (
        *pairs,
        *_columns("recent", RECENT_DTYPE.names, _ACTIONS, MAX_RECENT),
        *_columns("shown", RECENT_DTYPE.names, _SHOWN, MAX_SHOWN),
        *_columns("baskets", BASKET_DTYPE.names, _PURCHASES, MAX_BASKETS),
        View("seen", Entity.USER, Kept.STATE, EVENT_KINDS, "uint64", None, cap=MAX_SEEN),
        *(
            View(
                f"totals.{name}", Entity.USER, Kept.STATE, totals.get(name, EVENT_KINDS),
                str(TOTALS_DTYPE[name]), None if name.endswith("time") else 0.0,
            )
            for name in TOTALS_DTYPE.names or ()
        ),
    )  # fmt: skip


def _columns(part: str, names: tuple[str, ...] | None, kinds: Kinds, cap: int) -> tuple[View, ...]:
    """The columns of a sequence of a state, the latest `cap` rows of it."""
    dtype = BASKET_DTYPE if part == "baskets" else RECENT_DTYPE
    return tuple(
        View(f"{part}.{name}", Entity.USER, Kept.STATE, kinds, str(dtype[name]), None, cap=cap)
        for name in names or ()
    )


def _pair(name: str, kinds: Kinds = _PURCHASES, **more: object) -> View:
    return View(name, Entity.PAIR, Kept.READ, kinds, **more)  # type: ignore[arg-type]


def _user(name: str, **more: object) -> View:
    return View(name, Entity.USER, Kept.READ, _PURCHASES, **more)  # type: ignore[arg-type]


def _item(name: str, window_days: float | None = None, kinds: Kinds = _PURCHASES) -> View:
    return View(name, Entity.ITEM, Kept.BUNDLE, kinds, default=None, window_days=window_days)


def _days_since(name: str) -> View:
    """Days end at NEVER_DAYS, which also stands for never."""
    return _pair(name, default=NEVER_DAYS, ttl_days=NEVER_DAYS)


_AFFINITY_DAYS: Final = (HALF_LIVES_DAYS[AFFINITY_HALF_LIFE],)

STATE_VIEWS: Final = _state_views()

RANKING_VIEWS: Final = (
    _pair("count_log"),
    *(
        _pair(f"decayed_{HALF_LIVES_DAYS[n]:g}", half_life_days=(HALF_LIVES_DAYS[n],))
        for n in FEATURE_HALF_LIVES
    ),
    _days_since("days_since_last"),
    _pair("days_since_first", default=NEVER_DAYS),
    _pair("gap_days", default=None),
    _pair("due_ratio", default=None),
    _pair("due_days", default=None),
    _pair("basket_share"),
    _pair("quantity_mean"),
    _pair("feedback", _JUDGEMENTS),
    _pair("engagement", _ENGAGEMENTS, half_life_days=(ENGAGEMENT_HALF_LIFE_DAYS,)),
    *(
        view
        for group in GROUPS
        for view in (
            _pair(f"{group}_decayed", half_life_days=_AFFINITY_DAYS),
            _pair(f"{group}_share", half_life_days=_AFFINITY_DAYS),
            _days_since(f"{group}_days"),
            _pair(f"{group}_items"),
        )
    ),
    _item("buyers_7", 7),
    _item("buyers_28", 28),
    _item("trend_short", 28),
    _item("trend_long", 56),
    _item("first_buyers_7", 7),
    _item("first_buyers_28", 28),
    _item("repeat_rate", 120),
    _item("item_gap"),
    _item("price_log", 56),
    _item("discount", 56),
    _item("basket_mates", 120),
    _item("promo", kinds=()),
    _item("promo_lift", 56, kinds=()),
    _item("share_of_type", 28),
    View("item_days", Entity.ITEM, Kept.READ, _PURCHASES, default=None, ttl_days=NEVER_DAYS),
    _user("baskets_log"),
    _user("baskets_30", half_life_days=(ACTIVITY_HALF_LIFE_DAYS,), cap=MAX_BASKETS),
    _user("days_since_basket", default=NEVER_DAYS),
    _user("basket_size"),
    _user("num_items_log"),
)
"""What the ranker is told of a user and an item, in the order of `ranking.feature_names`."""


def source_views(sources: tuple[str, ...]) -> tuple[View, ...]:
    """What the ranker is told of how the sources see a candidate."""
    names = feature_names(sources)[len(feature_names(())) :]
    return tuple(View(name, Entity.SOURCE, Kept.READ, _PURCHASES, default=None) for name in names)


def all_views(sources: tuple[str, ...]) -> tuple[View, ...]:
    """Every view of a bundle whose ranker is told of these sources."""
    return (*STATE_VIEWS, *RANKING_VIEWS, *source_views(sources))


def fingerprint(views: Iterable[View]) -> str:
    """16 hexadecimal digits that change when a declaration does, or the layout of a state."""
    text = repr((STATE_LAYOUT, [astuple(view) for view in views]))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
