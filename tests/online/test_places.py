"""The fallback under caps: as full as they allow, and no deeper than there is room."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from online.offering.allowed import allowed_where
from online.offering.offer import Cap, Offer
from online.stages.places import MAX_LOOKS, fill, nothing_chosen
from online.stages.sources import Popular
from online.types import Found, Query
from tests.online.test_vectors import query_for

NUM_ITEMS = 100_000
PAGE = 40

Groups = NDArray[np.int32]


def popular() -> Popular:
    order = np.arange(NUM_ITEMS, dtype=np.int32)
    return Popular("popular", order, -order.astype(np.float32), order)


def question(*caps: Cap) -> Query:
    everything = allowed_where(np.ones(NUM_ITEMS, bool))
    return query_for(everything, num_wanted=PAGE, offer=Offer(everything, everything, caps=caps))


def counting() -> tuple[list[int], Callable[[Query, int], Found]]:
    """How many items were found by each look at the fallback, and the looking."""
    looks: list[int] = []

    def find(query: Query, limit: int) -> Found:
        found = popular().retrieve(query, limit)
        looks.append(len(found.items))
        return found

    return looks, find


def naive(query: Query) -> list[int]:
    """The first items with room, one after the other; then those that only soft caps keep out."""
    chosen: list[int] = []
    for caps in (query.offer.caps, [cap for cap in query.offer.caps if cap.is_firm]):
        for item in range(NUM_ITEMS):
            alike = [np.count_nonzero(cap.group[chosen] == cap.group[item]) for cap in caps]
            has_room = all(
                num < cap.count or cap.group[item] < 0 for num, cap in zip(alike, caps, strict=True)
            )
            if len(chosen) < PAGE and has_room and item not in chosen:
                chosen.append(item)
            if len(chosen) == PAGE:
                return chosen
    return chosen


def few_and_clustered() -> Groups:
    """12 groups, of which the last five lie deep."""
    group = np.random.default_rng(3).integers(0, 7, NUM_ITEMS).astype(np.int32)
    group[50_000::9_000] = np.arange(7, 13)
    return group


def test_a_cap_that_cannot_be_filled_ends_the_search() -> None:
    looks, find = counting()
    query = question(Cap("one each", few_and_clustered(), 1))
    slate = fill(query, nothing_chosen(1), find).chosen.items
    assert sorted(few_and_clustered()[slate].tolist()) == list(range(13))
    assert len(looks) <= 3
    assert sum(looks) < 10 * PAGE


def test_each_look_is_bounded_however_the_shop_lies() -> None:
    looks, find = counting()
    group = (np.arange(NUM_ITEMS) // 5_000).astype(np.int32)  # one department after the other
    slate = fill(question(Cap("one each", group, 1)), nothing_chosen(1), find).chosen.items
    assert len(looks) == MAX_LOOKS
    assert len(slate) == MAX_LOOKS
    assert max(looks) < 5_000


@pytest.mark.parametrize("is_firm", [True, False])
def test_it_finds_what_one_by_one_would_be_found(is_firm: bool) -> None:
    random = np.random.default_rng(5)
    caps = (
        Cap("department", random.integers(-1, 6, NUM_ITEMS).astype(np.int32), 2, is_firm=is_firm),
        Cap("brand", np.minimum(random.geometric(0.2, NUM_ITEMS), 30).astype(np.int32), 3),
    )
    slate = fill(question(*caps), nothing_chosen(1), counting()[1]).chosen.items
    assert slate.tolist() == naive(question(*caps))
