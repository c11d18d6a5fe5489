"""Measures beside accuracy by hand, calibration on known chances, and the page of a real run."""

import re
from pathlib import Path

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.registry import Registry
from offline.evaluation.evaluating import AISLE, POPULARITY
from offline.evaluation.probabilities import calibration_curve, judge_probabilities
from offline.evaluation.segments import Segment
from offline.evaluation.slates import (
    as_matrix,
    category_diversity,
    coverage,
    diversity,
    novelty,
    slate_means,
)
from offline.home import Home
from offline.models.ranker import Lessons, expected_calibration_error, fit_ranker
from offline.progress import QUIET
from offline.recipe import RankerConfig, Recipe
from offline.train import Trained, train
from tests.offline.shops import RECIPE, usual_tables
from tests.worlds import KEY, NUM_ITEMS, NUM_USERS

SMALL = RankerConfig(
    label_days=14, num_cuts=1, num_trees=5, num_epochs=2, min_rows_in_leaf=10, hidden=(8,)
)


def test_slates_by_hand() -> None:
    slates = as_matrix([[0, 1, 2], [3, 3], []], 3)
    assert slates.tolist() == [[0, 1, 2], [3, 3, -1], [-1, -1, -1]]
    assert coverage(slates, 8) == 0.5
    popularity = np.array([0.5, 0.25, 0.25, 0.125])
    np.testing.assert_allclose(novelty(slates, popularity), [5 / 3, 3, np.nan])
    np.testing.assert_allclose(slate_means(slates, popularity), [1 / 3, 0.125, np.nan])
    category = np.array([7, 7, 9, 7], np.int32)
    np.testing.assert_allclose(category_diversity(slates, category), [2 / 3, 0, np.nan])


def test_diversity_is_one_less_the_mean_cosine_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = [rng.choice(30, size, replace=False).tolist() for size in (20, 5, 2, 1)]
    found = diversity(as_matrix(chosen, 20), vectors)
    for slate, value in zip(chosen[:3], found[:3], strict=True):
        pairs = [(a, b) for a in slate for b in slate if a < b]
        naive = 1 - np.mean([vectors[a] @ vectors[b] for a, b in pairs])
        assert value == pytest.approx(naive, abs=1e-6)
    assert np.isnan(found[3])


def test_a_segment_measures_only_what_it_means() -> None:
    segment = Segment("", "", (frozenset({1, 2}), frozenset(), frozenset({3})))
    assert (segment.num_users, segment.num_purchases) == (2, 3)
    np.testing.assert_array_equal(segment.recall([[1, 9], [5], [4]]), [0.5, np.nan, 0.0])


def test_calibration_is_the_error_that_was_put_in() -> None:
    rng = np.random.default_rng(1)
    chance = rng.random(60_000) * 0.2
    bought = (rng.random(len(chance)) < chance).astype(np.float32)
    owner = np.repeat(np.arange(600), 100).astype(np.int32)
    exact = calibration_curve(chance, bought, owner).error
    assert exact.mean < 0.005
    shifted = calibration_curve(chance + 0.05, bought, owner).error
    assert shifted.mean == pytest.approx(0.05, abs=0.005)
    assert shifted.low < 0.05 < shifted.high
    assert shifted.mean == pytest.approx(
        expected_calibration_error(chance + 0.05, bought), abs=1e-6
    )


def test_the_teacher_and_the_network_are_measured_on_the_same_rows() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(8_000, 4)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(3 * features[:, 0] - 2)))
    labels = (rng.random(len(chance)) < chance).astype(np.float32)
    config = RankerConfig(
        num_trees=40,
        learning_rate=0.1,
        feature_share=1.0,
        negative_share=1.0,
        num_epochs=20,
        batch_size=256,
        hidden=(8,),
    )
    ranker = fit_ranker(features, Lessons.of_purchases(labels), config, 0, QUIET)
    owner = np.repeat(np.arange(80), 100).astype(np.int32)
    found = judge_probabilities(ranker, features, labels, owner)
    assert found is not None
    one = found.distillation
    assert min(one.auc_teacher, one.auc_network) > 0.85
    assert one.recall_lost.mean == pytest.approx(one.recall_teacher - one.recall_network)
    assert one.network_us < one.teacher_us
    assert found.curve.error.mean < 0.03
    assert judge_probabilities(ranker, features, np.zeros_like(labels), owner) is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("shop") / "home"
    path.mkdir()
    (path / "pseudonym.key").write_text(KEY.hex())
    usual_tables(path.parent)
    return Home(path, f"lmdb:{path / 'store'}", None)


