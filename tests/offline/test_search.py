"""The search: judged before the test period only, resumable, and its file trains."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from offline.dataset import time_span
from offline.errors import RecipeError, TrainingDataError
from offline.progress import QUIET
from offline.recipe import DataConfig, RankerConfig, Recipe, completejourney, shop
from offline.recipe_file import changed, load_recipe, read_recipe, write_recipe
from offline.search import SPACE, drawn, open_study, search, task_of, whole_trials
from tests.offline.shops import CUT_TIME, RECIPE, WEEK, usual_tables
from tests.worlds import KEY

NO_RANKER = Recipe(
    "shop", data=DataConfig(min_users_per_item=1, num_test_days=7), als=RECIPE.als, ranker=None
)


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    changes = {"seed": 3, "als": {"alpha": 2.5}, "ranker": {"num_trees": 7}}
    write_recipe(path, "shop", changes, "two\nlines")
    expected = changed(shop(), {"name": "mine"} | changes)
    assert load_recipe(str(path)) == expected
    assert (expected.seed, expected.als.alpha) == (3, 2.5)
    assert expected.ranker is not None
    assert expected.ranker.num_trees == 7
    assert expected.data == shop().data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with base"),
        ('base = "other"', "must begin with base"),
        ('base = "shop"\nsped = 1', "no sped; there are name, seed"),
        ('base = "shop"\n[als]\nfactors = 1', "no als.factors"),
        ('base = "shop"\n[als]\nnum_factors = "many"', "als.num_factors = 'many'"),
        ('base = "shop"\n[als]\nnum_factors = 1.5', "another kind"),
        ("base = ", "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


def test_lists_and_whole_numbers_become_what_the_recipe_has(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text(
        'base = "shop"\n[als]\nalpha = 3\n[ranker]\nhidden = [8, 4]\n'
        '[data]\nexclude_departments = ["FUEL"]\ncut_time = 5\n'
    )
    recipe = read_recipe(path)
    assert recipe.ranker == RankerConfig(hidden=(8, 4))
    assert repr(recipe.als.alpha) == "3.0"
    assert recipe.data.exclude_departments == ("FUEL",)
    assert recipe.data.cut_time == 5


def test_names_are_recipes_in_code() -> None:
    assert load_recipe("completejourney") == completejourney()
    assert load_recipe("quick").name == "quick"
    with pytest.raises(RecipeError, match="there are completejourney, quick, shop"):
        load_recipe("slow")


def test_the_space_is_made_of_fields_of_the_recipe() -> None:
    trial = optuna.create_study().ask()
    tried = changed(shop(), drawn(shop(), trial))
    assert tried != shop()
    assert set(trial.params) == set(SPACE)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "home").mkdir()
    (folder / "home" / "pseudonym.key").write_text(KEY.hex())
    return usual_tables(folder)


def test_the_validation_period_ends_where_the_test_period_begins(tables: Path) -> None:
    task = task_of(tables, NO_RANKER, "recall_at_20_all")
    assert task.end_time == time_span(tables)[1] - WEEK
    assert task.cut_time == task.end_time - WEEK
    assert task.recipe.data.cut_time == task.cut_time
    early = Recipe("early", data=DataConfig(cut_time=time_span(tables)[0] + WEEK))
    with pytest.raises(TrainingDataError, match="no validation period"):
        task_of(tables, early, "recall_at_20_all")


def test_a_search_goes_on_where_it_stopped_and_keeps_the_best(tables: Path, tmp_path: Path) -> None:
    storage, out = f"sqlite:///{tmp_path / 'search.db'}", tmp_path / "recipes" / "best.toml"
    recipe = Recipe("shop", data=DataConfig(1, cut_time=CUT_TIME, num_test_days=7), ranker=None)
    task = task_of(tables, recipe, "recall_at_20_all")
    study = open_study(task, storage)
    search(task, study, 1, out, QUIET)
    assert study.trials[0].params["als.num_factors"] == recipe.als.num_factors
    study.ask()  # a trial that is stopped in the middle
    again = open_study(task, storage)
    search(task, again, 3, out, QUIET)
    states = [trial.state for trial in again.trials]
    assert states.count(TrialState.COMPLETE) == 3
    assert states.count(TrialState.FAIL) == 1
    best = max(whole_trials(again), key=lambda trial: trial.value or 0.0)
    assert again.best_trial.value == best.value
    found = read_recipe(out)
    assert found.als.num_factors == best.params["als.num_factors"]
    assert f"{best.value:.4f}" in out.read_text()


def test_trials_of_another_period_are_not_mixed(tables: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    open_study(task_of(tables, NO_RANKER, "recall_at_20_all"), storage)
    other = task_of(tables, NO_RANKER.with_cut(CUT_TIME - WEEK), "recall_at_20_all")
    with pytest.raises(RecipeError, match="another period"):
        open_study(other, storage)
