"""The whole offline road on the checkerboard shop: CSV in, champion, store, export, RPC."""

import json
from pathlib import Path

import polars as pl
import pytest

from feature_store.bundle import open_bundle
from feature_store.ids import Pseudonymizer
from feature_store.pointer import read_pointer
from feature_store.registry import Registry
from feature_store.store import open_store
from offline.__main__ import main
from offline.errors import TrainingDataError
from offline.export import ExportConfig, export_slates
from offline.home import Home
from offline.materialize import materialize
from offline.progress import QUIET
from offline.sync import sync
from offline.train import Trained, train
from online.engine import Engine
from online.snapshot import open_snapshot
from tests.offline.shops import CUT_TIME, RECIPE, usual_tables
from tests.online.serving import ServerProcess
from tests.worlds import KEY, NUM_USERS, World, is_even, user_id


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "home").mkdir()
    (folder / "home" / "pseudonym.key").write_text(KEY.hex())
    usual_tables(folder)
    path = folder / "home"
    return Home(path, f"lmdb:{path / 'store'}", None)


@pytest.fixture(scope="module")
def trained(home: Home) -> Trained:
    return train(home.tables, home, RECIPE, "cpu", QUIET)


@pytest.fixture(scope="module")
def served(home: Home, trained: Trained) -> Home:
    store = open_store(home.store)
    materialize(home.tables, store, None, QUIET)
    store.close()
    sync(Registry(home.path), home.path)
    return home


def test_it_beats_popularity_which_cannot_tell_even_from_odd(trained: Trained) -> None:
    popularity = trained.judgements["popularity"].means()["recall_at_20_all"]
    assert trained.judgements["aisle"].means()["recall_at_20_all"] > 2 * popularity
    assert trained.verdict.passed


def test_a_run_registers_the_judged_bundle_and_the_refit(home: Home, trained: Trained) -> None:
    registry = Registry(home.path)
    champion = registry.resolve("champion")
    assert champion == trained.refit
    judged = registry.sibling(champion)
    assert judged is not None
    assert (judged.role, champion.role) == ("judged", "refit")
    assert judged.horizon_time == CUT_TIME < champion.horizon_time


def test_a_champion_is_not_judged_on_what_it_has_seen(home: Home, trained: Trained) -> None:
    earlier = RECIPE.with_cut(CUT_TIME - 14 * 86_400_000_000)
    with pytest.raises(TrainingDataError, match="has learned from the period"):
        train(home.tables, home, earlier, "cpu", QUIET)


def test_the_export_equals_what_the_server_answers(served: Home, tmp_path: Path) -> None:
    bundle = read_pointer(served.path).directory
    store = open_store(served.store)
    engine = Engine(store, open_snapshot(open_bundle(bundle)))
    config = ExportConfig(placement="email", page_size=12)
    assert export_slates(engine, store, config, tmp_path / "out", QUIET) == NUM_USERS
    store.close()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    rows = pl.concat(pl.read_parquet(tmp_path / "out" / name) for name in manifest["files"])

    server = ServerProcess(World(served.path, bundle, ()))
    try:
        caller = server.wait_until_ready()
        for number in range(NUM_USERS):
            response = caller.recommend(user_id(number), placement="email", page_size=12)
            own = rows.filter(pl.col("user") == pseudonym(number)).sort("rank")
            assert own["item"].to_list() == [item.item_id for item in response.items]
            scores = [item.score for item in response.items]
            assert own["score"].to_list() == pytest.approx(scores, abs=1e-5)
            assert own["reason_text"].to_list() == [item.reason.text for item in response.items]
    finally:
        server.kill()


def test_even_users_are_shown_even_items(served: Home, tmp_path: Path) -> None:
    store = open_store(served.store)
    engine = Engine(store, open_snapshot(open_bundle(read_pointer(served.path).directory)))
    export_slates(engine, store, ExportConfig(page_size=10), tmp_path, QUIET)
    store.close()
    rows = pl.read_parquet(tmp_path / "part-00000.parquet")
    for number in range(NUM_USERS):
        items = rows.filter(pl.col("user") == pseudonym(number))["item"]
        assert {is_even(item) for item in items} == {number % 2 == 0}


def test_a_campaign_is_exported_by_its_command(served: Home, tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text('campaign = "all"\n[slots]\nproducts = 3\n')
    words = ["export", "--home", str(served.path), "--campaign", str(tmp_path / "campaign.toml")]
    assert main([*words, "--out", str(tmp_path / "out"), "--workers", "0", "--preview", "3"]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["num_users"] == NUM_USERS
    assert manifest["num_rows"] == 3 * NUM_USERS
    assert (tmp_path / "out" / "preview.html").read_text().count('<article class="mail"') == 3
    (tmp_path / "campaign.toml").write_text("campaign = 3")
    assert main([*words, "--out", str(tmp_path / "other")]) == 2


def pseudonym(number: int) -> str:
    return Pseudonymizer(KEY).hexdigest(user_id(number))
