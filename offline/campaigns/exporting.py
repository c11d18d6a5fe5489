"""The export of a campaign: plan, parts in several processes, preview, manifest.

Killed at any moment, it is run again and goes on: parts that are whole stay. Each process opens
the bundle, whose arrays all of them share, and the store. Progress counts people.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from threadpoolctl import threadpool_limits

from feature_store.bundle import open_bundle
from feature_store.ids import Pseudonymizer, load_key
from feature_store.store import OnlineStore, open_store
from offline.campaigns.audience import Known
from offline.campaigns.campaign import Campaign
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
        return folder.finish(-(-num_people // job.people_per_part), asked)
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
    num_parts = -(-num_people // job.people_per_part)
    missing = folder.missing(num_parts)
    done = num_people - sum(_size(job, number, num_people) for number in missing)
    with progress.task("Writing mails", num_people) as advance:
        advance(done)
        if job.workers < 1:
            write = _PartWriter(job, _engine(job, store))
            for number in missing:
                write(number)
                advance(_size(job, number, num_people))
            return
        open_snapshot(open_bundle(job.bundle, verify=False))  # what is wrong with it is told here
        for number in _in_processes(job, missing):
            advance(_size(job, number, num_people))


def _engine(job: Job, store: OnlineStore) -> Engine:
    return Engine(store, open_snapshot(open_bundle(job.bundle, verify=False)))


def _size(job: Job, number: int, num_people: int) -> int:
    return min(job.people_per_part, num_people - number * job.people_per_part)


class _PartWriter:
    """Writes parts with one engine."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._folder = job.folder
        tokens = TokenSigner(load_key(job.home.path))
        names = subject_columns(job.campaign)
        self._writer = Writer(job.campaign, engine, tokens, _time_of(job), names)

    def __call__(self, number: int) -> int:
        """Write part `number`; returns it."""
        size = self._job.people_per_part
        people = self._folder.people(number * size, size)
        with threadpool_limits(1):
            mails, left_out = self._writer.write(people)
        self._folder.write_part(number, mails, left_out)
        return number


def _in_processes(job: Job, missing: list[int]) -> Iterator[int]:
    """Write parts in processes of their own; the number of each that is done."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.workers, context, _open_worker, (job, os.getpid())) as pool:
        waiting: set[Future[int]] = set()
        left = iter(missing)
        try:
            while True:
                for number in left:
                    waiting.add(pool.submit(_write_part, number))
                    if len(waiting) >= job.workers * PARTS_AHEAD:
                        break
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker: list[_PartWriter] = []


def _open_worker(job: Job, parent: int) -> None:
    """In a new process: open what is shared, and end when the export's own process does."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker.append(_PartWriter(job, _engine(job, open_store(job.home.store))))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def _write_part(number: int) -> int:
    return _worker[0](number)
