"""Requests of one kind completed into queries together, as `online.completion` does one by one.

Plain requests are those that only say who asks and what to leave out: a mail's, a replay's. The
others are completed and answered one at a time. It runs no stage.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.features import bought_lately
from feature_store.ranking import history_of
from feature_store.state import ITEM_DTYPE, RECENT_DTYPE
from online.completion import MICROSECONDS_PER_HOUR, is_of, latest_first
from online.corpora import num_places
from online.known import INTERESTED, SESSION_MICROSECONDS, Known
from online.placements import MAX_PAGE_SIZE, Placement
from online.snapshot import Snapshot
from online.together.queries import Queries
from online.together.ragged import Keys, Lists, Places, distinct_lists, joined_rows, lists
from online.types import NO_ITEMS, Indexes, PurchaseMode, Query, Request, bought, unwanted

MIN_TOGETHER: Final = 8
"""Fewer requests of a kind are answered one by one."""

Kind = tuple[object, ...]


def is_plain(request: Request) -> bool:
    """Whether the request says only who asks and what to leave out."""
    is_page = request.context_items or request.basket_items or request.basket_lines
    is_visit = request.session or request.session_items
    return not (
        is_page
        or is_visit
        or request.query
        or request.takes_part
        or request.explores
        or request.purchase_mode is PurchaseMode.REPEAT_ONLY
    )


def kind_of(request: Request) -> Kind:
    """What requests must have in common to be answered together."""
    return (
        request.placement,
        request.request_time,
        request.purchase_mode,
        request.page_size,
        request.filter,
        request.region,
        request.category,
        request.diversity,
        request.corpora,
    )


def in_region(request: Request, known: Known) -> Request:
    """The request with the region that the shop knows of the user, if it names none."""
    if request.region or not known.region:
        return request
    return replace(request, region=known.region)


def complete_together(
    snapshot: Snapshot, requests: Sequence[Request], known: Sequence[Known]
) -> Queries:
    """The queries of plain requests of one kind; RequestError as for one of them."""
    catalog, first = snapshot.catalog, requests[0]
    placement, num_owners = snapshot.placement(first.placement), len(requests)
    num_items, time = len(catalog), first.request_time
    rows, starts, owner = joined_rows([one.user.items for one in known], ITEM_DTYPE)
    owned = Lists(catalog.indexes_of_keys(rows["key"]), owner, starts)
    held = np.flatnonzero(owned.items >= 0)
    keys = owner[held] * np.int64(num_items) + owned.items[held]
    held = held[np.argsort(keys, kind="stable")]

    def keys_of(items: Indexes, owners: Places) -> Keys:
        real = items >= 0
        return owners[real] * np.int64(num_items) + items[real]

    visited = _visited(snapshot, known, time)
    shown = keys_of(*_shown(snapshot, placement, known, time))
    blocked = [
        keys_of(*_excluded(snapshot, requests)),
        keys_of(*_where(owned, unwanted(rows))),
    ]
    if placement.hides_seen:
        blocked.append(keys_of(*visited))
    if placement.fatigue is not None and not placement.fatigue.factor:
        blocked.append(shown)
    own = keys_of(*_where(owned, bought(rows)))
    if first.purchase_mode is PurchaseMode.NEW_ONLY:
        blocked.append(own)
    elif placement.waits_until_due:
        blocked.append(keys_of(*_where(owned, bought_lately(rows, time))))
    all_blocked = np.concatenate(blocked)
    queries = Queries(
        each=(),
        num_items=num_items,
        rows=rows,
        owned=owned,
        history=history_of(rows[held], owned.items[held], time),
        past=lists(owned.items[held], owner[held], num_owners),
        session=distinct_lists(keys_of(*visited), num_items, num_owners),
        blocked=distinct_lists(all_blocked, num_items, num_owners),
        not_new=distinct_lists(np.concatenate((all_blocked, own)), num_items, num_owners),
    )
    tired = distinct_lists(shown, num_items, num_owners)
    return replace(queries, each=_each(snapshot, requests, known, queries, tired, visited))


def _each(
    snapshot: Snapshot,
    requests: Sequence[Request],
    known: Sequence[Known],
    columns: Queries,
    tired: Lists,
    visited: tuple[Indexes, Places],
) -> tuple[Query, ...]:
    """The single queries: views of the columns."""
    first = requests[0]
    placement = snapshot.placement(first.placement)
    offer = snapshot.shop.offer(first.placement, first.request_time, first.filter, first.region)
    num_wanted = min(num_places(first, placement.page_size), MAX_PAGE_SIZE)
    visits = lists(*visited, len(requests))
    history, bounds = columns.history, columns.past.starts.tolist()
    return tuple(
        Query(
            request=request,
            num_wanted=num_wanted,
            state=known[number].user,
            owned=columns.owned.of(number),
            session=columns.session.of(number),
            context=NO_ITEMS,
            basket=NO_ITEMS,
            blocked=columns.blocked.of(number),
            only=None,
            history=history.part(bounds[number], bounds[number + 1]),
            not_new=columns.not_new.of(number),
            offer=offer,
            placement=placement,
            tired=tired.of(number),
            visit=latest_first(visits.of(number)),
        )
        for number, request in enumerate(requests)
    )


def _where(owned: Lists, mask: NDArray[np.bool_]) -> tuple[Indexes, Places]:
    return owned.items[mask], owned.owner[mask]


def _excluded(snapshot: Snapshot, requests: Sequence[Request]) -> tuple[Indexes, Places]:
    """What each request leaves out; most of it is the same for all of them."""
    names = list(dict.fromkeys(item for one in requests for item in one.exclude_items))
    index = dict(zip(names, snapshot.catalog.indexes_of(names).tolist(), strict=True))
    items = [index[item] for one in requests for item in one.exclude_items]
    owner = np.repeat(np.arange(len(requests)), [len(one.exclude_items) for one in requests])
    return np.array(items, np.int32), owner


def _visited(snapshot: Snapshot, known: Sequence[Known], time: int) -> tuple[Indexes, Places]:
    """What each user's visit at `time` showed interest in, in the order of the events."""
    recent, _, owner = joined_rows([one.user.recent for one in known], RECENT_DTYPE)
    now = (recent["time"] > time - SESSION_MICROSECONDS) & INTERESTED[recent["kind"]]
    return snapshot.catalog.indexes_of_keys(recent["key"][now]), owner[now]


def _shown(
    snapshot: Snapshot, placement: Placement, known: Sequence[Known], time: int
) -> tuple[Indexes, Places]:
    """What each user was shown within the time that makes tired of it."""
    fatigue = placement.fatigue
    if fatigue is None:
        return NO_ITEMS, np.zeros(0, np.intp)
    shown, _, owner = joined_rows([one.user.shown for one in known], RECENT_DTYPE)
    since = time - int(fatigue.hours * MICROSECONDS_PER_HOUR)
    lately = (shown["time"] > since) & is_of(shown, fatigue.kinds)
    return snapshot.catalog.indexes_of_keys(shown["key"][lately]), owner[lately]
