"""The export of a campaign: plan, parts in several processes, preview, manifest.

Killed at any moment, it is run again and goes on: parts that are whole stay. Each process opens
the bundle, whose arrays all of them share, and the store. Progress counts people.
"""

import gc
import hashlib
import json
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
from feature_store.ids import Pseudonymizer, load_former_key, load_key
from feature_store.ledger import open_ledger
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore, open_store
from offline.campaigns.audience import Known
from offline.campaigns.campaign import Campaign
from offline.campaigns.coupon_money import HOLD_DAYS, Purse, costs_of, release_mailings
from offline.campaigns.mail_history import mails_sent
from offline.campaigns.mails import Writer, mail_id, with_emptied
from offline.campaigns.parts import Folder
from offline.campaigns.planning import WHOLE, Shard, Site, make_plan, subject_columns, with_claims
from offline.campaigns.preview import write_preview
from offline.erase import open_tombstones
from offline.home import Home
from offline.progress import Progress
from online.coupons.frozen import FrozenUse, frozen_use, read_use
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
        folder.begin(asked, lambda: _plan(job, site, time_asked))
        sizes = folder.sizes()
        _write_parts(job, store, folder, sizes, progress)
        write_preview(job.campaign, folder, site, asked)
        return folder.finish(len(sizes), asked)
    finally:
        store.close()


def _plan(job: Job, site: Site, time_asked: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The plan, and what is used of the coupons now: that is what all mails go by."""
    plan = make_plan(job.campaign, site, time_asked, job.shard, job.people_per_part)
    if not job.campaign.slots.coupons:
        return plan, {}
    snapshot = open_snapshot(open_bundle(job.bundle, verify=False))
    with closing(open_ledger(job.home.ledger)) as ledger:
        ledger.expire(_now())
        if not _is_sent(job, time_asked):
            release_mailings(ledger, _mailings(job, time_asked))
        plan = with_claims(plan, ledger, time_asked)
        use = read_use(snapshot, ledger, site.known.store, time_asked)
    return plan, {"use": use, "mailing": _mailing(job, plan, use, time_asked)}


def _mailing(job: Job, plan: pl.DataFrame, use: dict[str, Any], time_asked: int) -> str:
    """The name of the mailings but for the part: another one for all that may change a mail."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (job.campaign.digest, job.bundle.name, json.dumps(use), plan.write_ndjson()):
        digest.update(part.encode() + b"\0")
    return _mailings(job, time_asked) + digest.hexdigest()


def _mailings(job: Job, time_asked: int) -> str:
    """How the mailings of all exports of this campaign, instant and shard are called."""
    shard = f"{job.shard.number}-{job.shard.count}"
    return f"{job.campaign.campaign}.{time_asked // 1_000_000}.{shard}."


def _is_sent(job: Job, time_asked: int) -> bool:
    """Whether a mail of this campaign and instant was sent, as far as one was told."""
    told = mails_sent(job.home.path, job.home.tables, time_asked - MICROSECONDS_PER_DAY)
    people, tokens = told["pseudonym"].unique(), TokenSigner(load_key(job.home.path))
    ours = {mail_id(job.campaign.campaign, time_asked, name) for name in people}
    read = (tokens.read(token) for token in told["mail"].unique())
    return any(one is not None and one.request_id in ours for one in read)


def _time_of(job: Job) -> int:
    given = job.campaign.send_time
    return open_bundle(job.bundle, verify=False).horizon_time if given is None else given


def _site(job: Job, store: OnlineStore, time_asked: int) -> Site:
    home = job.home
    former = load_former_key()
    known = Known(
        home.tables,
        store,
        Pseudonymizer(load_key(home.path)),
        time_asked,
        None if former is None else Pseudonymizer(former),
    )
    return Site(home.path, known, open_tombstones(home.path))


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
    job: Job, store: OnlineStore, folder: Folder, sizes: list[int], progress: Progress
) -> None:
    missing = folder.missing(len(sizes))
    with progress.task("Writing mails", sum(sizes)) as advance, _purse(job) as purse:
        advance(sum(sizes) - sum(sizes[number] for number in missing))
        for part in _made(job, store, missing):
            if part.mails is not None and part.left_out is not None:
                note = folder.path / f"coupons-{part.number:05d}.json"
                mails = purse.keep(part.number, part.mails, note) if purse else part.mails
                left_out = with_emptied(part.left_out, part.mails, mails)
                folder.write_part(part.number, mails, left_out)
            advance(sizes[part.number])


@contextmanager
def _part_maker(job: Job, store: OnlineStore) -> Iterator["_PartMaker"]:
    """With the server's engine: the bundle, and what the shop has changed since it was made."""
    is_shared = job.home.store.partition(":")[0] in ("redis", "rediss", "unix")
    snapshot = open_snapshot(open_bundle(job.bundle, verify=False))
    with closing(open_catalog_log(job.home.path, store, is_shared=is_shared)) as changes:
        use = frozen_use(snapshot, job.folder.frozen().get("use", {}))
        engine = Engine(store, snapshot, None if use is None else use.follow, log=changes)
        yield _PartMaker(job, engine, use)


@contextmanager
def _purse(job: Job) -> Iterator[Purse | None]:
    """What reserves money for the coupons; None for a campaign without any."""
    if not job.campaign.slots.coupons:
        yield None
        return
    bundle, time_asked = open_bundle(job.bundle, verify=False), _time_of(job)
    name = job.folder.frozen()["mailing"]
    hold = HOLD_DAYS * MICROSECONDS_PER_DAY
    with closing(open_ledger(job.home.ledger)) as ledger:
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

    def __init__(self, job: Job, engine: Engine, use: FrozenUse | None) -> None:
        self._job = job
        self._folder = job.folder
        tokens = TokenSigner(load_key(job.home.path))
        names = subject_columns(job.campaign)
        self._writer = Writer(job.campaign, engine, tokens, _time_of(job), names, use)

    def __call__(self, number: int) -> _Part:
        """Make part `number`."""
        people = self._folder.people(number)
        with threadpool_limits(1):
            mails, left_out = self._writer.write(people)
        if self._job.campaign.slots.coupons:
            return _Part(number, mails, left_out)
        self._folder.write_part(number, mails, left_out)
        return _Part(number)


def _made(job: Job, store: OnlineStore, missing: list[int]) -> Iterator[_Part]:
    """The parts in their order, each made here or in one of several processes."""
    if job.workers < 1:
        with _part_maker(job, store) as make:
            yield from map(make, missing)
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
    _worker.append(_for_good.enter_context(_part_maker(job, open_store(job.home.store))))
    gc.freeze()  # what is opened stays: it need not be looked through again and again


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def _make_part(number: int) -> _Part:
    return _worker[0](number)
