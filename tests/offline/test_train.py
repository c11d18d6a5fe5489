"""The whole offline road on the checkerboard shop: CSV in, champion, store, export, RPC."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_store.bundle import FORMAT_VERSION, Bundle, open_bundle
from feature_store.checksums import MANIFEST
from feature_store.ids import Pseudonymizer
from feature_store.pointer import read_pointer
from feature_store.registry import Registry
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import UserState
from feature_store.store import MemoryStore, open_store
from offline.__main__ import main
from offline.errors import TrainingDataError
from offline.export import ExportConfig, export_slates
from offline.home import Home
from offline.materialize import materialize
from offline.past_states import PastStates
from offline.progress import QUIET
from offline.sync import sync
from offline.train import Trained, train
from online.engine import Engine
from online.snapshot import open_snapshot
from tests.feature_store.registries import write_bundle
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


def test_two_processes_learn_the_same(home: Home, trained: Trained, tmp_path: Path) -> None:
    other = Home(tmp_path, f"lmdb:{tmp_path / 'store'}", None)
    beside = train(home.tables, other, RECIPE, "cpu", QUIET, processes=2)
    assert beside.refit.bundle_id == trained.refit.bundle_id
    assert beside.judgements["aisle"].means() == trained.judgements["aisle"].means()


def test_states_of_the_past_go_on_from_earlier_ones(home: Home) -> None:
    states = PastStates(home.tables, QUIET)
    day = MICROSECONDS_PER_DAY
    for time in (CUT_TIME - 20 * day, CUT_TIME - 5 * day // 2, CUT_TIME):
        at_once = MemoryStore()
        materialize(home.tables, at_once, time, QUIET)
        later = dict(states.at(time).scan(b""))
        assert len(later) > 10
        for key, value in at_once.scan(b""):
            made, expected = UserState.decode(later[key]), UserState.decode(value)
            assert made.seen.tolist() == expected.seen.tolist()
            assert made.items["key"].tolist() == expected.items["key"].tolist()
            np.testing.assert_allclose(made.items["decayed"], expected.items["decayed"], 1e-5)
    with pytest.raises(ValueError, match="order of time"):
        states.at(CUT_TIME - day)


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
    written = set(home.bundles.iterdir())
    with pytest.raises(TrainingDataError, match="has learned from the period"):
        train(home.tables, home, earlier, "cpu", QUIET)
    assert set(home.bundles.iterdir()) == written  # it is said before anything is learned


@pytest.mark.parametrize(
    ("format_version", "said"), [(1, "has format 1"), (FORMAT_VERSION, "has no file")]
)
def test_it_learns_beside_a_champion_that_this_code_cannot_read(
    home: Home, tmp_path: Path, format_version: int, said: str
) -> None:
    own = Home(tmp_path, f"lmdb:{tmp_path / 'store'}", None)
    registry = Registry(own.path)
    with registry.start_run("before") as run:
        for role in ("judged", "refit"):
            bundle = write_bundle(tmp_path / "old", role=role)
            with_format(bundle, format_version)
            version = registry.register(run, bundle)
    registry.set_alias("champion", version)
    later = train(home.tables, own, RECIPE, "cpu", QUIET)
    assert "the champion, which is unreadable" in later.verdict.reason
    assert said in later.verdict.reason
    assert "train" not in later.verdict.reason
    assert later.verdict.passed  # it beats popularity
    assert "champion" not in later.judgements
    assert registry.resolve("champion") == later.refit


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


def with_format(bundle: Bundle, version: int) -> None:
    """Let its manifest name another format."""
    manifest = bundle.directory / MANIFEST
    said = json.loads(manifest.read_text()) | {"formatVersion": version}
    manifest.write_text(json.dumps(said))


def pseudonym(number: int) -> str:
    return Pseudonymizer(KEY).hexdigest(user_id(number))
