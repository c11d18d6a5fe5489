"""Judge a bundle by replaying the held-out period through the engine that serves it.

For every user with purchases after the cut, the engine is asked at the instant of the cut,
with the user states of that instant, exactly as the server would be asked. Baselines are
ranked over the same users and items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from feature_store.features import decayed_count
from feature_store.state import EMPTY, UserState, state_key
from feature_store.store import OnlineStore
from offline.dataset import scan_purchases
from offline.errors import TrainingDataError
from offline.metrics import ndcg_at_k, recall_at_k
from offline.progress import Progress
from offline.recipe import DataConfig
from online.engine import Engine
from online.snapshot import Snapshot
from online.types import PurchaseMode, Request, bought

K: Final = 20
REQUESTS_PER_CALL: Final = 64


@dataclass(frozen=True, slots=True)
class Heldout:
    """Which known user bought what after the cut: pseudonyms, and item indexes of a bundle.

    `relevant` and `new` have one entry a user; `new` holds only what the user had never
    bought. A user who had bought nothing that the bundle holds is not judged.
    """

    cut_time: int
    users: tuple[bytes, ...]
    relevant: tuple[frozenset[int], ...]
    new: tuple[frozenset[int], ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Measures by user, NaN for a user whom a measure does not concern; all of one length.

    `values` maps a measure's name, such as `recall_at_20_all`, to an array of shape (users,).
    `slates` are the item indexes that were judged, best first, under `all` and `new`.
    `stage_times_s` is how long each stage of the engine took at most 19 times in 20.
    """

    users: tuple[bytes, ...]
    values: Mapping[str, NDArray[np.float64]]
    slates: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    stage_times_s: Mapping[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Each measure's mean over the users whom it concerns."""
        return {name: float(np.nanmean(values)) for name, values in self.values.items()}


def load_heldout(
    tables: Path,
    config: DataConfig,
    snapshot: Snapshot,
    store: OnlineStore,
    cut_time: int,
    end_time: int | None = None,
) -> Heldout:
    """The purchases from the cut on of items that the bundle holds, by users in the store.

    `end_time` None: until the end of the data. `store` must hold the states of the instant of
    the cut. Raises TrainingDataError when there is nobody to judge on.
    """
    heldout = find_heldout(tables, config, snapshot, store, cut_time, end_time)
    if not heldout.users:
        raise TrainingDataError(
            "no known user bought anything after the cut; choose an earlier cut_time in the recipe"
        )
    return heldout


def find_heldout(
    tables: Path,
    config: DataConfig,
    snapshot: Snapshot,
    store: OnlineStore,
    cut_time: int,
    end_time: int | None = None,
) -> Heldout:
    """As `load_heldout`, of nobody too."""
    bought_after = (
        scan_purchases(tables, config, cut_time, end_time)
        .group_by("user")
        .agg(pl.col("item").unique())
        .sort("user")
        .collect()
    )
    users, relevant, new = [], [], []
    for hexdigest, ids in bought_after.iter_rows():
        items = frozenset(int(i) for i in snapshot.catalog.indexes_of(ids) if i >= 0)
        user = bytes.fromhex(hexdigest)
        owned = owned_items(snapshot, state_of(store, user))
        if items and owned:
            users.append(user)
            relevant.append(items)
            new.append(items - owned)
    return Heldout(cut_time, tuple(users), tuple(relevant), tuple(new))


def replay(
    snapshot: Snapshot, store: OnlineStore, heldout: Heldout, placement: str, progress: Progress
) -> Judgement:
    """Ask the engine for every user, for any items and for new items only."""
    engine = Engine(store, snapshot)
    with threadpool_limits(1):  # as in serving; pools that spin for each query cost 50 times more
        everything = _ask(engine, heldout, placement, PurchaseMode.ANY, progress)
        only_new = _ask(engine, heldout, placement, PurchaseMode.NEW_ONLY, progress)
    judged = judge_rankings(heldout, everything, only_new)
    return replace(judged, stage_times_s=engine.usual_times_s)


def judge_rankings(
    heldout: Heldout, everything: Sequence[Sequence[int]], only_new: Sequence[Sequence[int]]
) -> Judgement:
    """Measure ranked item indexes, one ranking a user, against what was bought."""
    values = {}
    for name, truth, rankings in (
        ("all", heldout.relevant, everything),
        ("new", heldout.new, only_new),
    ):
        for measure, function in (("recall", recall_at_k), ("ndcg", ndcg_at_k)):
            values[f"{measure}_at_{K}_{name}"] = np.array(
                [
                    function(ranking, items, K) if items else np.nan
                    for ranking, items in zip(rankings, truth, strict=True)
                ]
            )
    return Judgement(heldout.users, values, {"all": everything, "new": only_new})


def judge_popularity(snapshot: Snapshot, store: OnlineStore, heldout: Heldout) -> Judgement:
    """The baseline that shows everyone the same: what most users bought."""
    order = snapshot.bundle.array("popular/order")
    new = [_without(order, owned_items(snapshot, state_of(store, user))) for user in heldout.users]
    return judge_rankings(heldout, [order[:K].tolist()] * len(heldout.users), new)


def judge_own_frequency(
    snapshot: Snapshot, store: OnlineStore, heldout: Heldout, half_life: int | None = None
) -> Judgement:
    """The baseline that shows what the user bought most often, then what is popular.

    With `half_life`, a position in HALF_LIVES_DAYS, purchases fade.
    """
    order = snapshot.bundle.array("popular/order")
    rank = np.empty(len(snapshot.catalog), np.int64)
    rank[order] = np.arange(len(order))
    everything, new = [], []
    for user in heldout.users:
        state = state_of(store, user)
        items = snapshot.catalog.indexes_of_keys(state.items["key"])
        rows = bought(state.items) & (items >= 0)
        counts = state.items["count"]
        if half_life is not None:
            counts = decayed_count(state.items, half_life, heldout.cut_time)
        items, counts = items[rows], counts[rows]
        own = items[np.lexsort((rank[items], -counts))][:K].tolist()
        rest = _without(order, frozenset(items.tolist()))
        everything.append((own + rest)[:K])
        new.append(rest)
    return judge_rankings(heldout, everything, new)


def _ask(
    engine: Engine, heldout: Heldout, placement: str, mode: PurchaseMode, progress: Progress
) -> list[list[int]]:
    rankings: list[list[int]] = []
    with progress.task(f"Replaying {placement}, {mode.value}", len(heldout.users)) as advance:
        for first in range(0, len(heldout.users), REQUESTS_PER_CALL):
            users = heldout.users[first : first + REQUESTS_PER_CALL]
            requests = [
                Request(heldout.cut_time, placement, user, page_size=K, purchase_mode=mode)
                for user in users
            ]
            slates = engine.recommend_many(requests)
            rankings += [[item.index for item in slate.items] for slate in slates]
            advance(len(users))
    return rankings


def state_of(store: OnlineStore, user: bytes) -> UserState:
    """What the store knows of a user."""
    value = store.get_many([state_key(user)])[0]
    return EMPTY if value is None else UserState.decode(value)


def owned_items(snapshot: Snapshot, state: UserState) -> frozenset[int]:
    """The items of the bundle that were ever bought, by index."""
    items = snapshot.catalog.indexes_of_keys(state.items["key"])
    return frozenset(items[bought(state.items) & (items >= 0)].tolist())


def _without(order: NDArray[np.int32], owned: frozenset[int]) -> list[int]:
    """The first K of `order` that are not owned."""
    return [item for item in order[: K + len(owned)].tolist() if item not in owned][:K]
