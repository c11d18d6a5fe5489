"""What is new in the tables since the store was last brought up to them, and doing it once.

The store itself holds two records: which events of each day it reflects, and how far the work
under way has got. The events that are to be applied lie in files by user until all is done, so
that work that was killed goes on with the same chunks.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from feature_store.durable import replace_file
from feature_store.ids import hash64_many
from feature_store.schema import EVENTS
from feature_store.state import record_key
from feature_store.store import OnlineStore, Record
from offline.arrivals import read_arrivals
from offline.by_user import ROW_DTYPE, Rows, part_path, users_of
from offline.ingest.job import staging
from offline.ingest.tables import day_files, days, scan_parts
from offline.progress import Progress
from offline.spreading import owners_of, spread_days
from offline.states import Chunk, change_states, make_anew, nobody
from offline.uncompacted import Tail, open_tail

WORK_FOLDER: Final = "materializing"
PLAN: Final = "plan.json"
DAYS_KEY: Final = record_key("days")
PROGRESS_KEY: Final = record_key("progress")
MAX_AGE_HOURS: Final = 12.0
"""Older work is not gone on with: the event log may have let go of what came meanwhile."""


class How(StrEnum):
    """What becomes of the states of the users of a plan."""

    FULL = "full"
    """Everybody's is made anew."""
    AFFECTED = "affected"
    """Those of whom a known day tells more than before are made anew, from all days."""
    NEW_DAYS = "new_days"
    """The events of new days are applied to the states that are there."""


