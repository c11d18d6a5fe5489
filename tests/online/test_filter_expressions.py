"""The filter language: what is understood, what is refused and where, and what it lets through."""

from dataclasses import replace
from functools import partial
from time import process_time

import numpy as np
import pytest

from feature_store.bundle import open_bundle, string_table
from online.delta.parts import part_of
from online.errors import RequestError
from online.offering.attributes import cost_of, items_where, open_attributes
from online.offering.expression import (
    MAX_DEPTH,
    MAX_WILDCARDS,
    AllOf,
    AnyOf,
    Not,
    Restriction,
    parse,
)
from online.recent import Recent
from online.types import Cause, Degraded
from tests.online.shops import items, number, open_shop, request
from tests.worlds import NUM_ITEMS, UNAVAILABLE, World, item_id, price


def one(field: str, operator: str, value: str, position: int, *, quoted: bool = False) -> object:
    return Restriction(field, operator, value, quoted, position)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", AllOf(())),
        ("  ", AllOf(())),
        ("price<5", one("price", "<", "5", 0)),
        ("price >= -1.5", one("price", ">=", "-1.5", 0)),
        ('brand = "A \\"B\\""', one("brand", "=", 'A "B"', 0, quoted=True)),
        ("brand='x y'", one("brand", "=", "x y", 0, quoted=True)),
        ("-brand:x", Not(one("brand", ":", "x", 1))),  # type: ignore[arg-type]
        ("NOT brand:x", Not(one("brand", ":", "x", 4))),  # type: ignore[arg-type]
        # OR binds tighter than AND, and a space is an AND.
        (
            "a=1 b=2 OR c=3",
            AllOf((one("a", "=", "1", 0), AnyOf((one("b", "=", "2", 4), one("c", "=", "3", 11))))),  # type: ignore[arg-type]
        ),
        (
            "(a=1 AND b=2) OR c=3",
            AnyOf((AllOf((one("a", "=", "1", 1), one("b", "=", "2", 9))), one("c", "=", "3", 17))),  # type: ignore[arg-type]
        ),
    ],
)
def test_it_is_understood_as_aip_160_says(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "character"),
    [
        ("price", 6),
        ("price <", 8),
        ("price < AND", 9),
        ("< 5", 1),
        ('brand = "x', 9),
        ("(price < 5", 1),
        ("price < 5)", 10),
        ("price < 5 AND", 14),
        ("price < 5 OR OR", 14),
        ("price ! 5", 7),
        ("(" * (MAX_DEPTH + 1) + "price<5", MAX_DEPTH + 1),
        ("tags:a* " * (MAX_WILDCARDS + 1), 8 * MAX_WILDCARDS + 6),
        ("price < 5 AND colour = red", 15),
        ("price : 5", 1),
        ("price < cheap", 1),
        ("tags = fresh", 1),
        ("brand < x", 1),
        ("available = yes", 1),
        ('text:"--"', 1),
        ("text = milk", 1),
    ],
)
def test_what_is_wrong_is_named_by_its_place(
    text: str, character: int, pristine_world: World
) -> None:
    attributes = open_attributes(open_bundle(pristine_world.bundle))
    with pytest.raises(RequestError, match=f"^filter: at character {character}: "):
        items_where(parse(text), attributes)


