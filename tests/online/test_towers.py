"""The two-tower as a source, on the checkerboard: over the real engine, alone and together."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.catalog_log import Change, Outcome, open_catalog_log
from feature_store.events import Event
from feature_store.language.encoder import embedded_encoder
from feature_store.schema import EventKind
from feature_store.store import MemoryStore
from feature_store.two_tower import SOURCE
from offline.recipe import TwoTowerSourceConfig
from online.completion import complete
from online.delta.intake import CatalogIntake
from online.engine import Engine
from online.feedback.changes import apply
from online.known import Known
from online.placements import PLACEMENTS
from online.snapshot import open_snapshot
from online.stages.towers import TwoTower, latest, open_two_tower
from online.types import PurchaseMode, Query, Scores
from tests.architecture.tree import ROOT
from tests.online.shops import TestShop, number, open_shop, pseudonym, request
from tests.online.test_together import assert_same, everybody, lived_in, ranked
from tests.worlds import HORIZON_TIME, NUM_ITEMS, NUM_USERS, World, build_world, item_id

MINUTE = 60_000_000
EVERYTHING = np.arange(NUM_ITEMS, dtype=np.int32)
CONFIG = TwoTowerSourceConfig(
    is_served=True,
    dim=8,
    num_buckets=512,
    users_per_step=10,
    num_uniform=32,
    num_epochs=15,
    attention=True,
)


@pytest.fixture(scope="module")
def tower_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("towers") / "home", two_tower=CONFIG)


def source(shop: TestShop, placement: str = "home") -> TwoTower:
    uses = shop.engine.snapshot.pipelines[placement].sources
    (found,) = [use.source for use in uses if use.source.name == SOURCE]
    assert isinstance(found, TwoTower)
    return found


def vector_of(shop: TestShop, query: Query) -> Scores:
    tower = source(shop)
    vector: Scores = tower.embed([latest(query, tower.half_life, tower.max_history)])[0]
    return vector


def liking(scores: Scores, parity: int) -> float:
    """The mean score of the items of a parity."""
    return float(scores[parity == EVERYTHING % 2].mean())


def told_by(shop: TestShop, user: int) -> Scores:
    """What the source says of every item to the user, now."""
    query, candidates = shop.engine.candidates(request(user, request_time=HORIZON_TIME + MINUTE))
    names = shop.engine.snapshot.pipelines["home"].source_names
    assert candidates.rates[names.index(SOURCE)] is not None
    scores: Scores = source(shop).index.vectors[EVERYTHING] @ vector_of(shop, query)
    return scores


@pytest.mark.parametrize("user", [2, 3, 8, 9])
def test_it_finds_what_like_users_buy(tower_world: World, user: int) -> None:
    shop = open_shop(tower_world)
    asked = request(user, purchase_mode=PurchaseMode.NEW_ONLY)
    query, candidates = shop.engine.candidates(asked)
    found = source(shop).retrieve(query, 10)
    assert len(found.items) == 10
    assert np.mean(found.items % 2 == user % 2) >= 0.9
    assert not set(map(item_id, found.items.tolist())) & tower_world.bought(user)
    assert (np.diff(found.scores) <= 0).all()
    names = shop.engine.snapshot.pipelines["home"].source_names
    told = candidates.scores[names.index(SOURCE)]
    assert np.isfinite(told).sum() == len(source(shop).retrieve(query, 80).items)


def test_the_last_click_moves_the_vector(tower_world: World) -> None:
    shop = open_shop(tower_world)
    before = told_by(shop, 4)
    assert liking(before, 0) > liking(before, 1)
    clicked = [item_id(one) for one in (7, 21, 33)]
    for place, item in enumerate(clicked):
        click = Event(
            event_id=item,
            event_time=HORIZON_TIME + place,
            user=pseudonym(4).hex(),
            kind=EventKind.CLICK,
            item=item,
        )
        apply([click], shop.store)
        after = told_by(shop, 4)
        assert liking(after, 1) - liking(after, 0) > liking(before, 1) - liking(before, 0)
        before = after


def test_what_was_dealt_with_last_comes_last(tower_world: World) -> None:
    shop = open_shop(tower_world)
    asked = request(4, session_items=("p07", "p21"), basket_items=("p33",))
    state = shop.engine.candidates(request(4))[0].state
    query, _ = complete(shop.engine.snapshot, asked, Known(user=state))
    items, strength = latest(query, source(shop).half_life, 5)
    assert items[-3:].tolist() == [33, 7, 21]
    assert (strength > 0).all()
    times = {one.item: one.time for one in tower_world.purchases if one.user == 4}
    assert items[:2].tolist() == sorted(times, key=lambda item: times[item])[-2:]


def test_a_visitor_without_history_is_known_by_the_visit(tower_world: World) -> None:
    shop = open_shop(tower_world)
    for seen in ("p08", "p09"):
        asked = request(None, session_items=(seen,))
        query, _ = complete(shop.engine.snapshot, asked, Known())
        found = source(shop).retrieve(query, 10)
        assert np.mean(found.items % 2 == number(seen) % 2) >= 0.8
    nobody, _ = complete(shop.engine.snapshot, request(None), Known())
    assert not len(source(shop).retrieve(nobody, 10).items)


@pytest.mark.parametrize("placement", ["email", "home"])
@pytest.mark.parametrize("mode", [PurchaseMode.ANY, PurchaseMode.NEW_ONLY])
def test_together_they_get_what_each_gets(
    tower_world: World, placement: str, mode: PurchaseMode, caplog: pytest.LogCaptureFixture
) -> None:
    shop = lived_in(tower_world)
    for is_ranked in (False, True):
        if is_ranked:
            shop.engine.snapshot = ranked(shop.engine.snapshot)
        requests = everybody(placement, purchase_mode=mode)
        alone = [shop.engine.recommend(one) for one in requests]
        assert_same(shop.engine.recommend_many(requests), alone)
    assert not caplog.records  # what fails together would be answered one by one


def test_many_vectors_are_those_of_each(tower_world: World) -> None:
    shop = lived_in(tower_world)
    tower = source(shop)
    known = [
        latest(shop.engine.candidates(request(user))[0], tower.half_life, tower.max_history)
        for user in range(NUM_USERS)
    ]
    together = tower.embed(known)
    alone = np.concatenate([tower.embed([one]) for one in known])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_an_explanation_knows_it(tower_world: World) -> None:
    shop = open_shop(tower_world)
    shop.engine.snapshot = ranked(shop.engine.snapshot)
    asked = request(4, purchase_mode=PurchaseMode.NEW_ONLY)
    item = shop.engine.recommend(asked).items[0].item
    explained = shop.engine.explain(asked, item)
    (finding,) = [one for one in explained.sources if one.source == SOURCE]
    assert finding.rank > 0
    terms = {name for name, _ in explained.terms}
    assert terms & {"ranker.two_tower_score", "ranker.two_tower_rank"}


def test_it_runs_on_one_thread(tower_world: World) -> None:
    options = open_two_tower(open_bundle(tower_world.bundle)).session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_it_is_served_without_torch(tower_world: World) -> None:
    code = (
        "import sys; from pathlib import Path; from feature_store.bundle import open_bundle; "
        "from online.snapshot import open_snapshot; "
        f"snapshot = open_snapshot(open_bundle(Path({str(tower_world.bundle)!r}))); "
        f"assert {SOURCE!r} in snapshot.pipelines['home'].source_names; "
        "assert 'torch' not in sys.modules"
    )
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | path, check=True)


def test_a_recipe_that_does_not_ask_for_it_has_none(pristine_world: World) -> None:
    snapshot = open_snapshot(open_bundle(pristine_world.bundle))
    for name, pipeline in snapshot.pipelines.items():
        expected = [use.source for use in PLACEMENTS[name].sources if not use.is_optional]
        assert list(pipeline.source_names) == expected


@pytest.fixture
def grown(tower_world: World, tmp_path: Path) -> Iterator[Engine]:
    """The shop with two products that came after the training, and one like no other."""
    store = MemoryStore()
    with closing(open_catalog_log(tmp_path, store, is_shared=False)) as log:
        snapshot = open_snapshot(open_bundle(tower_world.bundle, num_room=8))
        engine = Engine(store, snapshot, log=log)
        intake = CatalogIntake(log, engine, embedded_encoder())
        changes = [
            Change(f"new-{name}", {"title": f"{name} thing", "category": f"{name} > Aisle 1"})
            for name in ("Even", "Odd")
        ]
        changes.append(Change("new-strange", {"title": "Zzz", "category": "Nowhere"}))
        assert intake.write(changes, HORIZON_TIME).result() == [Outcome.CREATED] * 3
        intake.close()
        yield engine


def test_a_product_that_came_later_has_a_vector_by_what_it_is_like(grown: Engine) -> None:
    shop = TestShop(grown, MemoryStore())
    even, odd, strange = grown.snapshot.catalog.indexes_of(
        ["new-Even", "new-Odd", "new-strange"]
    ).tolist()
    vectors = source(shop).index.vectors
    for place, parity in ((even, 0), (odd, 1)):
        near = vectors[EVERYTHING] @ vectors[place]
        assert liking(near, parity) > liking(near, 1 - parity) + 0.2
    assert np.linalg.norm(vectors[strange]) == pytest.approx(1, abs=1e-4)
    seen = shop.ask(None, session_items=("new-Odd",))  # a click on it speaks for its like
    assert not seen.degraded
    query, _ = complete(grown.snapshot, request(None, session_items=("new-Odd",)), Known())
    found = source(shop).retrieve(query, 10)
    assert np.mean(found.items % 2 == 1) >= 0.8
