"""Complete Journey: what the engine serves on December 2017, and items that nobody had bought.

PATH holds canonical tables, made by `python -m offline ingest --shop completejourney --out PATH`.
The recipe is the product's; `validation` judges November with all that came before it.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from aisle.bundle.v1 import bundle_pb2
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore
from offline.benchmark import cold_items
from offline.benchmark.report import Line, difference
from offline.benchmark.setting import Setting
from offline.build import build_bundle
from offline.dataset import Dataset, Purchases, load_dataset, scan_purchases, time_span
from offline.past_states import PastStates
from offline.rank import train_ranker
from offline.recipe import Recipe, completejourney
from offline.replay import (
    Heldout,
    Judgement,
    judge_own_frequency,
    judge_popularity,
    load_heldout,
    replay,
)
from online.snapshot import Snapshot, open_snapshot

PLACEMENT: Final = "home"
VALIDATION_DAYS: Final = 30
COLD_SEEDS: Final = {"validation": (1, 11, 12, 13), "test": (21, 22, 23, 24)}


def run(setting: Setting) -> Iterator[str]:
    """The served engine with its baselines, then the cold items."""
    recipe, end_time = periods(completejourney(), setting)
    yield from served(setting, recipe, end_time)
    yield from cold(setting, recipe, end_time)


def periods(recipe: Recipe, setting: Setting) -> tuple[Recipe, int]:
    """The recipe with the cut of the period, and where the period ends (microseconds UTC)."""
    first_time, last_time = time_span(setting.data)
    cut = recipe.data.cut_time
    if cut is None or not first_time < cut < last_time:
        cut = last_time - VALIDATION_DAYS * MICROSECONDS_PER_DAY
    if setting.period == "test":
        return recipe.with_cut(cut), last_time
    return recipe.with_cut(cut - VALIDATION_DAYS * MICROSECONDS_PER_DAY), cut


@dataclass(frozen=True, slots=True)
class Judged:
    """A bundle as of the cut, ready to be asked, and the seconds that learning took."""

    setting: Setting
    snapshot: Snapshot
    store: OnlineStore
    heldout: Heldout
    train_s: float

    def replayed(self) -> Judgement:
        """What the engine answers."""
        progress = self.setting.progress
        return replay(self.snapshot, self.store, self.heldout, PLACEMENT, progress)


@contextmanager
def judged(setting: Setting, recipe: Recipe, end_time: int) -> Iterator[Judged]:
    """Build the judged bundle as training does; it is there within the block."""
    cut_time, tables = _cut(recipe), setting.data
    started = time.perf_counter()
    past = load_dataset(tables, recipe.data, cut_time)
    states = PastStates(tables, setting.progress)
    ranker = train_ranker(tables, recipe, cut_time, states, setting.progress)
    with tempfile.TemporaryDirectory() as folder:
        role = bundle_pb2.ROLE_JUDGED
        bundle = build_bundle(
            past, recipe, Path(folder), role, setting.device, setting.progress, ranker
        )
        train_s = time.perf_counter() - started
        snapshot, store = open_snapshot(bundle), states.at(cut_time)
        heldout = load_heldout(tables, recipe.data, snapshot, store, cut_time, end_time)
        yield Judged(setting, snapshot, store, heldout, train_s)


def served(setting: Setting, recipe: Recipe, end_time: int) -> Iterator[str]:
    """Ask the engine for every user, and the baselines beside it."""
    half_life = recipe.repeat_half_life
    with judged(setting, recipe, end_time) as one:
        snapshot, store, heldout = one.snapshot, one.store, one.heldout
        lines = {
            "popularity": judge_popularity(snapshot, store, heldout),
            "own_frequency": judge_own_frequency(snapshot, store, heldout),
            "own_frequency_half_life": judge_own_frequency(snapshot, store, heldout, half_life),
            "blend": one.replayed(),
        }
    found = {name: _line(name, judgement, one.train_s) for name, judgement in lines.items()}
    yield from (line.to_json() for line in found.values())
    yield difference(
        "blend_above_own_frequency_half_life", found["blend"], found["own_frequency_half_life"]
    )


def _line(name: str, judgement: Judgement, train_s: float) -> Line:
    return Line(name, judgement.values, train_s if name == "blend" else 0.0)


def cold(setting: Setting, recipe: Recipe, end_time: int) -> Iterator[str]:
    """Items taken out of training; other items on validation than on test."""
    cut_time = _cut(recipe)
    past = load_dataset(setting.data, recipe.data, cut_time)
    later = future(setting.data, recipe, past, end_time)
    tasks = (cold_items.hide_items(past, later, seed) for seed in COLD_SEEDS[setting.period])
    yield from cold_items.run(tasks, setting)


def future(tables: Path, recipe: Recipe, past: Dataset, end_time: int) -> Purchases:
    """What known users bought of known items after the cut, in the indexes of the past."""
    items = past.items.select("item").with_row_index("index")
    users = pl.DataFrame({"user": past.users}).with_row_index("user_index")
    rows = (
        scan_purchases(tables, recipe.data, past.horizon_time, end_time)
        .join(items.lazy(), on="item")
        .join(users.lazy(), on="user")
        .sort("event_time")
        .collect()
    )
    return Purchases(
        rows["user_index"].to_numpy().astype(np.int32),
        rows["index"].to_numpy().astype(np.int32),
        rows["event_time"].dt.epoch("us").to_numpy(),
        rows["price"].to_numpy().astype(np.float32),
    )


def _cut(recipe: Recipe) -> int:
    cut = recipe.data.cut_time
    assert cut is not None  # noqa: S101 - set by `periods`
    return cut
