"""Train: learn a recipe, judge it, register it, and let it serve if it is good enough.

Reads top to bottom. Two bundles come out of one run: the judged one, trained on what came
before the cut and measured on what came after, and the refit on everything, which serves. A page
says how good it is, for whom, and against what.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from rich.console import Console

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, BundleWriter, open_bundle
from feature_store.errors import BundleError, VersionMissingError
from feature_store.pointer import CHAMPION
from feature_store.registry import Registry, Version
from feature_store.schema import MICROSECONDS_PER_DAY
from offline.beside import Beside
from offline.build import Written, build_bundle, commit_bundle, write_sources
from offline.catalog_changes import fold_catalog
from offline.content.encoding import CACHE_FILE, CachedEncoder, choose_encoder
from offline.coupons.shop_uplift import uplift_of
from offline.dataset import Dataset, load_dataset, time_span
from offline.erase import finish_pending
from offline.errors import TrainingDataError
from offline.evaluation.evaluating import Evaluation, Period, evaluate, in_indexes_of
from offline.evaluation.page import Run, write_page
from offline.gate import NO_CHAMPION, Verdict, judge
from offline.home import Home
from offline.index import Device
from offline.past_states import PastStates
from offline.progress import QUIET, Progress
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
)
from offline.report import print_judgements, print_verdict
from offline.rules import load_rules
from online.errors import OnlineError
from online.offering.rules import Rule
from online.snapshot import Snapshot, open_snapshot

PLACEMENT = "home"


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run: findings by ranker, the verdict, the version of the refit, the page.

    `uplift` says what became of the coupons' uplift; empty for a shop without coupons.
    """

    judgements: dict[str, Judgement]
    verdict: Verdict
    refit: Version
    evaluation: Evaluation
    page: Path
    uplift: str


@dataclass(frozen=True, slots=True)
class Before:
    """The champion before this run, ready to be judged; None, and why there is none to judge."""

    snapshot: Snapshot | None = None
    absence: str = NO_CHAMPION


def train(
    tables: Path,
    home: Home,
    recipe: Recipe,
    device: Device,
    progress: Progress,
    rules: Sequence[Rule] = (),
    processes: int = 1,
) -> Trained:
    """Learn, judge, register, and move the alias `champion` when the gate opens.

    With two `processes` the refit, which needs nothing of what is judged, is fitted beside it.
    """
    registry = Registry(home.path, home.tracking_uri)
    first_time, end_time = time_span(tables)
    cut_time = recipe.data.cut_time or end_time - recipe.data.num_test_days * MICROSECONDS_PER_DAY
    if not first_time < cut_time < end_time:
        raise TrainingDataError(
            "the cut between training and test lies outside the data; "
            "change cut_time or num_test_days in the recipe"
        )

    before = _champion_before(registry, home, cut_time)
    steps = StepTimes()
    with BundleWriter(home.bundles) as writer, Beside(processes) as beside:
        shown = QUIET if processes > 1 else progress
        if processes > 1:
            beside.start(_prepare, home)
        refitted = beside.start(_refit, writer, tables, recipe, end_time, home, device, shown)
        with steps("reading"):
            past = load_dataset(tables, recipe.data, cut_time)
        states = PastStates(tables, progress)
        with steps("learning to rank"):
            ranker = train_ranker(tables, recipe, cut_time, states, progress)
        with steps("the judged bundle"):
            role = bundle_pb2.ROLE_JUDGED
            judged = build_bundle(past, recipe, home.bundles, role, device, progress, ranker, rules)
        with steps("asking for the held-out period"):
            period = _period(tables, recipe, past, judged, states)
            judgements = _judge(period, before.snapshot, progress)
            verdict = _verdict(judgements, before)
        with steps("measuring"):
            evaluation = evaluate(period, judgements, ranker, progress, before.snapshot)
        with steps("the refit"):
            written = refitted() if processes == 1 else _awaited(refitted, progress)
            found = evaluation.metrics()
            refit = commit_bundle(writer, written, recipe, ranker, rules, found)
    uplift = uplift_of(refit)
    about = Run(recipe.name, refit.bundle_id, cut_time, end_time, steps.taken_s, uplift)
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
    return Trained(judgements, verdict, version, evaluation, page, uplift)


def _prepare(home: Home) -> None:
    """Have the registry made while there is something else to do."""
    Registry(home.path, home.tracking_uri).prepare()


def _refit(
    writer: BundleWriter,
    tables: Path,
    recipe: Recipe,
    end_time: int,
    home: Home,
    device: Device,
    progress: Progress,
) -> Written:
    """The sources of the refit, from everything."""
    dataset = load_dataset(tables, recipe.data, end_time)
    encoder = CachedEncoder(choose_encoder(recipe.encoder), home.path / CACHE_FILE, progress)
    with closing(encoder):
        role = bundle_pb2.ROLE_REFIT
        return write_sources(writer, dataset, recipe, role, device, progress, encoder)


def _awaited(refitted: Callable[[], Written], progress: Progress) -> Written:
    """What is learned in the process beside, once it is."""
    with progress.task("The refit, learned beside", 1) as advance:
        written = refitted()
        advance(1)
    return written


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
    tables: Path, recipe: Recipe, past: Dataset, judged: Bundle, states: PastStates
) -> Period:
    """What is judged on: who bought what after the horizon of the past."""
    store = states.at(past.horizon_time)
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


def _verdict(judgements: Mapping[str, Judgement], before: Before) -> Verdict:
    champion, popularity = judgements.get("champion"), judgements["popularity"]
    return judge(judgements["aisle"], champion, popularity, without=before.absence)


def _champion_before(registry: Registry, home: Home, cut_time: int) -> Before:
    """The judged bundle of the champion, asked for before hours of learning are at stake.

    Where another version of aisle wrote it, nobody can be asked to compare with it. Raises
    TrainingDataError when it has seen what the candidate is judged on.
    """
    try:
        judged = registry.sibling(registry.resolve(CHAMPION))
    except VersionMissingError:
        return Before()
    if judged is None:
        return Before()
    if judged.horizon_time > cut_time:
        raise TrainingDataError(
            "the champion has learned from the period that this run would judge on; choose a "
            "cut_time that is not before the champion's, or judge in another --home"
        )
    try:
        return Before(open_snapshot(open_bundle(registry.fetch(judged, home.bundles))))
    except (BundleError, OnlineError) as error:
        cause = str(error).partition(";")[0]  # what follows says what to do where it must serve
        return Before(absence=f"not compared with the champion, which is unreadable: {cause}")


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
    parser.add_argument("--rules", type=Path, help="the shop's rules and experiments, TOML or JSON")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--processes",
        type=int,
        choices=(1, 2),
        default=2,
        help="2 fits the refit beside the judged bundle; 1 needs half the memory "
        "(default: %(default)s)",
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
    tables, device = args.tables or home.tables, args.device
    trained = train(tables, home, recipe, device, Progress(), rules, args.processes)
    print_judgements(trained.judgements)
    print_verdict(trained.verdict, trained.refit)
    if trained.uplift:
        print(trained.uplift)
    print(f"The page of this run: {trained.page}")
    return 0 if trained.verdict.passed else 4
