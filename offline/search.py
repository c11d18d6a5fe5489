"""Search: try values of a recipe, judge them on the validation period, keep the best as a file.

    python -m offline search --recipe shop --trials 30
    python -m offline train --recipe HOME/recipes/shop-tuned.toml

The validation period is as long as the test period and ends where that begins: no later event is
learned from or judged on, so that what `train` measures is still a judgement. Every trial learns a
whole bundle and asks the engine that serves. The first trial is the recipe as it is. Trials are
kept in a database: stop at any time, and the same command goes on; `--trials` counts those that
are kept.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from rich.table import Table

from aisle.bundle.v1 import bundle_pb2
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import HALF_LIVES_DAYS
from offline.build import build_bundle
from offline.dataset import load_dataset, time_span
from offline.erase import finish_pending
from offline.errors import RecipeError, TrainingDataError
from offline.home import Home
from offline.past_states import PastStates
from offline.progress import QUIET, Progress
from offline.rank import train_ranker
from offline.recipe import RECIPES, Recipe
from offline.recipe_file import changed, write_recipe
from offline.replay import load_heldout, replay
from online.snapshot import open_snapshot

PLACEMENT: Final = "home"
MEASURES: Final = ("recall_at_20_all", "recall_at_20_new", "ndcg_at_20_all", "ndcg_at_20_new")
HALF_LIFE_NUMBERS: Final = tuple(range(len(HALF_LIVES_DAYS)))


@dataclass(frozen=True, slots=True)
class Range:
    """A field's values from `low` to `high`; `log`: spread by ratio. Whole if `low` is."""

    low: float
    high: float
    log: bool = False

    def draw(self, name: str, trial: Trial) -> float:
        """A value for this trial."""
        if isinstance(self.low, int):
            return trial.suggest_int(name, self.low, int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


SPACE: Final[dict[str, Range]] = {
    "als.num_factors": Range(16, 128, log=True),
    "als.alpha": Range(1.0, 60.0, log=True),
    "als.regularization": Range(0.1, 60.0, log=True),
    "linear.l2": Range(20.0, 2000.0, log=True),
    "profile_half_life": Range(0, HALF_LIFE_NUMBERS[-1]),
    "ranker.num_trees": Range(20, 400, log=True),
    "ranker.learning_rate": Range(0.02, 0.15, log=True),
    "ranker.min_rows_in_leaf": Range(20, 1000, log=True),
    "ranker.num_epochs": Range(2, 12),
    "ranker.teacher_weight": Range(0.0, 1.0),
}
"""What is tried: fields of the recipe, by place; those of `ranker` only where there is one."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a search is about: instants are microseconds UTC; `measure` is made as large as can be.

    Learned from before `cut_time`, judged from then until `end_time`.
    """

    tables: Path
    recipe: Recipe
    cut_time: int
    end_time: int
    measure: str

    @property
    def period(self) -> list[int]:
        """Cut and end, as kept beside the trials."""
        return [self.cut_time, self.end_time]


def task_of(tables: Path, recipe: Recipe, measure: str) -> Task:
    """The task on the validation period; TrainingDataError when the past is too short for one."""
    first_time, last_time = time_span(tables)
    length = recipe.data.num_test_days * MICROSECONDS_PER_DAY
    end_time = recipe.data.cut_time or last_time - length
    if not first_time < end_time - length:
        raise TrainingDataError(
            "there is no validation period before the test period; ingest a longer past or lower "
            "num_test_days in the recipe"
        )
    return Task(tables, recipe.with_cut(end_time - length), end_time - length, end_time, measure)


def measure_recipe(task: Task, recipe: Recipe) -> dict[str, float]:
    """Learn the recipe before the cut, judge it on the validation period; each measure's mean."""
    past = load_dataset(task.tables, recipe.data, task.cut_time)
    states = PastStates(task.tables, QUIET)
    ranker = train_ranker(task.tables, recipe, task.cut_time, states, QUIET)
    with tempfile.TemporaryDirectory(prefix="aisle-search-") as folder:
        role = bundle_pb2.ROLE_JUDGED
        bundle = build_bundle(past, recipe, Path(folder), role, "cpu", QUIET, ranker)
        snapshot, store = open_snapshot(bundle), states.at(task.cut_time)
        heldout = load_heldout(
            task.tables, recipe.data, snapshot, store, task.cut_time, task.end_time
        )
        return replay(snapshot, store, heldout, PLACEMENT, QUIET).means()


def open_study(task: Task, storage: str) -> optuna.Study:
    """The study of the task, begun or gone on with; RecipeError when it was of other data."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=storage,
        study_name=f"{task.recipe.name}/{task.measure}",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=task.recipe.seed + _num_begun(storage, task)),
        load_if_exists=True,
    )
    if study.user_attrs.setdefault("period", task.period) != task.period:
        raise RecipeError(
            f"the trials in {storage} were judged on another period; name another --storage"
        )
    study.set_user_attr("period", task.period)
    if not study.trials:
        study.enqueue_trial(_values(task.recipe))
    return study


def _num_begun(storage: str, task: Task) -> int:
    """How many trials there are: who goes on draws other values than who begins."""
    names = [one.study_name for one in optuna.get_all_study_summaries(storage)]
    name = f"{task.recipe.name}/{task.measure}"
    return len(optuna.load_study(study_name=name, storage=storage).trials) if name in names else 0


def search(task: Task, study: optuna.Study, num_trials: int, out: Path, progress: Progress) -> None:
    """Try until the study has `num_trials` whole trials; `out` always holds the best so far."""
    for stopped in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(stopped.number, state=TrialState.FAIL)  # what was stopped in the middle
    with progress.task("Trials", num_trials) as advance:
        advance(len(whole_trials(study)))
        while len(whole_trials(study)) < num_trials:
            trial = study.ask()
            trial.set_user_attr("begun_s", int(time.time()))
            means = measure_recipe(task, changed(task.recipe, drawn(task.recipe, trial)))
            trial.set_user_attr("means", means)
            study.tell(trial, means[task.measure])
            if study.best_trial.number == trial.number:
                write_best(task, study, out)
            advance(1)


def whole_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that were measured."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def drawn(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """Values of the space for this trial, as changes of the recipe."""
    return _nested({name: SPACE[name].draw(name, trial) for name in _values(recipe)})


def write_best(task: Task, study: optuna.Study, out: Path) -> None:
    """The best trial as a recipe file."""
    best = study.best_trial
    note = (
        f"The best of {len(whole_trials(study))} trials on the validation period: "
        f"{task.measure} {best.value:.4f}\n"
        f"(the recipe as it is: {study.trials[0].value or float('nan'):.4f}).\n"
        "Chosen for being best, so it will be less on other data; train judges it anew."
    )
    write_recipe(out, task.recipe.name, _nested(best.params), note)


def _values(recipe: Recipe) -> dict[str, float]:
    """The recipe's own values of the space."""
    plain = recipe.to_dict()
    found: dict[str, float] = {}
    for name in SPACE:
        section, _, field = name.rpartition(".")
        place = plain[section] if section else plain
        if place is not None:
            found[name] = place[field]
    return found


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"als.alpha": 1}` as `{"als": {"alpha": 1}}`."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[field] = value
    return nested


def print_trials(study: optuna.Study, measure: str, num_rows: int = 8) -> None:
    """The best trials, with what was tried."""
    trials = sorted(whole_trials(study), key=lambda trial: -(trial.value or 0.0))[:num_rows]
    table = Table(title=f"The best of {len(whole_trials(study))} trials, by {measure}")
    for title in ("trial", *(name.removeprefix("recall_at_20_") for name in MEASURES[:2])):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("values")
    for trial in trials:
        means = [f"{trial.user_attrs['means'][name]:.4f}" for name in MEASURES[:2]]
        values = "  ".join(f"{name} {value:.3g}" for name, value in trial.params.items())
        table.add_row(str(trial.number) if trial.number else "as it is", *means, values)
    Console().print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline search`."""
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument(
        "--recipe", choices=sorted(RECIPES), default="shop", help="default: %(default)s"
    )
    parser.add_argument("--trials", type=int, default=20, help="default: %(default)s")
    parser.add_argument(
        "--measure", choices=MEASURES, default=MEASURES[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--storage", help="where trials are kept (default: sqlite:///HOME/search.db)"
    )
    parser.add_argument(
        "--out", type=Path, help="the recipe file (default: HOME/recipes/RECIPE-tuned.toml)"
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Search, print the best trials and where the recipe file is."""
    home = Home.from_arguments(args)
    tables, recipe = args.tables or home.tables, RECIPES[args.recipe]()
    out = args.out or home.recipes / f"{recipe.name}-tuned.toml"
    finish_pending(home, tables)
    task = task_of(tables, recipe, args.measure)
    study = open_study(task, args.storage or f"sqlite:///{(home.path / 'search.db').absolute()}")
    try:
        search(task, study, args.trials, out, Progress())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on")
    if whole_trials(study):
        print_trials(study, args.measure)
        write_best(task, study, out)
        print(f"Train it with: python -m offline train --home {home.path} --recipe {out}")
    return 0
