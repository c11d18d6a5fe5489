"""Experiments: who is in which arm, what an arm changes, and that answers and exposures name it."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store.assignment import assign, dice
from feature_store.bundle import open_bundle
from feature_store.event_log import EventLog
from feature_store.store import MemoryStore
from online.engine import Engine
from online.errors import RuleError
from online.offering.arms import Arm
from online.offering.experiments import compile_experiments
from online.offering.rules import read_rules, write_rules
from online.placements import PLACEMENTS
from online.snapshot import Snapshot, open_snapshot
from online.types import Request, Slate
from tests.online.searches import learn
from tests.online.serving import Caller, serving, settings_of
from tests.online.shops import pseudonym
from tests.worlds import HORIZON_TIME, World, fill_store, user_id

USUAL = {"name": "usual"}
VARIED = {"name": "varied", "diversity": 0.9, "explore_share": 0.5}


def experiment(*arms: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "variety", "action": "experiment", "arms": list(arms), **fields}


def with_experiments(snapshot: Snapshot, *rules: dict[str, Any]) -> Snapshot:
    read = read_rules({"rules": list(rules)}, tuple(PLACEMENTS))
    attributes = snapshot.shop.attributes
    return replace(snapshot, experiments=compile_experiments(read, attributes, attributes))


@pytest.fixture(scope="module")
def snapshot(pristine_world: World) -> Snapshot:
    return open_snapshot(open_bundle(pristine_world.bundle))


def shop(snapshot: Snapshot, world: World, *rules: dict[str, Any]) -> Engine:
    store = MemoryStore()
    fill_store(store, world.purchases)
    return Engine(store, with_experiments(snapshot, *rules))


def request(user: int | None, placement: str = "home", **fields: Any) -> Request:
    who = b"" if user is None else pseudonym(user)
    everything = {"takes_part": True, "explores": True, **fields}
    return Request(request_time=HORIZON_TIME, placement=placement, user=who, **everything)


def items(slate: Slate) -> list[str]:
    return [item.item for item in slate.items]


def test_arms_are_dealt_by_their_shares_and_stay() -> None:
    names = [f"{n:064x}" for n in range(20_000)]
    places = np.array(assign("variety", [1, 2, 1], names))
    np.testing.assert_allclose(np.bincount(places) / len(places), [0.25, 0.5, 0.25], atol=0.015)
    assert assign("variety", [1, 2, 1], names[:50]) == places[:50].tolist()
    other = np.array(assign("another", [1, 2, 1], names))
    both = np.mean((places == 1) & (other == 1))
    assert abs(both - 0.25) < 0.015
    assert assign("variety", [0, 1], names[:50]) == [1] * 50
    assert dice("x", names).max() < 1


def test_each_user_is_in_one_arm_and_nobody_in_none(snapshot: Snapshot, world: World) -> None:
    engine = shop(snapshot, world, experiment(USUAL, VARIED, placements=["home"]))
    arms = [engine.recommend(request(user)).arm for user in range(40)]
    assert set(arms) == {"variety/usual", "variety/varied"}
    assert arms == [engine.recommend(request(user)).arm for user in range(40)]
    session = [engine.recommend(request(None, session=b"%032d" % n)).arm for n in range(20)]
    assert set(session) == set(arms)
    assert engine.recommend(request(None)).arm == ""
    assert engine.recommend(request(2, "cart")).arm == ""
    assert engine.recommend(request(2, takes_part=False)).arm == ""


def test_an_arm_changes_what_it_says_and_nothing_else(snapshot: Snapshot, world: World) -> None:
    engine = shop(snapshot, world, experiment(USUAL, VARIED))
    differing, explored = set(), set()
    for user in range(40):
        asked = request(user, page_size=5)
        slate = engine.recommend(asked)
        plain = engine.recommend(replace(asked, takes_part=False))
        if items(slate) != items(plain):
            differing.add(slate.arm)
        explored |= {slate.arm for item in slate.items if item.propensity < 1}
    assert differing == explored == {"variety/varied"}


def test_an_arm_may_be_after_something_else(snapshot: Snapshot, world: World) -> None:
    dear = {"name": "dear", "price": 3.0}
    engine = shop(snapshot, world, experiment(dear, {**dear, "name": "same"}))
    asked = request(4, explores=False)
    values = [float(snapshot.catalog.price[item.index]) for item in engine.recommend(asked).items]
    plain = engine.recommend(replace(asked, takes_part=False))
    usual = [float(snapshot.catalog.price[item.index]) for item in plain.items]
    assert np.mean(values[:5]) > np.mean(usual[:5]) + 1


def test_an_arm_may_be_after_nothing(snapshot: Snapshot, world: World) -> None:
    none = {"name": "none", "price": 0}
    rule = {"name": "dear", "action": "objective", "price": 3.0}
    engine = shop(snapshot, world, experiment(none, {**none, "name": "same"}))
    (experiments,) = engine.snapshot.experiments
    read = read_rules({"rules": [rule]}, tuple(PLACEMENTS))
    ruled = replace(snapshot.shop, rules=read, _offers={})  # type: ignore[type-var]  # a Shop
    offer = ruled.offer("home", HORIZON_TIME)
    assert offer.objective is not None
    assert experiments.treatments[0].offer(offer).objective is None
    kept = compile_experiments(
        read_rules({"rules": [experiment(USUAL, VARIED)]}, ("home",)),
        snapshot.shop.attributes,
        snapshot.shop.attributes,
    )
    assert kept[0].treatments[0].offer(offer).objective is offer.objective


def test_many_requests_are_in_the_arms_that_one_is(snapshot: Snapshot, world: World) -> None:
    engine = shop(snapshot, world, experiment(USUAL, VARIED))
    asked = [request(user) for user in range(12)]
    assert engine.recommend_many(asked) == [engine.recommend(one) for one in asked]


def test_an_experiment_holds_for_its_time(snapshot: Snapshot, world: World) -> None:
    over = experiment(USUAL, VARIED, end_time="2024-01-02T00:00:00Z")
    assert shop(snapshot, world, over).recommend(request(2)).arm == ""


def test_an_experiment_goes_with_the_bundle(tmp_path: Path) -> None:
    rule = experiment(USUAL, {**VARIED, "price": 1})
    rules = read_rules({"rules": [rule]}, tuple(PLACEMENTS))
    opened = open_snapshot(open_bundle(learn(tmp_path, reads=False, rules=rules), num_room=4))
    (held,) = opened.experiments
    assert [one.label for one in held.treatments] == ["variety/usual", "variety/varied"]
    objective = held.treatments[1].objective
    assert objective is not None
    assert len(objective.price) == len(opened.catalog) + 4
    slate = Engine(MemoryStore(), opened).recommend(request(1))
    assert slate.arm.startswith("variety/")


def test_what_is_written_is_read_again() -> None:
    rule = experiment(USUAL, {**VARIED, "share": 3, "margin": -1}, placements=["home"])
    read = read_rules({"rules": [rule]}, tuple(PLACEMENTS))
    assert read[0].arms == (
        Arm("usual"),
        Arm("varied", 3.0, diversity=0.9, explore_share=0.5, margin=-1.0),
    )
    assert read_rules(write_rules(read), tuple(PLACEMENTS)) == read


@pytest.mark.parametrize(
    ("arms", "told"),
    [
        (None, "needs `arms`"),
        ("usual", "list of tables"),
        (["usual"], "should be a table"),
        ([USUAL], "two `arms` at least"),
        ([USUAL, USUAL], "two arms are called usual"),
        ([USUAL, {"share": 1}], "needs a `name`"),
        ([USUAL, {"name": "a/b"}], "without `/`"),
        ([USUAL, {"name": "b", "page_size": 9}], "`page_size` is nothing that arms differ in"),
        ([USUAL, {"name": "b", "diversity": 2}], "`diversity` should lie between 0 and 1"),
        ([USUAL, {"name": "b", "diversity": "x"}], "`diversity` should be a number"),
        ([USUAL, {"name": "b", "margin": 9}], "between -3 and 3"),
        ([{"name": "a", "share": 0}, {"name": "b", "share": 0}], "nobody would be in one"),
    ],
)
def test_what_is_wrong_is_told(arms: object, told: str) -> None:
    rule = {"name": "variety", "action": "experiment"} | ({} if arms is None else {"arms": arms})
    with pytest.raises(RuleError, match="rule `variety`: ") as caught:
        read_rules({"rules": [rule]}, tuple(PLACEMENTS))
    assert told in str(caught.value)


def test_a_name_tells_an_experiment_from_its_arms() -> None:
    """Else a report on `variety` would take in the answers of `variety/a`."""
    with pytest.raises(RuleError, match=r"rule `variety/a`: .* without `/`"):
        read_rules({"rules": [experiment(USUAL, VARIED, name="variety/a")]}, tuple(PLACEMENTS))
    boost = {"name": "a/b", "action": "boost", "items": ["x"], "factor": 2}
    assert read_rules({"rules": [boost]}, tuple(PLACEMENTS))[0].name == "a/b"


def test_two_experiments_at_once_in_one_place_are_refused() -> None:
    first = experiment(USUAL, VARIED, placements=["home", "cart"])
    second = {**first, "name": "other", "placements": ["cart"]}
    with pytest.raises(RuleError, match="`variety` and `other` are experiments on cart"):
        read_rules({"rules": [first, second]}, tuple(PLACEMENTS))
    parted = [
        {**first, "end_time": "2026-01-01T00:00:00Z"},
        {**second, "start_time": "2026-01-01T00:00:00Z"},
        {**first, "name": "elsewhere", "placements": ["trending"]},
    ]
    assert len(read_rules({"rules": parted}, tuple(PLACEMENTS))) == 3


def test_answers_and_exposures_name_the_arm(world: World) -> None:
    with serving(settings_of(world)) as (caller, parts):
        engine = parts.engine
        engine.snapshot = with_experiments(
            engine.base, experiment(USUAL, VARIED, placements=["home"])
        )
        arms = {user: caller.recommend(user_id(user)).arm for user in range(12)}
        assert caller.recommend(user_id(1), placement="cart").arm == ""
        assert caller.recommend().arm == ""
        parts.showing.flush()
    with closing(EventLog(world.home / "event_log", 0)) as log:
        logged = [one.exposure for one in log.read_exposures(0, 100)]
    assert set(arms.values()) == {"variety/usual", "variety/varied"}
    assert [one.arm for one in logged] == [*arms.values(), "", ""]


def test_without_an_experiment_no_arm_is_named(read_only_server: Caller) -> None:
    assert read_only_server.recommend(user_id(3)).arm == ""
