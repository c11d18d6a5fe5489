"""The export of a campaign: plan, parts in several processes, preview, manifest.

Killed at any moment, it is run again and goes on: parts that are whole stay. Each process opens
the bundle, whose arrays all of them share, and the store. Progress counts people.
"""

import gc
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from threadpoolctl import threadpool_limits

from feature_store.bundle import open_bundle
from feature_store.catalog_log import open_catalog_log
from feature_store.ids import Pseudonymizer, load_key
from feature_store.ledger import open_ledger
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore, open_store
from offline.campaigns.audience import Known
from offline.campaigns.campaign import Campaign
from offline.campaigns.coupon_money import HOLD_DAYS, Purse, costs_of
from offline.campaigns.mails import Writer
from offline.campaigns.parts import Folder
from offline.campaigns.planning import WHOLE, Shard, Site, make_plan, subject_columns
from offline.campaigns.preview import write_preview
from offline.home import Home
from offline.materialize import erased_of
from offline.progress import Progress
from online.engine import Engine
from online.feedback.attribution import TokenSigner
from online.snapshot import open_snapshot

PEOPLE_PER_PART: Final = 5_000
PARTS_AHEAD: Final = 2
LOOK_S: Final = 1.0
LEDGER_VARIABLE: Final = "AISLE_LEDGER"


