"""Products that nobody has bought yet, found by what their text means: a shop of three shelves."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import open_bundle
from feature_store.catalog_log import Change, Outcome, open_catalog_log
from feature_store.events import Event, with_event_id
from feature_store.ids import Pseudonymizer
from feature_store.language.encoder import embedded_encoder
from feature_store.schema import MICROSECONDS_PER_DAY, PRODUCTS, EventKind
from feature_store.store import MemoryStore
from offline.build import build_bundle
from offline.dataset import Dataset, Purchases
from offline.progress import QUIET
from offline.recipe import AlsConfig, Recipe
from online.delta.intake import CatalogIntake
from online.engine import Engine
from online.feedback.changes import apply
from online.snapshot import open_snapshot
from online.types import Request, Slate
from tests.worlds import HORIZON_TIME, KEY

SHELVES = {
    "dairy": (
        *("Cheddar cheese", "Cream cheese", "Goat cheese", "Whole milk", "Skimmed milk"),
        *("Greek yogurt", "Salted butter", "Mozzarella", "Cottage cheese", "Sour cream"),
    ),
    "bath": (
        *("Shampoo for dry hair", "Hair conditioner", "Hand soap", "Shower gel", "Body lotion"),
        *("Bath foam", "Toothpaste", "Shaving cream", "Face cleanser", "Deodorant spray"),
    ),
    "tools": (
        *("Claw hammer", "Cordless drill", "Wood screws", "Adjustable wrench", "Steel nails"),
        *("Hand saw", "Tape measure", "Screwdriver set", "Pliers", "Spirit level"),
    ),
}
NEW = {
    "new-dairy": "Smoked gouda cheese",
    "new-bath": "Herbal shampoo",
    "new-tools": "Carpenter's hammer",
    "new-chinese": "山羊奶酪",
}
TITLES = [title for titles in SHELVES.values() for title in titles]
PSEUDONYMS = Pseudonymizer(KEY)


def shelf_of(title: str) -> str:
    return next(shelf for shelf, titles in SHELVES.items() if title in titles)


def purchases() -> list[tuple[int, int, int]]:
    """User, item and time: user n buys from shelf n modulo three only."""
    rng = np.random.default_rng(5)
    days = 30 * MICROSECONDS_PER_DAY
    rows = [
        (user, 10 * (user % 3) + int(item), HORIZON_TIME - days + int(rng.random() * days))
        for user in range(30)
        for item in rng.choice(10, 6, replace=False)
    ]
    return sorted(rows, key=lambda row: row[2])


def learn(folder: Path) -> Path:
    rows = [
        {"item": f"{number:02}", "title": title, "category": "", "available": True}
        for number, title in enumerate(TITLES)
    ]
    items = pl.DataFrame(rows).with_columns(
        pl.lit(None).alias(name) for name in PRODUCTS.names if name not in rows[0]
    )
    user, item, time = (np.array(column) for column in zip(*purchases(), strict=True))
    bought = Purchases(
        user.astype(np.int32), item.astype(np.int32), time, np.ones(len(time), np.float32)
    )
    users = tuple(PSEUDONYMS.hexdigest(f"u{n}") for n in range(30))
    dataset = Dataset(users, items, bought, HORIZON_TIME)
    recipe, role = Recipe("shelves", als=AlsConfig(num_factors=3)), bundle_pb2.ROLE_REFIT
    encoder = embedded_encoder()
    built = build_bundle(dataset, recipe, folder, role, "cpu", QUIET, encoder=encoder)
    return built.directory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def engine(bundle: Path, tmp_path: Path) -> Iterator[Engine]:
    """The shop with the new products, as the server has it."""
    store = MemoryStore()
    events = [
        Event(
            event_id="",
            event_time=time,
            user=PSEUDONYMS.hexdigest(f"u{user}"),
            kind=EventKind.PURCHASE,
            item=f"{item:02}",
        )
        for user, item, time in purchases()
    ]
    apply([with_event_id(event) for event in events], store)
    with closing(open_catalog_log(tmp_path, store, is_shared=False)) as log:
        snapshot = open_snapshot(open_bundle(bundle, num_room=16))
        engine = Engine(store, snapshot, log=log)
        intake = CatalogIntake(log, engine, embedded_encoder())
        changes = [Change(item, {"title": title}) for item, title in NEW.items()]
        assert intake.write(changes, HORIZON_TIME).result() == [Outcome.CREATED] * len(NEW)
        intake.close()
        yield engine


def ask(engine: Engine, placement: str, user: int | None = None, **fields: object) -> Slate:
    pseudonym = b"" if user is None else PSEUDONYMS.digest(f"u{user}")
    request = Request(HORIZON_TIME, placement, user=pseudonym, **fields)  # type: ignore[arg-type]
    slate = engine.recommend(request)
    assert not slate.degraded
    return slate


def new_in(slate: Slate) -> list[str]:
    return [item.item for item in slate.items if item.item in NEW]


def test_neighbours_are_of_the_same_shelf(engine: Engine) -> None:
    catalog = engine.snapshot.catalog
    vectors = engine.base.bundle.column("als_similar/vectors")
    for item, shelf in (("new-dairy", 0), ("new-bath", 1), ("new-tools", 2), ("new-chinese", 0)):
        (place,) = catalog.indexes_of([item]).tolist()
        near = vectors[:30] @ vectors[place]
        assert near.reshape(3, 10).mean(axis=1).argmax() == shelf


@pytest.mark.parametrize("user", [0, 1, 2, 3, 4, 5])
def test_a_user_gets_what_is_new_on_their_own_shelf_first(engine: Engine, user: int) -> None:
    own = (("new-dairy", "new-chinese"), ("new-bath",), ("new-tools",))[user % 3]
    found = new_in(ask(engine, "new_arrivals", user))
    assert set(found[: len(own)]) == set(own)


def test_a_page_shows_what_is_new_beside_its_product(engine: Engine) -> None:
    """Of two new cheeses the page of goat cheese shows the goat's, called so in Chinese."""
    for title, item in (("Goat cheese", "new-chinese"), ("Hand saw", "new-tools")):
        number = TITLES.index(title)
        slate = ask(engine, "product_similar", context_items=(f"{number:02}",), page_size=8)
        assert new_in(slate)[0] == item