NUMBERS = np.arange(NUM_ITEMS)
PRICES = np.array([price(int(number)) for number in NUMBERS], np.float32)


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("", NUMBERS >= 0),
        ("price < 5", PRICES < 5),
        ("price >= 5 price != 6", (PRICES >= 5) & (PRICES != 6)),
        ('brand = "Brand 1"', NUMBERS % 3 == 1),
        ('brand != "Brand 1"', NUMBERS % 3 != 1),
        ("brand = *1 OR brand = *2", NUMBERS % 3 != 0),
        ('brand = "*1"', NUMBERS < 0),
        ('category:"Even"', NUMBERS % 2 == 0),
        ('category = "Even"', NUMBERS < 0),
        ('category:"Even > Aisle 4"', (NUMBERS % 2 == 0) & (NUMBERS % 5 == 4)),
        ('NOT category:"Odd"', NUMBERS % 2 == 0),
        ('category:"Nowhere"', NUMBERS < 0),
        ("category:*", NUMBERS >= 0),
        ("tags:fresh", NUMBERS % 7 == 0),
        ("tags:fresh OR tags:bulk", (NUMBERS % 7 == 0) | (NUMBERS % 4 == 0)),
        ("tags:*", (NUMBERS % 7 == 0) | (NUMBERS % 4 == 0)),
        ("-tags:*", (NUMBERS % 7 != 0) & (NUMBERS % 4 != 0)),
        ('text:"things 07"', NUMBERS == 7),
        ("text:AISLES", NUMBERS >= 0),
        ('NOT text:"aisle 4"', NUMBERS % 5 != 4),
        ('text:"4 aisle"', NUMBERS < 0),
        ("region = north", NUMBERS % 6 != 1),
        ("region:south", NUMBERS % 6 != 0),
        ("region = nowhere", NUMBERS % 6 > 1),
        ("available = false", int(UNAVAILABLE[1:]) == NUMBERS),
        ('price < 5 AND category:"Even" AND NOT brand = "Brand 0"', None),
    ],
)
def test_it_lets_through_what_it_says(
    text: str, mask: np.typing.NDArray[np.bool_] | None, pristine_world: World
) -> None:
    if mask is None:
        mask = (PRICES < 5) & (NUMBERS % 2 == 0) & (NUMBERS % 3 != 0)
    attributes = open_attributes(open_bundle(pristine_world.bundle))
    assert items_where(parse(text), attributes).tolist() == mask.tolist()


def test_a_slate_obeys_its_filter_and_is_never_short(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    for placement in shop.engine.snapshot.placements:
        slate = shop.ask(2, placement, filter='category:"Odd"', page_size=25)
        assert len(slate.items) == 25, placement
        assert all(int(item[1:]) % 2 for item in items(slate))
        assert not slate.degraded
        everything = shop.ask(None, placement, filter="price < 3", page_size=60)
        assert sorted(items(everything)) == [item_id(number) for number in range(8)], placement


def test_a_region_is_a_filter(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    slate = shop.ask(2, region="south", page_size=60)
    sold = {item_id(number) for number in range(NUM_ITEMS) if number % 6} - {UNAVAILABLE}
    assert set(items(slate)) == sold


def test_nothing_allowed_gives_nothing(pristine_world: World) -> None:
    slate = open_shop(pristine_world).ask(2, filter="price > 1000")
    assert not slate.items
    assert not slate.degraded


def test_what_is_no_pattern_is_not_counted_as_one() -> None:
    for text in ('brand = "a*"', "brand:*", "tags:*"):
        assert isinstance(parse(" ".join([text] * (MAX_WILDCARDS + 1))), AllOf)


def test_a_pattern_is_matched_once_and_in_a_time_that_does_not_explode() -> None:
    names = sorted(f"{number:05} {'a' * 60}" for number in range(2_000))
    attributes = part_of({}).attributes
    numbers = np.arange(len(names), dtype=np.int32)
    attributes = replace(attributes, brands=string_table(names), brand=numbers)
    text = "brand:*" + "a*" * 30 + "b"
    started_s = process_time()
    assert not items_where(parse(text), attributes).any()
    assert process_time() - started_s < 5
    assert (attributes.brands, text.removeprefix("brand:")) in attributes.matched
    assert items_where(parse("brand:0001*"), attributes).sum() == 10
    assert cost_of(parse(text), attributes) > 10 * cost_of(parse("brand=b"), attributes)


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    recent: Recent[int, int] = Recent(2)
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return -number

    for key in (1, 2, 1, 3, 1, 2):
        assert recent.get(key, partial(make, key)) == -key
    assert made == [1, 2, 3, 2]
    assert 3 not in recent


def test_an_answer_that_cannot_wait_compiles_no_dear_filter(
    pristine_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(pristine_world)
    late, asked = Degraded("source.als", Cause.TIMED_OUT), request(filter="price < 20")
    monkeypatch.setattr("online.offering.shop.CHEAP", 0)
    slate = shop.engine.recommend_popular(asked, late)
    assert not slate.items
    assert slate.degraded == (late, Degraded("filter", Cause.SKIPPED))
    shop.engine.recommend(asked)
    slate = shop.engine.recommend_popular(asked, late)
    assert slate.degraded == (late,)
    assert slate.items
    assert all(price(number(item)) < 20 for item in items(slate))
    with pytest.raises(RequestError, match="needs a comparison"):
        shop.engine.recommend_popular(replace(asked, filter="price"), late)