@dataclass(frozen=True, slots=True)
class Job:
    """One export. `bundle` is the directory of the model's bundle; `workers` 0: this process."""

    campaign: Campaign
    home: Home
    bundle: Path
    out: Path
    shard: Shard = WHOLE
    workers: int = 0
    people_per_part: int = PEOPLE_PER_PART

    @property
    def folder(self) -> Folder:
        """Where it is written: a folder of its own for each of several shards."""
        shard = self.shard
        if shard.count == 1:
            return Folder(self.out)
        return Folder(self.out / f"shard-{shard.number:03d}-of-{shard.count:03d}")

    def num_parts(self, num_people: int) -> int:
        """How many parts there are, one at least."""
        return max(1, -(-num_people // self.people_per_part))


def export_campaign(job: Job, progress: Progress) -> dict[str, Any]:
    """Write the export, or what is left of it to be written; returns the manifest.

    Raises CampaignError for a campaign that does not fit the folder, the audience or the model.
    """
    folder, time_asked = job.folder, _time_of(job)
    store = open_store(job.home.store)
    try:
        site = _site(job, store, time_asked)
        asked = _asked(job, time_asked)
        folder.begin(asked, lambda: make_plan(job.campaign, site, time_asked, job.shard))
        num_people = folder.scan_plan().select(pl.len()).collect().item()
        _write_parts(job, store, folder, num_people, progress)
        write_preview(job.campaign, folder, site, asked)
        return folder.finish(job.num_parts(num_people), asked)
    finally:
        store.close()


def plan_of(job: Job, store: OnlineStore) -> pl.DataFrame:
    """The plan alone, for who wants to look before anything is written."""
    return make_plan(job.campaign, _site(job, store, _time_of(job)), _time_of(job), job.shard)


def _time_of(job: Job) -> int:
    given = job.campaign.send_time
    return open_bundle(job.bundle, verify=False).horizon_time if given is None else given


def _site(job: Job, store: OnlineStore, time_asked: int) -> Site:
    home = job.home
    known = Known(home.tables, store, Pseudonymizer(load_key(home.path)), time_asked)
    return Site(home.path, known, erased_of(home.path))


def _asked(job: Job, time_asked: int) -> dict[str, Any]:
    """What must be the same for an export to be gone on with."""
    return {
        "campaign": job.campaign.campaign,
        "campaign_sha256": job.campaign.digest,
        "model_version": job.bundle.name,
        "send_time": time_asked,
        "shard": f"{job.shard.number}/{job.shard.count}",
        "people_per_part": job.people_per_part,
    }


def _write_parts(
    job: Job, store: OnlineStore, folder: Folder, num_people: int, progress: Progress
) -> None:
    missing = folder.missing(job.num_parts(num_people))
    sizes = {number: _size(job, number, num_people) for number in missing}
    with progress.task("Writing mails", num_people) as advance, _purse(job) as purse:
        advance(num_people - sum(sizes.values()))
        for part in _made(job, store, missing):
            if part.mails is not None and part.left_out is not None:
                note = folder.path / f"coupons-{part.number:05d}.json"
                mails = purse.keep(part.number, part.mails, note) if purse else part.mails
                folder.write_part(part.number, mails, part.left_out)
            advance(sizes[part.number])


@contextmanager
def _engine(job: Job, store: OnlineStore) -> Iterator[Engine]:
    """The server's engine: the bundle, and what the shop has changed since it was made."""
    is_shared = job.home.store.partition(":")[0] in ("redis", "rediss", "unix")
    snapshot = open_snapshot(open_bundle(job.bundle, verify=False))
    with closing(open_catalog_log(job.home.path, store, is_shared=is_shared)) as changes:
        yield Engine(store, snapshot, log=changes)


def _size(job: Job, number: int, num_people: int) -> int:
    return min(job.people_per_part, num_people - number * job.people_per_part)


@contextmanager
def _purse(job: Job) -> Iterator[Purse | None]:
    """What reserves money for the coupons; None for a campaign without any."""
    if not job.campaign.slots.coupons:
        yield None
        return
    bundle, time_asked = open_bundle(job.bundle, verify=False), _time_of(job)
    shard = f".{job.shard.number}-{job.shard.count}" if job.shard.count > 1 else ""
    name = f"{job.campaign.campaign}.{job.campaign.digest[:8]}.{time_asked // 1_000_000}{shard}"
    url = os.environ.get(LEDGER_VARIABLE, f"sqlite:{job.home.path / 'ledger' / 'ledger.sqlite'}")
    hold = HOLD_DAYS * MICROSECONDS_PER_DAY
    with closing(open_ledger(url)) as ledger:
        until = max(time_asked, _now()) + hold
        yield Purse(ledger, costs_of(bundle), job.campaign, name, until, _now)


def _now() -> int:
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that is written, or else what is to be written once its coupons are paid for."""

    number: int
    mails: pl.DataFrame | None = None
    left_out: pl.DataFrame | None = None


class _PartMaker:
    """Makes parts with one engine, and writes those that cost nothing."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._folder = job.folder
        tokens = TokenSigner(load_key(job.home.path))
        names = subject_columns(job.campaign)
        self._writer = Writer(job.campaign, engine, tokens, _time_of(job), names)

    def __call__(self, number: int) -> _Part:
        """Make part `number`."""
        size = self._job.people_per_part
        people = self._folder.people(number * size, size)
        with threadpool_limits(1):
            mails, left_out = self._writer.write(people)
        if self._job.campaign.slots.coupons:
            return _Part(number, mails, left_out)
        self._folder.write_part(number, mails, left_out)
        return _Part(number)


def _made(job: Job, store: OnlineStore, missing: list[int]) -> Iterator[_Part]:
    """The parts in their order, each made here or in one of several processes."""
    if job.workers < 1:
        with _engine(job, store) as engine:
            yield from map(_PartMaker(job, engine), missing)
        return
    open_snapshot(open_bundle(job.bundle, verify=False))  # what is wrong with it is told here
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.workers, context, _open_worker, (job, os.getpid())) as pool:
        waiting: deque[Future[_Part]] = deque()
        try:
            for number in missing:
                waiting.append(pool.submit(_make_part, number))
                if len(waiting) >= job.workers * PARTS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker: list[_PartMaker] = []
_for_good = ExitStack()


def _open_worker(job: Job, parent: int) -> None:
    """In a new process: open what is shared, and end when the export's own process does."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    engine = _for_good.enter_context(_engine(job, open_store(job.home.store)))
    _worker.append(_PartMaker(job, engine))
    gc.freeze()  # what is opened stays: it need not be looked through again and again


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def _make_part(number: int) -> _Part:
    return _worker[0](number)