@pytest.fixture(scope="module")
def trained(home: Home) -> Trained:
    recipe = Recipe("ranked", data=RECIPE.data, als=RECIPE.als, ranker=SMALL)
    return train(home.tables, home, recipe, "cpu", QUIET)


def test_what_the_table_says_is_what_the_gate_was_told(trained: Trained) -> None:
    means = trained.judgements[AISLE].means()
    for name in ("recall_at_20_all", "ndcg_at_20_all", "recall_at_20_new", "ndcg_at_20_new"):
        row = trained.evaluation.measures[name]
        assert row[AISLE].value.mean == pytest.approx(means[name])
        lead, popular = row[POPULARITY].lead, trained.judgements[POPULARITY].means()[name]
        assert lead is not None
        assert lead.mean == pytest.approx(means[name] - popular)
        assert lead.low <= lead.mean <= lead.high


def test_segments_part_users_and_purchases(trained: Trained) -> None:
    parts = {part.name: part for part in trained.evaluation.parts}
    everybody = parts["everybody"]
    assert everybody.num_users == NUM_USERS
    assert everybody.recall[AISLE].value.mean == pytest.approx(
        trained.judgements[AISLE].means()["recall_at_20_all"]
    )
    levels = [parts[name].num_users for name in ("light buyers", "middle", "heavy buyers")]
    assert sum(levels) == NUM_USERS
    halves = [parts[name].num_purchases for name in ("repeat purchases", "new purchases")]
    assert sum(halves) == everybody.num_purchases


def test_popularity_covers_little_and_shows_what_is_popular(trained: Trained) -> None:
    measures = trained.evaluation.measures
    covered = measures["coverage"]
    assert covered[POPULARITY].value.mean == pytest.approx(20 / NUM_ITEMS, abs=0.01)
    assert covered[AISLE].value.mean > covered[POPULARITY].value.mean
    assert measures["popularity_bias"][POPULARITY].value.mean > 1
    assert measures["novelty_bits"][POPULARITY].value.mean < (
        measures["novelty_bits"][AISLE].value.mean
    )


def test_the_figures_are_in_the_run_and_in_the_bundle(home: Home, trained: Trained) -> None:
    registry = Registry(home.path)
    bundle = open_bundle(registry.fetch(trained.refit, home.bundles))
    assert dict(bundle.manifest.metrics) == pytest.approx(trained.evaluation.metrics())
    assert {"ece", "distillation_recall_at_20_lost", "map_at_20_all"} <= set(
        bundle.manifest.metrics
    )


def test_the_page_needs_nothing_else_and_says_the_verdict(home: Home, trained: Trained) -> None:
    assert trained.page == home.path / "reports" / f"{trained.refit.bundle_id}.html"
    text = trained.page.read_text()
    assert "It serves from now on." in text
    assert text.count("<svg") == 6
    assert "thing" in text  # a product by its title
    outside = re.findall(r"(?:src|href)=\"(?!#)([^\"]+)\"", text)
    assert [place for place in outside if not place.startswith("http://www.w3.org")] == []
    logged = list((home.path / "mlartifacts").rglob(trained.page.name))
    assert [Path(path).read_text() for path in logged] == [text]


def test_the_champion_before_stands_beside_the_candidate(home: Home, trained: Trained) -> None:
    unranked = Recipe("unranked", data=RECIPE.data, als=RECIPE.als, ranker=None)
    later = train(home.tables, home, unranked, "cpu", QUIET)
    for name in ("recall_at_20_all", "map_at_20_new", "coverage", "popularity_bias", "diversity"):
        before = trained.evaluation.measures[name][AISLE].value
        assert later.evaluation.measures[name]["champion"].value.mean == pytest.approx(before.mean)
    parts = {part.name: part for part in later.evaluation.parts}
    assert {"champion", AISLE, POPULARITY} <= set(parts["new purchases"].recall)
    assert later.evaluation.probabilities is None
    assert "There is no ranker" in later.page.read_text()
