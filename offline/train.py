"""Train: learn a recipe, judge it, register it, and let it serve if it is good enough.

Reads top to bottom. Two bundles come out of one run: the judged one, trained on what came
before the cut and measured on what came after, and the refit on everything, which serves.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from offline.dataset import load_dataset, time_span
from offline.erase import finish_pending
from offline.errors import TrainingDataError
from offline.gate import Verdict, judge
from offline.home import Home
from offline.index import Device
from offline.progress import Progress
from offline.quality import print_warnings, require_quality
from offline.rank import train_ranker
from offline.recipe import RECIPES, Recipe
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
    """What came of a run: judgements by ranker, the verdict, and the version of the refit."""

    judgements: dict[str, Judgement]
    verdict: Verdict
    refit: Version


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

    past = load_dataset(tables, recipe.data, cut_time)
    ranker = train_ranker(tables, recipe, first_time, cut_time, progress)
    role = bundle_pb2.ROLE_JUDGED
    judged = build_bundle(past, recipe, home.bundles, role, device, progress, ranker, rules)
    judgements = _judge(tables, registry, home, recipe, judged, cut_time, progress)
    verdict = judge(judgements["aisle"], judgements.get("champion"), judgements["popularity"])

    everything = load_dataset(tables, recipe.data, end_time)
    role = bundle_pb2.ROLE_REFIT
    encoder = CachedEncoder(choose_encoder(recipe.encoder), home.path / CACHE_FILE, progress)
    refit = build_bundle(
        everything, recipe, home.bundles, role, device, progress, ranker, rules, encoder
    )
    encoder.close()
    with registry.start_run(recipe.name) as run:
        run.log_params(recipe.to_dict())
        run.log_metrics(judgements["aisle"].means())
        run.log_table("gate.json", verdict.columns())
        registry.register(run, judged)
        version = registry.register(run, refit)
    if verdict.passed:
        registry.set_alias(CHAMPION, version)
    return Trained(judgements, verdict, version)


def _judge(
    tables: Path,
    registry: Registry,
    home: Home,
    recipe: Recipe,
    judged: Bundle,
    cut_time: int,
    progress: Progress,
) -> dict[str, Judgement]:
    """The candidate, the baselines and the champion before, on the same users and purchases."""
    store = states_at(tables, cut_time, progress)
    snapshot = open_snapshot(judged)
    heldout = load_heldout(tables, recipe.data, snapshot, store, cut_time)
    judgements = {
        "popularity": judge_popularity(snapshot, store, heldout),
        "own frequency": judge_own_frequency(snapshot, store, heldout),
        "own, half-life": judge_own_frequency(snapshot, store, heldout, recipe.repeat_half_life),
        "aisle": replay(snapshot, store, heldout, PLACEMENT, progress),
    }
    champion = _champion_before(registry, home, cut_time)
    if champion is not None:
        translated = _translate(heldout, snapshot, champion)
        judgements["champion"] = replay(champion, store, translated, PLACEMENT, progress)
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
        "--recipe", choices=sorted(RECIPES), default="shop", help="default: %(default)s"
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
    recipe = RECIPES[args.recipe]()
    if not args.ignore_quality:
        print_warnings(require_quality(args.tables or home.tables), Console())
    rules = load_rules(args.rules) if args.rules else ()
    finish_pending(home, args.tables or home.tables)
    fold_catalog(home, args.tables or home.tables)
    trained = train(args.tables or home.tables, home, recipe, args.device, Progress(), rules)
    print_judgements(trained.judgements)
    print_verdict(trained.verdict, trained.refit)
    return 0 if trained.verdict.passed else 4