def test_the_page_of_a_new_product_shows_its_shelf(engine: Engine) -> None:
    for item, shelf in (("new-bath", "bath"), ("new-chinese", "dairy")):
        slate = ask(engine, "product_similar", context_items=(item,), page_size=6)
        kept = [one.item for one in slate.items if one.item not in NEW]
        assert {shelf_of(TITLES[int(one)]) for one in kept} == {shelf}


def test_a_drawn_slot_says_how_likely_it_was(engine: Engine) -> None:
    drawn = set()
    for user in range(30):
        slate = ask(engine, "home", user, page_size=6, explores=True)
        (item,) = (one for one in slate.items if one.item in NEW)
        assert item.propensity in (1.0, 0.25)
        drawn.add(item.item)
    assert len(drawn) > 1


def test_what_is_drawn_by_nobody_is_certain(engine: Engine) -> None:
    slate = ask(engine, "home", 0, page_size=6)
    assert {item.propensity for item in slate.items} == {1.0}


@pytest.mark.parametrize("placement", ["email", "home", "new_arrivals", "product_similar"])
def test_together_they_get_what_each_gets(engine: Engine, placement: str) -> None:
    requests = [
        Request(HORIZON_TIME, placement, PSEUDONYMS.digest(f"u{n}"), page_size=6) for n in range(35)
    ]
    slates = engine.recommend_many(requests)
    assert slates == [engine.recommend(request) for request in requests]
    assert any(map(new_in, slates))