Days = dict[str, tuple[str, int]]
"""By day: what its files look like, and how many of its events did not come through a server."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Work whose events lie in files. `places`: where the spools were read to, by worker."""

    run: str
    how: How
    num_files: int
    days: Days
    places: tuple[int, ...]
    made_time: int

    @staticmethod
    def load(folder: Path) -> "Plan | None":
        """The plan whose files are complete; None for none."""
        try:
            values = json.loads((folder / PLAN).read_bytes())
        except FileNotFoundError:
            return None
        values["days"] = {day: (files, num) for day, (files, num) in values["days"].items()}
        return Plan(**values | {"how": How(values["how"]), "places": tuple(values["places"])})


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: how, for how many users, with how many events."""

    how: How
    num_users: int
    num_events: int


@dataclass(frozen=True, slots=True)
class Site:
    """Where a store is brought up from: tables, spools, and a folder for work under way."""

    store: OnlineStore
    tables: Path
    event_log: Path
    work: Path
    is_erased: Callable[[bytes], bool] = nobody


def bring_up(site: Site, now_time: int, progress: Progress, *, full: bool = False) -> list[Done]:
    """Make the store reflect the tables and the spools; what was done, in order.

    `now_time` is in microseconds UTC. Work that was killed is finished first. Raises
    TablesInUseError while the tables are being written, and any error of the feature store.
    """
    done = []
    with open_tail(site.event_log, site.tables) as tail:
        unfinished, is_lost = _unfinished(site, now_time)
        if unfinished and (unfinished.how is How.FULL or not full):
            tail.go_to(unfinished.places)
            done.append(_carry_out(site, unfinished, tail, progress))
            full = False
        plan = _plan(site, tail, now_time, progress, full=full or is_lost)
        if plan:
            done.append(_carry_out(site, plan, tail, progress))
    shutil.rmtree(site.work, ignore_errors=True)
    return done


def _unfinished(site: Site, now_time: int) -> tuple[Plan | None, bool]:
    """The plan that was broken off, and whether one was whose files are not there any more."""
    noted = _read(site.store, PROGRESS_KEY)
    if noted is None or noted["is_finished"]:
        return None, False
    plan = Plan.load(site.work)
    if plan is None or plan.run != noted["run"]:
        return None, True
    is_old = now_time - plan.made_time > MAX_AGE_HOURS * 3.6e9 and plan.how is not How.NEW_DAYS
    return (None, True) if is_old else (plan, False)


def _plan(site: Site, tail: Tail, now_time: int, progress: Progress, *, full: bool) -> Plan | None:
    """Cut what is to be done into files; None when there is nothing to do."""
    with staging(site.tables):  # nobody changes the tables meanwhile
        before = _read(site.store, DAYS_KEY)
        known: Days = {} if before is None else {d: (f, n) for d, (f, n) in before.items()}
        now = count_days(site.tables, known)
        how, changed = _compare(known, now, full=full or before is None)
        if not changed:
            _finish(site.store, now)
            return None
        shutil.rmtree(site.work, ignore_errors=True)
        site.work.mkdir(parents=True)
        number = _cut(site, tail, how, changed, progress)
    plan = Plan(uuid.uuid4().hex, how, number, now, tail.places, now_time)
    replace_file(site.work / PLAN, json.dumps(asdict(plan)).encode())
    return plan


def _cut(site: Site, tail: Tail, how: How, changed: list[date], progress: Progress) -> int:
    if how is How.NEW_DAYS:
        applied = np.concatenate([np.zeros(0, np.uint64), *(r["event"] for r in tail.rows())])
        return spread_days(site.tables, changed, site.work, tail.merges, progress, applied=applied)
    everything = list(days(site.tables))
    users = None if how is How.FULL else owners_of(site.tables, changed, tail.merges)
    more = _of_users(tail.rows(), users)
    return spread_days(
        site.tables, everything, site.work, tail.merges, progress, users=users, more=more
    )


def _of_users(parts: Iterator[Rows], users: pl.Series | None) -> Iterator[Rows]:
    wanted = None if users is None else {bytes.fromhex(user) for user in users}
    for rows in parts:
        if wanted is None:
            yield rows
        else:
            yield rows[[owner.tobytes() in wanted for owner in rows["owner"]]]


def _compare(known: Days, now: Days, *, full: bool) -> tuple[How, list[date]]:
    """How to go on, and because of which days."""
    if full:
        return How.FULL, [date.fromisoformat(day) for day in now]
    new = [date.fromisoformat(day) for day, (_, num) in now.items() if day not in known and num]
    grown = [
        date.fromisoformat(day)
        for day, (_, num) in now.items()
        if day in known and num != known[day][1]
    ]
    return (How.AFFECTED, sorted(grown + new)) if grown else (How.NEW_DAYS, new)


def count_days(tables: Path, known: Mapping[str, tuple[str, int]]) -> Days:
    """The record of each day; a day whose files are as they were is not read again."""
    counted = {}
    for day in days(tables):
        name, paths = day.isoformat(), day_files(tables, day)
        look = _look(paths)
        if name in known and known[name][0] == look:
            counted[name] = known[name]
        else:
            counted[name] = (look, _num_unarrived(tables, day, paths))
    return counted


def _look(paths: list[Path]) -> str:
    """Changes when one of the files does."""
    looks = [(path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in paths]
    return hashlib.blake2b(repr(looks).encode(), digest_size=8).hexdigest()


def _num_unarrived(tables: Path, day: date, paths: list[Path]) -> int:
    events = scan_parts(paths, EVENTS)
    arrived = read_arrivals(tables, day)["event"]
    if not len(arrived):
        return int(events.select(pl.len()).collect().item())
    keys = hash64_many(events.select("event_id").collect()["event_id"].to_list())
    return int((~pl.Series(keys).is_in(arrived.implode())).sum())


def _carry_out(site: Site, plan: Plan, tail: Tail, progress: Progress) -> Done:
    """Do the chunks that are not done, each with the note that it is."""
    noted = _read(site.store, PROGRESS_KEY)
    num_done = noted["num_done"] if noted and noted["run"] == plan.run else 0
    paths = [part_path(site.work, number) for number in range(plan.num_files)]
    total = sum(path.stat().st_size for path in paths) // ROW_DTYPE.itemsize
    num_users = 0
    with progress.task("Loading user states", total) as advance:
        for number, chunk in enumerate(_chunks(paths)):
            if number >= num_done:
                note = _note(plan.run, number + 1, is_finished=False)
                if plan.how is How.NEW_DAYS:
                    change_states(site.store, chunk, note, site.is_erased)
                else:
                    make_anew(site.store, chunk, note, tail, site.is_erased)
                num_users += len(chunk.users)
            advance(len(chunk.events))
    _finish(site.store, plan.days, plan.run)
    return Done(plan.how, num_users, total)


def _chunks(paths: list[Path]) -> Iterator[Chunk]:
    for path in paths:
        for users, events in users_of(path):
            yield Chunk(users, events)


def _note(run: str, num_done: int, *, is_finished: bool) -> Record:
    note = {"run": run, "num_done": num_done, "is_finished": is_finished}
    return PROGRESS_KEY, json.dumps(note).encode()


def _finish(store: OnlineStore, now: Days, run: str = "") -> None:
    """Note what the store reflects, and that no work is under way, in one step."""
    record = json.dumps(now).encode()
    _, note = _note(run, 0, is_finished=True)
    store.update_many([DAYS_KEY, PROGRESS_KEY], lambda _: [record, note])


def _read(store: OnlineStore, key: bytes) -> Any:
    (value,) = store.get_many([key])
    return None if value is None else json.loads(value)
