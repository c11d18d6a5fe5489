"""Learn the ranker from the past: what the pipeline would have found then, and what was bought.

At several past instants the sources are fitted on what came before, the pipeline that serves
retrieves candidates with the user states of that instant, and what was bought in the weeks
after says which were right, and what users said of them then how right or wrong. Features come
from the function that serving calls.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aisle.bundle.v1 import bundle_pb2
from feature_store.ranking import open_columns, ranking_features
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore
from feature_store.two_tower import rated_sources
from offline.build import build_bundle
from offline.dataset import load_dataset, time_span
from offline.models.ranker import Lessons, Ranker, fit_ranker
from offline.past_states import PastStates
from offline.progress import Progress
from offline.reactions import NO_REACTION, Reaction, load_reactions
from offline.recipe import RankerConfig, Recipe
from offline.replay import Heldout, find_heldout
from online.engine import Engine
from online.snapshot import Snapshot, open_snapshot
from online.types import PurchaseMode, Request

PLACEMENT = "home"
MODES = (PurchaseMode.ANY, PurchaseMode.NEW_ONLY)


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of features, shape (n, features), what they teach, and whose each is, shape (n,).

    `owner` is a position in `Heldout.users`.
    """

    features: NDArray[np.float32]
    lessons: Lessons
    owner: NDArray[np.int32]


def train_ranker(
    tables: Path,
    recipe: Recipe,
    end_time: int,
    states: PastStates,
    progress: Progress,
) -> Ranker | None:
    """The ranker as of `end_time`; None when the recipe wants none or the past is too short.

    `states` have not been asked for any instant after the first cut.
    """
    config = recipe.ranker
    if config is None:
        return None
    cuts = past_cuts(config, time_span(tables)[0], end_time)
    found = [_examples_at(tables, recipe, config, cut, states, progress) for cut in cuts]
    parts = [part for part in found if part is not None and part.lessons.targets.any()]
    if not parts:
        return None
    rows = _joined(parts)
    return fit_ranker(rows.features, rows.lessons, config, recipe.seed, progress)


def past_cuts(config: RankerConfig, first_time: int, end_time: int) -> list[int]:
    """The instants to learn from, in order; each leaves as much history as it predicts."""
    step = config.label_days * MICROSECONDS_PER_DAY
    cuts = [end_time - number * step for number in range(config.num_cuts, 0, -1)]
    return [cut for cut in cuts if cut - first_time >= step]


def _examples_at(
    tables: Path,
    recipe: Recipe,
    config: RankerConfig,
    cut: int,
    states: PastStates,
    progress: Progress,
) -> Examples | None:
    """Candidates as of `cut` with features and labels, for users who bought something after.

    None when no known user did: a shop that was closed then teaches nothing.
    """
    dataset = load_dataset(tables, recipe.data, cut)
    store = states.at(cut)
    with tempfile.TemporaryDirectory() as folder:
        role = bundle_pb2.ROLE_JUDGED
        bundle = build_bundle(dataset, recipe, Path(folder), role, "cpu", progress)
        snapshot = open_snapshot(bundle)
        label_end = cut + config.label_days * MICROSECONDS_PER_DAY
        heldout = find_heldout(tables, recipe.data, snapshot, store, cut, label_end)
        if not heldout.users:
            return None
        heldout = sample_users(heldout, config.max_users_per_cut, recipe.seed)
        reactions = load_reactions(tables, snapshot, cut, label_end)
        heldout = _with_who_spoke(heldout, reactions, config.max_users_per_cut)
        return examples_of(snapshot, store, heldout, config, progress, reactions)


def examples_of(
    snapshot: Snapshot,
    store: OnlineStore,
    heldout: Heldout,
    config: RankerConfig,
    progress: Progress,
    reactions: Mapping[bytes, Reaction] | None = None,
) -> Examples:
    """The candidates of each user's slates, those of both modes once.

    Of who bought nothing, only what they reacted to.
    """
    reactions = reactions or {}
    with threadpool_limits(1):
        parts = list(_user_examples(snapshot, store, heldout, config, reactions, progress))
    return _joined(parts)


def _joined(parts: list[Examples]) -> Examples:
    lessons = [part.lessons for part in parts]
    return Examples(
        np.concatenate([part.features for part in parts]),
        Lessons(
            np.concatenate([one.labels for one in lessons]),
            np.concatenate([one.targets for one in lessons]),
            np.concatenate([one.weights for one in lessons]),
        ),
        np.concatenate([part.owner for part in parts]),
    )


def _user_examples(
    snapshot: Snapshot,
    store: OnlineStore,
    heldout: Heldout,
    config: RankerConfig,
    reactions: Mapping[bytes, Reaction],
    progress: Progress,
) -> Iterator[Examples]:
    engine = Engine(store, snapshot)
    columns = open_columns(snapshot.bundle)
    names = snapshot.pipelines[PLACEMENT].source_names
    rated = [names.index(name) for name in rated_sources(snapshot.bundle)]
    with progress.task("Ranker: candidates", len(heldout.users)) as advance:
        for owner, user in enumerate(heldout.users):
            relevant, reaction = heldout.relevant[owner], reactions.get(user, NO_REACTION)
            seen: set[int] = set()
            for mode in MODES:
                request = Request(heldout.cut_time, PLACEMENT, user, purchase_mode=mode)
                query, candidates = engine.candidates(request)
                wanted = None if relevant else reaction.liked | reaction.refused
                fresh = np.array([_is_fresh(i, seen, wanted) for i in candidates.items], bool)
                scores = candidates.rated(rated)
                features = ranking_features(
                    query.state, query.history, columns, candidates.items, scores, query.time
                )[fresh]
                items = candidates.items[fresh].tolist()
                seen.update(items)
                lessons = lessons_of(items, relevant, reaction, config)
                yield Examples(features, lessons, np.full(len(items), owner, np.int32))
            advance(1)


def _is_fresh(item: int, seen: set[int], wanted: frozenset[int] | None) -> bool:
    """Whether the item is not seen, and among what is wanted (None: everything)."""
    return int(item) not in seen and (wanted is None or int(item) in wanted)


def lessons_of(
    items: list[int], relevant: frozenset[int], reaction: Reaction, config: RankerConfig
) -> Lessons:
    """What a user's candidates teach: a refusal goes before a purchase, a like beside it."""
    bought = np.array([item in relevant for item in items], bool)
    liked = np.array([item in reaction.liked for item in items], bool)
    refused = np.array([item in reaction.refused for item in items], bool)
    weights = np.ones(len(items), np.float32)
    weights[liked] = config.like_weight + bought[liked]
    weights[refused] = config.refusal_weight
    labels = (bought & ~refused).astype(np.float32)
    if not relevant:
        labels[:] = np.nan  # who bought nothing says nothing of how likely purchases are
    return Lessons(labels, ((bought | liked) & ~refused).astype(np.float32), weights)


def _with_who_spoke(heldout: Heldout, reactions: Mapping[bytes, Reaction], limit: int) -> Heldout:
    """The held-out users, and at most `limit` who bought nothing but said what they think."""
    others = tuple(sorted(reactions.keys() - set(heldout.users)))[:limit]
    nothing = (frozenset[int](),) * len(others)
    return replace(
        heldout,
        users=heldout.users + others,
        relevant=heldout.relevant + nothing,
        new=heldout.new + nothing,
    )


def sample_users(heldout: Heldout, limit: int, seed: int) -> Heldout:
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
