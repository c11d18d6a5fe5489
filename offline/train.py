"""Train: learn a recipe, judge it, register it, and let it serve if it is good enough.

Reads top to bottom. Two bundles come out of one run: the judged one, trained on what came
before the cut and measured on what came after, and the refit on everything, which serves. A page
says how good it is, for whom, and against what.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from rich.console import Console

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, open_bundle
from feature_store.errors import VersionMissingError
from feature_store.pointer import CHAMPION
from feature_store.registry import Registry, Version
from feature_store.schema import MICROSECONDS_PER_DAY
from offline.build import build_bundle
from offline.catalog_changes import fold_catalog
from offline.content.encoding import CACHE_FILE, CachedEncoder, choose_encoder
from offline.dataset import Dataset, load_dataset, time_span
from offline.erase import finish_pending
from offline.errors import TrainingDataError
from offline.evaluation.evaluating import Evaluation, Period, evaluate, in_indexes_of
from offline.evaluation.page import Run, write_page
from offline.gate import Verdict, judge
from offline.home import Home
from offline.index import Device
from offline.progress import Progress
from offline.quality import print_warnings, require_quality
from offline.rank import train_ranker
from offline.recipe import RECIPES, Recipe
from offline.recipe_file import load_recipe
from offline.replay import (
    Heldout,
    Judgement,
    judge_own_frequency,
    judge_popularity,
    load_heldout,
    replay,
    states_at,
)
from offline.report import print_judgements, print_verdict
from offline.rules import load_rules
from online.offering.rules import Rule
from online.snapshot import Snapshot, open_snapshot

PLACEMENT = "home"


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run: findings by ranker, the verdict, the version of the refit, the page."""

    judgements: dict[str, Judgement]
    verdict: Verdict
    refit: Version
    evaluation: Evaluation
    page: Path


def train(
    tables: Path,
    home: Home,
    recipe: Recipe,
    device: Device,
    progress: Progress,
    rules: Sequence[Rule] = (),
) -> Trained:
    """Learn, judge, register, and move the alias `champion` when the gate opens."""
    registry = Registry(home.path, home.tracking_uri)
    first_time, end_time = time_span(tables)
    cut_time = recipe.data.cut_time or end_time - recipe.data.num_test_days * MICROSECONDS_PER_DAY
    if not first_time < cut_time < end_time:
        raise TrainingDataError(
            "the cut between training and test lies outside the data; "
            "change cut_time or num_test_days in the recipe"
        )

    steps = StepTimes()
    with steps("reading"):
        past = load_dataset(tables, recipe.data, cut_time)
    with steps("learning to rank"):
        ranker = train_ranker(tables, recipe, first_time, cut_time, progress)
    with steps("the judged bundle"):
        role = bundle_pb2.ROLE_JUDGED
        judged = build_bundle(past, recipe, home.bundles, role, device, progress, ranker, rules)
    with steps("asking for the held-out period"):
        period = _period(tables, recipe, past, judged, progress)
        champion = _champion_before(registry, home, cut_time)
        judgements = _judge(period, champion, progress)
        verdict = judge(judgements["aisle"], judgements.get("champion"), judgements["popularity"])
    with steps("measuring"):
        evaluation = evaluate(period, judgements, ranker, progress, champion)
    with steps("the refit"):
        everything = load_dataset(tables, recipe.data, end_time)
        role, found = bundle_pb2.ROLE_REFIT, evaluation.metrics()
        encoder = CachedEncoder(choose_encoder(recipe.encoder), home.path / CACHE_FILE, progress)
        refit = build_bundle(
            everything, recipe, home.bundles, role, device, progress, ranker, rules, encoder, found
        )
        encoder.close()
    about = Run(recipe.name, refit.bundle_id, cut_time, end_time, steps.taken_s)
    page = write_page(home.reports / f"{refit.bundle_id}.html", about, evaluation, verdict)
    with registry.start_run(recipe.name) as run:
        run.log_params(recipe.to_dict())
        run.log_metrics(judgements["aisle"].means() | evaluation.metrics())
        run.log_table("gate.json", verdict.columns())
        run.log_artifact(page)
        registry.register(run, judged)
        version = registry.register(run, refit)
    if verdict.passed:
        registry.set_alias(CHAMPION, version)
    return Trained(judgements, verdict, version, evaluation, page)


