"""What was changed while the server ran is in the next bundle, and then no longer beside it."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, open_bundle
from feature_store.catalog_log import CatalogLog, Change, open_catalog_log
from feature_store.pointer import Pointer, serving_folder, write_pointer
from feature_store.store import MemoryStore
from offline.build import build_bundle
from offline.catalog_changes import fold_catalog, fold_changes, taken_in
from offline.dataset import load_dataset
from offline.home import Home
from offline.ingest.tables import scan_products
from offline.progress import QUIET
from online.engine import Engine
from online.snapshot import open_snapshot
from online.types import Request
from tests.offline.shops import RECIPE, usual_tables
from tests.worlds import HORIZON_TIME

NOW = HORIZON_TIME


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return usual_tables(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def tables(pristine: Path, tmp_path: Path) -> Path:

    return Path(shutil.copytree(pristine, tmp_path / "home" / "tables"))


@pytest.fixture
def log(tables: Path) -> Iterator[CatalogLog]:
    with closing(open_catalog_log(tables.parent, MemoryStore(), is_shared=False)) as log:
        yield log


def knows(item: str) -> bool:
    return item.startswith("p")


def change_some(log: CatalogLog) -> None:
    changes = [
        Change("tea", {"title": "Even tea", "category": "Even > Aisle 0", "tags": ["green"]}),
        Change("p02", {"price": 99.5}, is_whole=False),
        Change("p04", {"title": "Whole anew", "num_in_stock": 0}),
        Change("p06", is_deleted=True),
        Change("gone", {"title": "Came"}),
        Change("gone", is_deleted=True),
    ]
    log.append(changes, NOW, knows)


def rows(tables: Path) -> dict[str, dict[str, object]]:
    return {row["item"]: row for row in scan_products(tables).collect().iter_rows(named=True)}


def learned(tables: Path) -> Bundle:
    recipe = replace(RECIPE, data=replace(RECIPE.data, cut_time=None))
    dataset = load_dataset(tables, recipe.data, HORIZON_TIME)
    role = bundle_pb2.ROLE_REFIT
    return build_bundle(dataset, recipe, serving_folder(tables.parent), role, "cpu", QUIET)


def shown(bundle: Bundle, log: CatalogLog) -> Engine:
    snapshot = open_snapshot(open_bundle(bundle.directory, num_room=8))
    return Engine(MemoryStore(), snapshot, log=log)


def test_the_products_are_as_they_are_now(tables: Path, log: CatalogLog) -> None:
    before = rows(tables)
    change_some(log)
    assert fold_changes(tables, log) == 5
    after = rows(tables)
    assert after.keys() - before.keys() == {"tea"}
    assert after["tea"]["tags"] == ["green"]
    assert after["tea"]["created_time"] is not None
    assert after["p02"] == {**before["p02"], "price": 99.5}
    assert (after["p04"]["title"], after["p04"]["category"]) == ("Whole anew", None)
    assert after["p04"]["available"] is False
    assert after["p06"] == {**before["p06"], "available": False}
    untouched = before.keys() - {"p02", "p04", "p06"}
    assert all(after[item] == before[item] for item in untouched)
    assert scan_products(tables).collect()["item"].is_sorted()


def test_folding_again_does_no_harm(tables: Path, log: CatalogLog) -> None:
    change_some(log)
    fold_changes(tables, log)
    once = scan_products(tables).collect()
    assert fold_changes(tables, log) == 0
    (tables / "catalog.json").unlink()  # as after a crash between the two
    fold_changes(tables, log)
    assert scan_products(tables).collect().equals(once)
    assert taken_in(tables) == log.version


def test_the_next_bundle_has_taken_them_in(tables: Path, log: CatalogLog) -> None:
    first = learned(tables)
    change_some(log)
    engine = shown(first, log)
    grown = engine.snapshot
    assert grown is not engine.base
    assert grown.catalog.price[2] == pytest.approx(99.5)
    fold_changes(tables, log)
    second = learned(tables)
    engine.snapshot = open_snapshot(open_bundle(second.directory, num_room=8))
    base, now = engine.base.catalog, engine.snapshot.catalog
    assert base.price[2] == now.price[2] == pytest.approx(99.5)
    assert now.ids[len(now) - 1] == "tea"  # nobody has bought it: no bundle holds it yet
    assert len(base) == 60
    log.append([Change("p02", {"price": 1.5}, is_whole=False)], NOW, knows)
    assert engine.snapshot.catalog.price[2] == pytest.approx(1.5)
    engine.snapshot = open_snapshot(open_bundle(first.directory, num_room=8))  # rolled back
    assert engine.snapshot.catalog.price[2] == pytest.approx(1.5)
    slate = engine.recommend(Request(NOW, "new_arrivals", page_size=60))
    assert {"p04", "p06"}.isdisjoint(item.item for item in slate.items)
    assert "tea" in {item.item for item in slate.items}


def test_a_bundle_that_holds_everything_stands_alone(tables: Path, log: CatalogLog) -> None:
    log.append([Change("p02", {"price": 99.5}, is_whole=False)], NOW, knows)
    fold_changes(tables, log)
    engine = shown(learned(tables), log)
    assert engine.snapshot is engine.base


def test_what_serving_bundles_have_taken_in_is_trimmed(tables: Path, log: CatalogLog) -> None:
    home = Home(tables.parent, "memory:", None)
    log.append([Change("p02", {"price": 99.5}, is_whole=False)], NOW, knows)
    assert fold_catalog(home, tables) == 1
    assert [row.item for row in log.read()] == ["p02"]  # nothing serves yet
    bundle = learned(tables)
    write_pointer(home.path, Pointer("champion", 1, bundle.bundle_id, bundle.directory))
    fold_catalog(home, tables)
    assert log.read() == []  # the change is of the year of the tables, long ago
    log.append([Change("p02", {"price": 9.5}, is_whole=False)], NOW, knows)
    fold_catalog(home, tables)
    assert [row.item for row in log.read()] == ["p02"]
