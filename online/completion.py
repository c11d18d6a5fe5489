"""A request completed into a query: ids become indexes, and what may be shown is settled.

It reads the snapshot and what is known of who asks, and runs no stage.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from feature_store.features import bought_lately
from feature_store.ranking import history_at
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY, EventKind
from feature_store.state import Rows
from online.catalog import Catalog
from online.columns import distinct
from online.corpora import num_places
from online.known import Known
from online.offering.experiments import Treatment, treatment_of
from online.offering.offer import Offer
from online.placements import MAX_PAGE_SIZE, Fatigue
from online.snapshot import Snapshot
from online.types import (
    NO_ITEMS,
    Indexes,
    Mask,
    PurchaseMode,
    Query,
    Request,
    bought,
    unwanted,
)

MICROSECONDS_PER_HOUR: Final = MICROSECONDS_PER_DAY // 24


def complete(snapshot: Snapshot, request: Request, known: Known) -> tuple[Query, tuple[str, ...]]:
    """The query of a request, and the ids it names that the bundle does not hold.

    Raises RequestError for a placement that the table does not have and a filter that is wrong.
    """
    placement = snapshot.placement(request.placement)
    treatment = treatment_of(snapshot.experiments, request)
    if treatment is not None:
        placement = treatment.placement(placement)
    if not known.consent.personalization:
        request = replace(request, session_items=())
    if not request.region and known.region:
        request = replace(request, region=known.region)
    catalog = snapshot.catalog
    state = known.user if request.user else known.session
    owned = catalog.indexes_of_keys(state.items["key"])
    named = (request.context_items, request.session_items, request.basket_items)
    context, session, basket = (catalog.indexes_of(ids) for ids in named)
    visited = catalog.indexes_of_keys(known.recent_keys(request.request_time))
    shown = _shown(snapshot, placement.fatigue, known, request.request_time)
    history = history_at(state, owned, request.request_time)
    own = history.items[history.bought]
    query = Query(
        request=request,
        num_wanted=min(num_places(request, placement.page_size), MAX_PAGE_SIZE),
        state=state,
        owned=owned,
        session=distinct(_held(session), _held(visited)),
        context=_held(context),
        basket=_held(basket),
        blocked=NO_ITEMS,
        only=own if request.purchase_mode is PurchaseMode.REPEAT_ONLY else None,
        history=history,
        not_new=NO_ITEMS,
        offer=_offer(snapshot, request, treatment),
        placement=placement,
        tired=distinct(shown),
        visit=latest_first(session, visited),
        arm="" if treatment is None else treatment.label,
    )
    blocked = distinct(*blocking(catalog, query).values())
    not_new = distinct(blocked, own) if len(blocked) else own
    query = replace(query, blocked=blocked, not_new=not_new)
    return query, _missing(named, (context, session, basket))


def blocking(catalog: Catalog, query: Query) -> dict[str, Indexes]:
    """What must not be shown, by the name of what forbids it: -1 for what the bundle lacks."""
    request, placement, owned, rows = query.request, query.placement, query.owned, query.state.items
    parts = {
        "excluded": catalog.indexes_of(request.exclude_items),
        "disliked": owned[unwanted(rows)],
    }
    if placement.hides_context:
        parts |= {"looked_at": query.context, "in_basket": query.basket}
    if placement.hides_seen:
        parts["seen"] = query.session
    if placement.fatigue is not None and not placement.fatigue.factor:
        parts["shown_lately"] = query.tired
    if request.purchase_mode is PurchaseMode.NEW_ONLY:
        parts["new_only"] = owned[bought(rows)]
    elif placement.waits_until_due:
        parts["not_due"] = owned[bought_lately(rows, request.request_time)]
    return parts


def _offer(snapshot: Snapshot, request: Request, treatment: Treatment | None) -> Offer:
    time, region = request.request_time, request.region
    offer = snapshot.shop.offer(request.placement, time, request.filter, region)
    return offer if treatment is None else treatment.offer(offer)


def is_cheap(snapshot: Snapshot, request: Request, known: Known) -> bool:
    """Whether the offer of a request is compiled already, or soon would be.

    RequestError as from `complete`, but for fields and values that there are not.
    """
    placement, region = snapshot.placement(request.placement), request.region or known.region
    return snapshot.shop.is_cheap(placement.name, request.request_time, request.filter, region)


def _shown(snapshot: Snapshot, fatigue: Fatigue | None, known: Known, time: int) -> Indexes:
    """What the user or the session was shown within the time that makes tired of it."""
    if fatigue is None:
        return NO_ITEMS
    since = time - int(fatigue.hours * MICROSECONDS_PER_HOUR)
    rows = [state.shown for state in (known.user, known.session) if len(state.shown)]
    keys = [part["key"][(part["time"] > since) & is_of(part, fatigue.kinds)] for part in rows]
    return snapshot.catalog.indexes_of_keys(np.concatenate(keys)) if keys else NO_ITEMS


def is_of(shown: Rows, kinds: Sequence[EventKind]) -> Mask:
    """Which rows are of these kinds, shape (n,)."""
    mask = np.zeros(len(shown), bool)
    for kind in kinds:
        mask |= shown["kind"] == EVENT_KIND_CODE[kind]
    return mask


def latest_first(*parts: Indexes) -> Indexes:
    """What the visit dealt with, the latest first, each item once."""
    if not any(map(len, parts)):
        return NO_ITEMS
    everything = np.concatenate(parts)[::-1].tolist()
    return np.array([item for item in dict.fromkeys(everything) if item >= 0], np.int32)


def _held(indexes: Indexes) -> Indexes:
    """Those of items that the bundle holds."""
    return indexes[indexes >= 0] if len(indexes) else indexes


def _missing(named: Sequence[Sequence[str]], indexes: Sequence[Indexes]) -> tuple[str, ...]:
    if not any(named):
        return ()
    return tuple(
        dict.fromkeys(
            item
            for ids, places in zip(named, indexes, strict=True)
            for item, place in zip(ids, places, strict=True)
            if place < 0
        )
    )
