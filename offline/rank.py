"""Learn the ranker from the past: what the pipeline would have found then, and what was bought.

At several past instants the sources are fitted on what came before, the pipeline that serves
retrieves candidates with the user states of that instant, and what was bought in the weeks
after says which were right. Features come from the function that serving calls.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aisle.bundle.v1 import bundle_pb2
from feature_store.ranking import RATED_SOURCES, open_columns, ranking_features
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore
from offline.build import build_bundle
from offline.dataset import load_dataset
from offline.models.ranker import Ranker, fit_ranker
from offline.progress import Progress
from offline.recipe import RankerConfig, Recipe
from offline.replay import Heldout, load_heldout, states_at
from online.engine import Engine
from online.snapshot import Snapshot, open_snapshot
from online.types import PurchaseMode, Request

PLACEMENT = "home"
MODES = (PurchaseMode.ANY, PurchaseMode.NEW_ONLY)


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of features, shape (n, features), and whether each was bought, shape (n,)."""

    features: NDArray[np.float32]
    labels: NDArray[np.float32]


def train_ranker(
    tables: Path, recipe: Recipe, first_time: int, end_time: int, progress: Progress
) -> Ranker | None:
    """The ranker as of `end_time`; None when the recipe wants none or the past is too short."""
    config = recipe.ranker
    if config is None:
        return None
    cuts = past_cuts(config, first_time, end_time)
    parts = [_examples_at(tables, recipe, config, cut, progress) for cut in cuts]
    parts = [part for part in parts if part.labels.any()]
    if not parts:
        return None
    features = np.concatenate([part.features for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return fit_ranker(features, labels, config, recipe.seed, progress)


def past_cuts(config: RankerConfig, first_time: int, end_time: int) -> list[int]:
    """The instants to learn from, the latest first; each leaves as much history as it predicts."""
    step = config.label_days * MICROSECONDS_PER_DAY
    cuts = [end_time - number * step for number in range(1, config.num_cuts + 1)]
    return [cut for cut in cuts if cut - first_time >= step]


def _examples_at(
    tables: Path, recipe: Recipe, config: RankerConfig, cut: int, progress: Progress
) -> Examples:
    """Candidates as of `cut` with features and labels, for users who bought something after."""
    dataset = load_dataset(tables, recipe.data, cut)
    store = states_at(tables, cut, progress)
    with tempfile.TemporaryDirectory() as folder:
        role = bundle_pb2.ROLE_JUDGED
        bundle = build_bundle(dataset, recipe, Path(folder), role, "cpu", progress)
        snapshot = open_snapshot(bundle)
        label_end = cut + config.label_days * MICROSECONDS_PER_DAY
        heldout = load_heldout(tables, recipe.data, snapshot, store, cut, label_end)
        heldout = _sample(heldout, config.max_users_per_cut, recipe.seed)
        with threadpool_limits(1):
            parts = list(_user_examples(snapshot, store, heldout, progress))
    features = np.concatenate([part.features for part in parts])
    return Examples(features, np.concatenate([part.labels for part in parts]))


def _user_examples(
    snapshot: Snapshot, store: OnlineStore, heldout: Heldout, progress: Progress
) -> Iterator[Examples]:
    """The candidates of each user's slates, those of both modes once."""
    engine = Engine(store, snapshot)
    columns = open_columns(snapshot.bundle)
    names = snapshot.pipelines[PLACEMENT].source_names
    rated = [names.index(name) for name in RATED_SOURCES]
    with progress.task("Ranker: candidates", len(heldout.users)) as advance:
        for user, relevant in zip(heldout.users, heldout.relevant, strict=True):
            seen: set[int] = set()
            for mode in MODES:
                request = Request(heldout.cut_time, PLACEMENT, user, purchase_mode=mode)
                query, candidates = engine.candidates(request)
                fresh = np.array([int(item) not in seen for item in candidates.items], bool)
                scores = candidates.rated(rated)
                features = ranking_features(
                    query.state, query.history, columns, candidates.items, scores, query.time
                )[fresh]
                items = candidates.items[fresh].tolist()
                seen.update(items)
                labels = np.array([item in relevant for item in items], np.float32)
                yield Examples(features, labels)
            advance(1)


def _sample(heldout: Heldout, limit: int, seed: int) -> Heldout:
    """At most `limit` of the users, drawn at random."""
    if len(heldout.users) <= limit:
        return heldout
    kept = np.sort(np.random.default_rng(seed).choice(len(heldout.users), limit, replace=False))
    return Heldout(
        heldout.cut_time,
        tuple(heldout.users[i] for i in kept),
        tuple(heldout.relevant[i] for i in kept),
        tuple(heldout.new[i] for i in kept),
    )
