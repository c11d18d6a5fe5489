"""Visits read from events, and served: on a shop where after item n everybody looks at n + 1."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter, open_bundle
from feature_store.catalog_log import Change, Outcome, open_catalog_log
from feature_store.events import Event
from feature_store.language.encoder import embedded_encoder
from feature_store.schema import EventKind
from feature_store.store import MemoryStore
from offline.build import build_bundle
from offline.dataset import Dataset, load_dataset
from offline.models.ranker import Ranker
from offline.models.sessions import NO_SESSIONS, Sessions
from offline.progress import QUIET
from offline.recipe import AlsConfig, DataConfig, Recipe
from offline.visits import visits_of, write_transitions
from online.delta.intake import CatalogIntake
from online.engine import Engine
from online.explain import reasons
from online.feedback.changes import apply
from online.process.parity import observed
from online.snapshot import open_snapshot
from online.types import Query, Request, Slate
from tests.offline.shops import ingest
from tests.offline.test_parity import any_ranker
from tests.online.test_together import assert_same

NUM_ITEMS = 30
MINUTE = 60_000_000
NOON = 1_704_110_400_000_000  # 2024-01-01 12:00 UTC
DAY = 1_440 * MINUTE
HORIZON = NOON + 30 * DAY
NAME = "next_in_visit"


def item_id(number: int) -> str:
    return f"p{number % NUM_ITEMS:02}"


def ring(folder: Path, *, has_visits: bool) -> Path:
    """Visitors look at n, n + 1, n + 2; buyers buy anything; one who refuses looks backwards."""
    rng, rows = np.random.default_rng(3), ["event_time,user,session,kind,item,price"]
    for number in range(200):
        user, item = f"u{number % 20}", item_id(int(rng.integers(NUM_ITEMS)))
        rows.append(f"{NOON + number * DAY // 10},{user},,purchase,{item},1")
    for number in range(300 if has_visits else 0):
        first, time = int(rng.integers(NUM_ITEMS)), NOON + number * DAY // 12
        steps = range(3) if number % 3 else range(0, -3, -1)
        who = f",visit{number}" if number % 3 else "refuses,"
        rows += [
            f"{time + place * MINUTE},{who},view,{item_id(first + step)},1"
            for place, step in enumerate(steps)
        ]
    folder.mkdir()
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    items = [f"{item_id(number)},Thing {number}" for number in range(NUM_ITEMS)]
    (folder / "products.csv").write_text("\n".join(["item,title", *items]) + "\n")
    (folder / "users.csv").write_text("user,consent_personalization\nrefuses,false\n")
    return ingest(folder, folder / "home", "--users", str(folder / "users.csv"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    tables = ring(tmp_path_factory.mktemp("ring") / "csv", has_visits=True)
    return load_dataset(tables, DataConfig(min_users_per_item=1), HORIZON)


@pytest.fixture(scope="module")
def bundle(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(dataset, tmp_path_factory.mktemp("bundles"))


def learn(dataset: Dataset, folder: Path, ranker: Ranker | None = None) -> Path:
    recipe, role = Recipe("ring", als=AlsConfig(num_factors=4)), bundle_pb2.ROLE_REFIT
    return build_bundle(dataset, recipe, folder, role, "cpu", QUIET, ranker).directory


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine(MemoryStore(), open_snapshot(open_bundle(bundle)))


def ask(engine: Engine, placement: str, *seen: str, **fields: object) -> Slate:
    request = Request(HORIZON, placement, session_items=seen, **fields)  # type: ignore[arg-type]
    slate = engine.recommend(request)
    assert not slate.degraded
    return slate


def test_visits_end_with_a_pause_and_come_in_the_order_of_their_ends() -> None:
    clicks = [  # who, item, minute
        *((0, 1, 0), (1, 9, 1), (0, 1, 2), (0, 2, 3), (1, 8, 29), (0, 5, 20), (0, 6, 51)),
        *((0, 7, 52), (2, 3, 60), (1, 7, 58)),
    ]
    clicks.sort(key=lambda click: click[2])
    who, item, minute = (np.array(column) for column in zip(*clicks, strict=True))
    visits = visits_of(who, item, minute * MINUTE)
    found = [visits.between(n, n + 1).items.tolist() for n in range(len(visits))]
    assert found == [[1, 2, 5], [6, 7], [9, 8, 7]]


def test_nothing_looked_at_is_no_visit() -> None:
    none = np.zeros(0, np.int64)
    assert len(visits_of(none, none, none)) == 0
    one = np.ones(1, np.int64)
    assert len(visits_of(one, one, one)) == 0


def test_visits_are_read_but_of_who_refuses(dataset: Dataset) -> None:
    visits = dataset.visits
    assert len(visits) == 200
    step = np.diff(visits.items.reshape(-1, 3), axis=1) % NUM_ITEMS
    assert (step == 1).all()


def test_nothing_goes_with_itself(tmp_path: Path) -> None:
    """Also what visits come back to: what stands on the page is no news."""
    phone, case, tea, mug = range(4)
    visits = [[phone, case]] * 20 + [[tea, mug, tea]] * 20
    starts = np.cumsum([0, *map(len, visits)])
    with BundleWriter(tmp_path) as writer:
        write_transitions(writer, Sessions(np.concatenate(visits), starts), 5, 3)
        ends, items = (
            np.load(writer.file(f"transitions/{name}.npy")) for name in ("ends", "items")
        )
    assert ends.tolist() == [1, 2, 3, 4, 4]
    assert items.tolist() == [case, phone, mug, tea]


@pytest.mark.parametrize("placement", ["home", "chat", "cart", "product_similar"])
def test_the_last_click_says_what_comes_next(engine: Engine, placement: str) -> None:
    names = engine.snapshot.pipelines[placement].source_names
    scores = {}
    for seen in (("p05", "p12"), ("p12", "p05")):
        last = int(seen[-1][1:])
        _, candidates = engine.candidates(Request(HORIZON, placement, session_items=seen))
        told = candidates.scores[names.index(NAME)]
        assert candidates.items[np.nanargmax(told)] == last + 1
        slate = ask(engine, placement, *seen, page_size=20)
        (found,) = [one for one in slate.items if one.item == item_id(last + 1)]
        if placement != "product_similar":  # what the same users buy weighs more there
            assert found.source == NAME
            assert found.reason.code == "looked_at_with"
            assert found.reason.parameters["item_id"] == seen[-1]
            together = f"Often looked at together with Thing {last}"
            assert reasons.text(found.reason, "en") == together
        scores[seen] = {one.item: one.score for one in slate.items}
    assert scores["p05", "p12"]["p13"] > scores["p12", "p05"]["p13"]


def test_what_a_visit_did_a_moment_ago_counts(bundle: Path) -> None:
    engine = Engine(store := MemoryStore(), open_snapshot(open_bundle(bundle)))
    visit = b"v" * 32
    for place, item in enumerate(("p20", "p03")):
        click = Event(
            event_id=item,
            event_time=HORIZON - MINUTE + place,
            session=visit.hex(),
            kind=EventKind.CLICK,
            item=item,
        )
        apply([click], store)
        slate = ask(engine, "home", session=visit)
        found = {one.item: one for one in slate.items if one.source == NAME}
        after = found[item_id(int(item[1:]) + 1)]
        assert after.reason.parameters["item_id"] == item


def test_where_nobody_looks_there_is_no_such_source(tmp_path: Path) -> None:
    tables = ring(tmp_path / "csv", has_visits=False)
    plain = load_dataset(tables, DataConfig(min_users_per_item=1), HORIZON)
    assert len(plain.visits) == len(NO_SESSIONS)
    snapshot = open_snapshot(open_bundle(learn(plain, tmp_path / "bundles")))
    for pipeline in snapshot.pipelines.values():
        assert NAME not in pipeline.source_names
    ask(Engine(MemoryStore(), snapshot), "home", "p05")


@pytest.fixture
def grown(bundle: Path, tmp_path: Path) -> Iterator[Engine]:
    """The shop with a product that came after the training."""
    store = MemoryStore()
    with closing(open_catalog_log(tmp_path, store, is_shared=False)) as log:
        engine = Engine(store, open_snapshot(open_bundle(bundle, num_room=4)), log=log)
        intake = CatalogIntake(log, engine, embedded_encoder())
        changes = [Change("new", {"title": "Thing 99"})]
        assert intake.write(changes, HORIZON).result() == [Outcome.CREATED]
        intake.close()
        yield engine


def test_nothing_is_known_to_follow_what_is_new(grown: Engine) -> None:
    assert NAME not in {one.source for one in ask(grown, "home", "new").items}
    assert NAME in {one.source for one in ask(grown, "home", "p04", "new").items}


@pytest.fixture(scope="module")
def people() -> MemoryStore:
    """Of twenty people the even ones bought and looked, the odd ones only looked."""
    store = MemoryStore()
    for number in range(20):
        kinds = (EventKind.PURCHASE, EventKind.VIEW)[number % 2 :]
        events = [
            Event(
                event_id=f"{number}/{kind}",
                event_time=HORIZON - MINUTE,
                user=person(number).hex(),
                kind=kind,
                item=item_id(3 * number),
            )
            for kind in kinds
        ]
        apply(events, store)
    return store


@pytest.fixture(scope="module")
def ranked(
    dataset: Dataset, people: MemoryStore, tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    """The shop with a ranker."""
    folder = learn(dataset, tmp_path_factory.mktemp("ranked"), any_ranker())
    return Engine(people, open_snapshot(open_bundle(folder)))


def person(number: int) -> bytes:
    return bytes([number]) * 32


def test_who_only_looks_is_answered_as_without_a_ranker(ranked: Engine, engine: Engine) -> None:
    for seen in (("p05",), ("p12", "p05")):
        assert_same([ask(ranked, "home", *seen)], [ask_alike(ranked, engine, *seen)])


def ask_alike(ranked: Engine, engine: Engine, *seen: str) -> Slate:
    version = ranked.snapshot.model_version
    return replace(ask(engine, "home", *seen), model_version=version)


def test_who_bought_is_ranked(ranked: Engine, people: MemoryStore) -> None:
    asked: list[Query] = []

    def note(query: Query, *_: object) -> None:
        asked.append(query)

    engine = Engine(people, observed(ranked.snapshot, note))
    for number in range(4):
        slate = engine.recommend(Request(HORIZON, "home", person(number)))
        assert not slate.degraded
    assert [query.request.user for query in asked] == [person(0), person(2)]


def test_both_are_explained_by_what_scored_them(ranked: Engine) -> None:
    for number, kind in ((0, "ranker."), (1, "blend.")):
        request = Request(HORIZON, "home", person(number))
        slate = ranked.recommend(request)
        explained = ranked.explain(request, slate.items[0].item)
        assert explained.score == pytest.approx(slate.items[0].score)
        assert explained.terms
        assert all(name.startswith(kind) for name, _ in explained.terms)


@pytest.mark.parametrize("placement", ["home", "email", "chat"])
def test_together_they_get_what_each_gets(
    ranked: Engine, placement: str, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [Request(HORIZON, placement, person(number), page_size=8) for number in range(25)]
    alone = [ranked.recommend(request) for request in requests]
    assert_same(ranked.recommend_many(requests), alone)
    only_looked = [ranked.recommend(request) for request in requests[1::2]]
    assert_same(ranked.recommend_many(requests[1::2]), only_looked)
    assert not caplog.records  # what fails together would be answered one by one
