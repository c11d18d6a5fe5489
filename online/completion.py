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
from online.columns import distinct
from online.corpora import num_places
from online.known import Known
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
    blocked = [catalog.indexes_of(request.exclude_items), owned[unwanted(state.items)]]
    if placement.hides_context:
        blocked += [context, basket]
    if placement.hides_seen:
        blocked += [session, visited]
    shown = _shown(snapshot, placement.fatigue, known, request.request_time)
    if placement.fatigue is not None and not placement.fatigue.factor:
        blocked.append(shown)
    bought_items = owned[bought(state.items)]
    if request.purchase_mode is PurchaseMode.NEW_ONLY:
        blocked.append(bought_items)
    elif placement.waits_until_due:
        blocked.append(owned[bought_lately(state.items, request.request_time)])
    query = Query(
        request=request,
        num_wanted=min(num_places(request, placement.page_size), MAX_PAGE_SIZE),
        state=state,
        owned=owned,
        session=distinct(session[session >= 0], visited[visited >= 0]),
        context=context[context >= 0],
        basket=basket[basket >= 0],
        blocked=distinct(*blocked),
        only=_only(request.purchase_mode, bought_items),
        history=history_at(state, owned, request.request_time),
        not_new=distinct(*blocked, bought_items),
        offer=_offer(snapshot, request),
        placement=placement,
        tired=distinct(shown),
        visit=_latest_first(session, visited),
    )
    return query, _missing(named, (context, session, basket))


def _offer(snapshot: Snapshot, request: Request) -> Offer:
    time, region = request.request_time, request.region
    return snapshot.shop.offer(request.placement, time, request.filter, region)


def _shown(snapshot: Snapshot, fatigue: Fatigue | None, known: Known, time: int) -> Indexes:
    """What the user or the session was shown within the time that makes tired of it."""
    if fatigue is None:
        return NO_ITEMS
    since = time - int(fatigue.hours * MICROSECONDS_PER_HOUR)
    rows = [state.shown for state in (known.user, known.session) if len(state.shown)]
    keys = [part["key"][(part["time"] > since) & _is_of(part, fatigue.kinds)] for part in rows]
    return snapshot.catalog.indexes_of_keys(np.concatenate(keys)) if keys else NO_ITEMS


def _is_of(shown: Rows, kinds: Sequence[EventKind]) -> Mask:
    """Which rows are of these kinds, shape (n,)."""
    mask = np.zeros(len(shown), bool)
    for kind in kinds:
        mask |= shown["kind"] == EVENT_KIND_CODE[kind]
    return mask


def _latest_first(*parts: Indexes) -> Indexes:
    """What the visit dealt with, the latest first, each item once."""
    if not any(map(len, parts)):
        return NO_ITEMS
    everything = np.concatenate(parts)[::-1].tolist()
    return np.array([item for item in dict.fromkeys(everything) if item >= 0], np.int32)


def _only(mode: PurchaseMode, bought_items: Indexes) -> Indexes | None:
    if mode is not PurchaseMode.REPEAT_ONLY:
        return None
    return np.unique(bought_items[bought_items >= 0])


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