class StepTimes:
    """Notes how long each step took, in seconds."""

    def __init__(self) -> None:
        self.taken_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Note the time of the block under the name of the step."""
        started = perf_counter()
        yield
        self.taken_s[step] = perf_counter() - started


def _period(
    tables: Path, recipe: Recipe, past: Dataset, judged: Bundle, progress: Progress
) -> Period:
    """What is judged on: who bought what after the horizon of the past."""
    store = states_at(tables, past.horizon_time, progress)
    snapshot = open_snapshot(judged)
    heldout = load_heldout(tables, recipe.data, snapshot, store, past.horizon_time)
    return Period(tables, recipe, past, snapshot, store, heldout)


def _judge(period: Period, champion: Snapshot | None, progress: Progress) -> dict[str, Judgement]:
    """The candidate, the baselines and the champion before, on the same users and purchases."""
    snapshot, store, heldout = period.snapshot, period.store, period.heldout
    half_life = period.recipe.repeat_half_life
    judgements = {
        "popularity": judge_popularity(snapshot, store, heldout),
        "own frequency": judge_own_frequency(snapshot, store, heldout),
        "own, half-life": judge_own_frequency(snapshot, store, heldout, half_life),
        "aisle": replay(snapshot, store, heldout, PLACEMENT, progress),
    }
    if champion is not None:
        translated = _translate(heldout, snapshot, champion)
        judged = replay(champion, store, translated, PLACEMENT, progress)
        slates = {
            kind: in_indexes_of(snapshot, champion, found) for kind, found in judged.slates.items()
        }
        judgements["champion"] = replace(judged, slates=slates)
    return judgements


def _champion_before(registry: Registry, home: Home, cut_time: int) -> Snapshot | None:
    """The judged bundle of the champion; None when there is none.

    Raises TrainingDataError when it has seen what the candidate is judged on.
    """
    try:
        judged = registry.sibling(registry.resolve(CHAMPION))
    except VersionMissingError:
        return None
    if judged is None:
        return None
    if judged.horizon_time > cut_time:
        raise TrainingDataError(
            "the champion has learned from the period that this run would judge on; choose a "
            "cut_time that is not before the champion's, or judge in another --home"
        )
    return open_snapshot(open_bundle(registry.fetch(judged, home.bundles)))


def _translate(heldout: Heldout, source: Snapshot, target: Snapshot) -> Heldout:
    """The same purchases in another bundle's indexes; an item that it lacks can never be hit."""

    def indexes(items: frozenset[int]) -> frozenset[int]:
        known = target.catalog.indexes_of([source.catalog.ids[item] for item in sorted(items)])
        return frozenset(-1 - n if i < 0 else int(i) for n, i in enumerate(known))

    return Heldout(
        heldout.cut_time,
        heldout.users,
        tuple(indexes(items) for items in heldout.relevant),
        tuple(indexes(items) for items in heldout.new),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline train`."""
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument(
        "--recipe",
        default="shop",
        help=f"{', '.join(sorted(RECIPES))}, or a file of `search` (default: %(default)s)",
    )
    parser.add_argument("--rules", type=Path, help="the shop's rules, TOML or JSON")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--ignore-quality", action="store_true", help="learn even from tables that are not fit"
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train and print what came of it; exit code 4 when the champion stays."""
    home = Home.from_arguments(args)
    recipe = load_recipe(args.recipe)
    if not args.ignore_quality:
        print_warnings(require_quality(args.tables or home.tables), Console())
    rules = load_rules(args.rules) if args.rules else ()
    finish_pending(home, args.tables or home.tables)
    fold_catalog(home, args.tables or home.tables)
    trained = train(args.tables or home.tables, home, recipe, args.device, Progress(), rules)
    print_judgements(trained.judgements)
    print_verdict(trained.verdict, trained.refit)
    print(f"The page of this run: {trained.page}")
    return 0 if trained.verdict.passed else 4
