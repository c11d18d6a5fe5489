"""The shop's rules: read strictly, and in force exactly where and when they say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.schema import MICROSECONDS_PER_DAY
from offline.errors import TrainingDataError
from offline.rules import load_rules
from online.errors import RuleError
from online.offering.objective import LEAST_UNITS
from online.offering.offer import Objective
from online.offering.rules import read_rules, write_rules
from online.offering.shop import Shop
from online.snapshot import open_snapshot
from online.stages.weighing import worth
from tests.online.shops import groups_of, items, number, open_shop
from tests.worlds import HORIZON_TIME, NUM_ITEMS, UNAVAILABLE, World, is_even

PLACEMENTS = ("home", "cart")
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "not a valid Action"),
        ({"action": "hide"}, "not a valid Action"),
        ({"action": "block"}, "needs `items` or a `filter`"),
        ({"action": "block", "items": "p1"}, "list of texts"),
        ({"action": "block", "filter": "price <"}, "at character 8"),
        (
            {"action": "block", "items": ["p1"], "slot": 1},
            "`slot` means nothing to `block`",
        ),
        ({"action": "block", "items": ["p1"], "placements": ["attic"]}, "no placement attic"),
        ({"action": "boost", "items": ["p1"]}, "needs a `factor`"),
        ({"action": "objective"}, "needs a power of"),
        ({"action": "objective", "margin": 9}, "between -3 and 3"),
        (
            {"action": "objective", "margin": 1, "items": ["p1"]},
            "means nothing to `objective`",
        ),
        ({"action": "boost", "items": ["p1"], "factor": 0.5}, "between 1 and 100"),
        ({"action": "boost", "items": ["p1"], "factor": "big"}, "should be a number"),
        ({"action": "pin", "items": ["p1", "p2"], "slot": 1}, "exactly one item"),
        ({"action": "pin", "items": ["p1"]}, "needs a `slot`"),
        ({"action": "pin", "items": ["p1"], "slot": 1.5}, "should be a number"),
        ({"action": "cap", "by": "brand"}, "needs a `count`"),
        ({"action": "cap", "by": "colour", "count": 1}, "not a valid Group"),
        ({"action": "block", "items": ["p1"], "start_time": "2026-01-01"}, "with a time zone"),
        (
            {
                "action": "block",
                "items": ["p1"],
                "start_time": "2026-01-02T00:00:00Z",
                "end_time": "2026-01-01T00:00:00Z",
            },
            "ends before it starts",
        ),
    ],
)
def test_a_wrong_rule_is_refused_by_name(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(RuleError, match="rule `mine`") as caught:
        read_rules({"rules": [{"name": "mine", **rule}]}, PLACEMENTS)
    assert said in str(caught.value)


def test_rules_survive_being_written() -> None:
    text = """
        [[rules]]
        name = "season"
        action = "bury"
        filter = 'category:"Garden"'
        factor = 4
        placements = ["home"]
        start_time = 2026-10-01T00:00:00Z
        end_time = 2027-03-01T00:00:00+01:00
        [[rules]]
        action = "cap"
        by = "department"
        count = 3
        [[rules]]
        action = "objective"
        margin = 1
        freshness = 0.5
        [[rules]]
        action = "pin"
        items = ["p1"]
        slot = 2
    """
    path = Path("rules.toml")
    import tomllib

    rules = read_rules(tomllib.loads(text), PLACEMENTS)
    assert read_rules(json.loads(json.dumps(write_rules(rules))), PLACEMENTS) == rules
    assert path.suffix == ".toml"
    assert rules[0].factor == 0.25


@pytest.mark.parametrize("text", ["rules = 3", "[[rules]", "other = []"])
def test_a_file_that_is_wrong_is_one_clear_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises((RuleError, TrainingDataError), match=r"rules\.toml"):
        load_rules(path)


def test_two_rules_may_not_share_a_name() -> None:
    rule = {"name": "twice", "action": "block", "items": ["p1"]}
    with pytest.raises(RuleError, match="two rules are called `twice`"):
        read_rules({"rules": [rule, rule]}, PLACEMENTS)


def test_what_is_blocked_is_shown_nowhere(pristine_world: World) -> None:
    block = {"action": "block", "filter": "price < 8", "items": ["p50", "no such item"]}
    shop = open_shop(pristine_world, block)
    for placement in shop.engine.snapshot.placements:
        shown = items(shop.ask(2, placement, page_size=60, context_items=("p40",)))
        assert all(number(item) >= 28 and item != "p50" for item in shown), placement


def test_a_rule_holds_where_and_when_it_says(pristine_world: World) -> None:
    shop = open_shop(
        pristine_world,
        {
            "action": "block",
            "filter": 'category:"Even"',
            "placements": ["home"],
            "start_time": "2024-02-26T00:00:00Z",  # the horizon
            "end_time": "2024-02-26T01:00:00Z",
        },
    )
    for hours, is_blocked in ((-1, False), (0, True), (0.99, True), (1, False)):
        time = HORIZON_TIME + int(hours * HOUR)
        shown = items(shop.ask(2, request_time=time, page_size=60))
        assert any(map(is_even, shown)) != is_blocked
        assert any(map(is_even, items(shop.ask(2, "trending", request_time=time))))


def test_boosted_items_rise_and_buried_ones_sink(pristine_world: World) -> None:
    plain = items(open_shop(pristine_world).ask(2, page_size=20))
    last, first = plain[-1], plain[0]
    boosted = open_shop(pristine_world, {"action": "boost", "items": [last], "factor": 100})
    assert items(boosted.ask(2, page_size=20)).index(last) == 0
    buried = open_shop(pristine_world, {"action": "bury", "items": [first], "factor": 100})
    assert first not in items(buried.ask(2, page_size=10))


def test_an_objective_weighs_what_a_sale_is_worth(pristine_world: World) -> None:
    """Prices rise with the number: the dearest of the candidates come first, or the cheapest."""
    plain = open_shop(pristine_world).ask(2, page_size=10)
    dear = open_shop(pristine_world, {"action": "objective", "price": 3}).ask(2, page_size=10)
    cheap = open_shop(pristine_world, {"action": "objective", "price": -3}).ask(2, page_size=10)
    means = [np.mean([number(item) for item in items(slate)]) for slate in (cheap, plain, dear)]
    assert means == sorted(means)
    assert means[0] + 10 < means[2]


def test_worth_is_the_product_of_powers() -> None:
    objective = Objective(
        "profit",
        price=np.array([1.0, 4.0], np.float32),
        margin=np.array([2.0, 0.5], np.float32),
        created_time=np.array([0, -60 * MICROSECONDS_PER_DAY]),
        price_exponent=0.5,
        margin_exponent=1.0,
        freshness_exponent=2.0,
    )
    found = worth(objective, np.array([0, 1], np.int32), 0)
    assert found.tolist() == pytest.approx([2.0, 2 * 0.5 * 0.25])


def test_what_loses_money_is_worth_less_than_what_is_usual(pristine_world: World) -> None:
    """Margins known, unknown, none and below 0; the one half of the median is worth half."""
    snapshot = open_snapshot(open_bundle(pristine_world.bundle))
    margin = np.full(NUM_ITEMS, 0.2, np.float32)
    margin[:5] = [np.nan, 0.0, -0.5, 0.1, 1e-6]
    attributes = replace(
        snapshot.shop.attributes, price=np.full(NUM_ITEMS, 10, np.float32), margin=margin
    )
    rules = read_rules(
        {"rules": [{"action": "objective", "margin": 1}]}, tuple(snapshot.placements)
    )
    shop = Shop(snapshot.catalog, attributes, snapshot.placements, rules, attributes)
    objective = shop.offer("home", HORIZON_TIME).objective
    assert objective is not None
    least = float(LEAST_UNITS)
    assert objective.margin[:6].tolist() == pytest.approx([1.0, least, least, 0.5, least, 1.0])


def test_pins_stand_on_their_slots(pristine_world: World) -> None:
    rules = [
        {"name": "a", "action": "pin", "items": ["p07"], "slot": 3},
        {"name": "b", "action": "pin", "items": ["p09"], "slot": 3},  # the first one counts
        {"name": "c", "action": "pin", "items": ["p11"], "slot": 1},
        {"name": "d", "action": "pin", "items": [UNAVAILABLE], "slot": 2},  # is not sold
        {"name": "e", "action": "pin", "items": ["p13"], "slot": 40},  # beyond most pages
    ]
    shop = open_shop(pristine_world, *rules)
    for placement in shop.engine.snapshot.placements:
        slate = shop.ask(2, placement, page_size=20)
        shown = items(slate)
        assert (shown[0], shown[2]) == ("p11", "p07"), placement
        assert len(set(shown)) == 20
        assert {slate.items[0].source, slate.items[2].source} == {"pin"}
        assert "p13" not in shown or shown[-1] != "p13"
    assert items(shop.ask(2, page_size=NUM_ITEMS))[39] == "p13"
    assert items(shop.ask(2, exclude_items=("p11",)))[0] != "p11"


@pytest.mark.parametrize("diversity", [None, 0.6])
def test_caps_are_exact(pristine_world: World, diversity: float | None) -> None:
    cap = {"action": "cap", "by": "brand", "count": 4}
    shop = open_shop(pristine_world, cap)
    for placement in shop.engine.snapshot.placements:
        for size in (5, 12, 30):
            slate = shop.ask(2, placement, page_size=size, diversity=diversity)
            assert groups_of(slate, 3).max() <= 4, placement
            assert len(slate.items) == min(size, 12), placement


def test_a_cap_may_concern_some_items_only(pristine_world: World) -> None:
    cap = {"action": "cap", "by": "brand", "count": 1, "filter": 'brand = "Brand 1"'}
    slate = open_shop(pristine_world, cap).ask(2, page_size=40)
    assert len(slate.items) == 40
    assert groups_of(slate, 3)[1] == 1
