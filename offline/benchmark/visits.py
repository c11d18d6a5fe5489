"""Visitors of whom nothing is known: what they click next, over the engine that serves.

PATH is that of `diginetica`, as are the prefixes and what followed. A shop is made of the newest
training sessions: each is a visitor who bought what was clicked, so that every source has something
to learn from, and looked at it in that order. The engine is asked with the prefix as the visit,
with and without what was learned of the order. The weights of placements were chosen on
`validation`.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aisle.bundle.v1 import bundle_pb2
from feature_store.schema import PRODUCTS
from feature_store.store import MemoryStore
from offline.benchmark.diginetica import Task, read
from offline.benchmark.report import Line, difference
from offline.benchmark.setting import Setting
from offline.build import build_bundle
from offline.dataset import Dataset, Purchases
from offline.models.sessions import Ids, Sessions
from offline.recipe import LinearConfig, Recipe
from online.engine import Engine
from online.snapshot import Snapshot, open_snapshot
from online.types import Request

K: Final = 20
SOURCE: Final = "next_in_visit"
PLACEMENTS: Final = ("home", "chat", "cart", "product_similar")
NUM_SESSIONS: Final = 150_000
NUM_PREFIXES: Final = 2_000
SECONDS_APART: Final = 60
MICROSECONDS: Final = 1_000_000
RECIPE: Final = Recipe("visits", ranker=None, linear=LinearConfig(max_items=8_000))


def run(setting: Setting) -> Iterator[str]:
    """For each placement the engine without and with transitions, and the difference."""
    task = _sample(read(setting))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bundle = build_bundle(
            shop_of(task),
            RECIPE,
            Path(folder),
            bundle_pb2.ROLE_JUDGED,
            setting.device,
            setting.progress,
        )
        train_s = time.perf_counter() - started
        served = open_snapshot(bundle)
        snapshots = {"without": without(served, SOURCE), "with": served}
        for placement in PLACEMENTS:
            lines = {
                name: _judge(f"{placement}_{name}", one, task, placement, setting, train_s)
                for name, one in snapshots.items()
            }
            yield from (line.to_json() for line in lines.values())
            yield difference(f"{placement}_gain", lines["with"], lines["without"])


def _sample(task: Task) -> Task:
    """The newest sessions, and some of the prefixes."""
    first = max(0, len(task.sessions) - NUM_SESSIONS)
    number = min(NUM_PREFIXES, len(task.targets))
    rows = np.sort(np.random.default_rng(1).choice(len(task.targets), number, replace=False))
    asked = [task.asked.between(row, row + 1).items for row in rows.tolist()]
    starts = np.concatenate(([0], np.cumsum([len(one) for one in asked]))).astype(np.int64)
    return Task(
        task.sessions.between(first, len(task.sessions)),
        Sessions(np.concatenate(asked), starts),
        task.targets[rows],
        task.num_items,
    )


def shop_of(task: Task) -> Dataset:
    """A shop whose visitors bought what they clicked."""
    sessions = task.sessions
    rows = [{"item": item_id(n), "title": f"Thing {n}"} for n in range(task.num_items)]
    items = pl.DataFrame(rows).with_columns(
        pl.lit(None).alias(name) for name in PRODUCTS.names if name not in rows[0]
    )
    visitor = sessions.session_of
    within = np.arange(len(visitor)) - sessions.starts[visitor]
    clicked = (visitor * SECONDS_APART * MICROSECONDS + within).astype(np.int64)
    return Dataset(
        users=tuple(f"{number:08x}" for number in range(len(sessions))),
        items=items,
        purchases=Purchases(
            visitor.astype(np.int32),
            sessions.items.astype(np.int32),
            clicked,
            np.ones(len(visitor), np.float32),
        ),
        horizon_time=len(sessions) * SECONDS_APART * MICROSECONDS,
        visits=sessions,
    )


def item_id(number: int) -> str:
    """Ids in the order of the numbers."""
    return f"{number:07}"


def without(snapshot: Snapshot, source: str) -> Snapshot:
    """The snapshot as it would be if the bundle lacked a source that is blended."""
    pipelines = {}
    for name, pipeline in snapshot.pipelines.items():
        kept = [n for n, one in enumerate(pipeline.source_names) if one != source]
        scorer = pipeline.scorer
        weights: NDArray[np.float32] = scorer.weights[kept]  # type: ignore[attr-defined]
        pipelines[name] = replace(
            pipeline,
            sources=tuple(pipeline.sources[n] for n in kept),
            scorer=replace(scorer, weights=weights),  # type: ignore[type-var]
        )
    return replace(snapshot, pipelines=pipelines)


def _judge(
    name: str, snapshot: Snapshot, task: Task, placement: str, setting: Setting, train_s: float
) -> Line:
    """Recall and reciprocal rank of what followed, by prefix."""
    engine = Engine(MemoryStore(), snapshot)
    ranks: Ids = np.full(len(task.targets), K)
    with threadpool_limits(1), setting.progress.task(name, len(ranks)) as advance:
        for number, target in enumerate(task.targets.tolist()):
            slate = engine.recommend(_request(task, number, placement, snapshot))
            shown = [item.index for item in slate.items]
            if target in shown:
                ranks[number] = shown.index(target)
            advance(1)
    hit = (ranks < K).astype(np.float64)
    return Line(name, {f"recall_at_{K}": hit, f"mrr_at_{K}": hit / (ranks + 1.0)}, train_s)


def _request(task: Task, number: int, placement: str, snapshot: Snapshot) -> Request:
    seen = tuple(map(item_id, task.asked.between(number, number + 1).items.tolist()))
    page = seen[-1:] if placement == "product_similar" else ()
    return Request(
        snapshot.bundle.horizon_time,
        placement,
        session_items=seen,
        context_items=page,
        page_size=K,
    )
