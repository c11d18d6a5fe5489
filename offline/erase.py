"""Finish what EraseUser began: take erased people out of every file of this installation.

Who was erased is known by marks alone, so the job looks at every pseudonym that a file holds and
asks whether its mark is there. That needs no list of pseudonyms, finds people who came back with
a restored backup, and may be run again at any time: killed at any moment, run it again.

Taken care of below the home: tables with their quarantine and exposures, spools, exports, the
online store and the pages that it left behind, and the ledger of coupon claims. Bundles hold
nothing keyed by a user. Out of reach are files elsewhere (name exports with --also), backups, and
what a disk keeps of deleted files.
"""

import argparse
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.audit import AUDIT_FOLDER, ERASED, LEDGER, OFFLINE_PLACES, SCHEDULED, Audit
from feature_store.durable import flush, replace_file
from feature_store.event_log import EventLog, spool_workers
from feature_store.ids import load_key
from feature_store.ledger import open_ledger
from feature_store.people import PSEUDONYM_BYTES, SOURCES_PREFIX, decode_sources, encode_sources
from feature_store.schema import MERGES
from feature_store.served import PARITY_FOLDER, forget
from feature_store.store import OnlineStore, open_store
from feature_store.store.rewrite import rewrite
from feature_store.tombstones import MARK_PREFIX, Tombstones, load_tombstone_key, mark_key
from offline.campaigns.parts import forget_rows
from offline.compact import EVENT_LOG
from offline.home import Home
from offline.increments import WORK_FOLDER
from offline.ingest.job import staging
from offline.ingest.tables import scan_table
from offline.progress import QUIET, Progress

PERSONAL_COLUMNS: Final = frozenset({"user", "session", "source", "target", "owner", "pseudonym"})
ROW_GROUP_ROWS: Final = 200_000
NAMES_AT_ONCE: Final = 1_000
STORE_FILES: Final = "store_files"
EVENT_SPOOL: Final = "event_spool"
ONLINE_STORE: Final = "online_store"


@dataclass(frozen=True, slots=True)
class Erased:
    """What one run removed, by place, and what must wait: the store's files while it is open."""

    num_records: Mapping[str, int]
    num_completed: int
    is_store_open: bool


def open_tombstones(home: Path) -> Tombstones:
    """The marks of this installation, with the keys that the environment or the home hold."""
    return Tombstones(home, load_tombstone_key(home, load_key(home)))


def erase(
    home: Home,
    tables: Path,
    tombstones: Tombstones,
    now_time: int,
    also: Sequence[Path] = (),
    progress: Progress = QUIET,
) -> Erased:
    """Remove everybody who has a mark; `also` names folders with exports outside of the home.

    Raises TablesInUseError while another job writes the tables, LedgerError when the ledger
    cannot be reached.
    """
    with staging(tables), closing(open_store(home.store)) as store:
        tombstones.add(key.removeprefix(MARK_PREFIX) for key, _ in store.scan(MARK_PREFIX))
        _mark_merged(home.path / EVENT_LOG, tables, tombstones)
        found = Counter[str]()
        if len(tombstones):
            paths = sorted({path for root in (home.path, tables, *also) for path in _files(root)})
            with progress.task("Erasing", len(paths)) as advance:
                for path in paths:
                    found[_place(path, tables)] += _erase_rows(path, tombstones)
                    advance(1)
            found[EVENT_SPOOL] = _erase_spools(home.path / EVENT_LOG, tombstones)
            found[ONLINE_STORE] = _erase_records(store, tombstones)
            found[LEDGER] = _erase_claims(home.ledger, tombstones)
            found["exports"] += forget(home.path / PARITY_FOLDER, tombstones.has_pseudonym)
            shutil.rmtree(home.path / WORK_FOLDER, ignore_errors=True)  # of a job that was killed
    is_open = home.store.startswith("lmdb:") and not rewrite(Path(home.store[5:]))
    return Erased(found, _complete(home.path, found, now_time, is_open), is_open)


def _mark_merged(event_log: Path, tables: Path, tombstones: Tombstones) -> None:
    """Mark what was merged into who is marked, on and on."""
    rows = scan_table(tables, MERGES, optional=True).select("source", "target").collect()
    pairs = set(rows.iter_rows())
    for worker in spool_workers(event_log):
        with closing(EventLog(event_log, worker)) as log:
            pairs |= {(one.merge.source, one.merge.target) for one in log.read_merges()}
    while new := [
        tombstones.marker.of_pseudonym(bytes.fromhex(source))
        for source, target in pairs
        if _is_erased(target, tombstones) and not _is_erased(source, tombstones)
    ]:
        tombstones.add(new)


def _is_erased(name: str | None, tombstones: Tombstones) -> bool:
    """Whether this is the pseudonym, in hexadecimal, of somebody who was erased."""
    try:
        return (
            name is not None and len(name) == 64 and tombstones.has_pseudonym(bytes.fromhex(name))
        )
    except ValueError:
        return False


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names if name.endswith(".parquet"))


def _place(path: Path, tables: Path) -> str:
    if not path.is_relative_to(tables):
        return "exports"
    first = path.relative_to(tables).parts[0].removesuffix(".parquet")
    return {"events": "event_log", "merges": "event_log", "audiences": "users"}.get(first, first)


def _erase_rows(path: Path, tombstones: Tombstones) -> int:
    """Write a file anew without the rows that name somebody; how many there were."""
    frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    schema = frame.collect_schema()
    columns = [name for name in schema if name in PERSONAL_COLUMNS and schema[name] == pl.String]
    names = _names(frame, columns, tombstones)
    if not names:
        return 0
    is_theirs = pl.any_horizontal(pl.col(columns).is_in(names).fill_null(value=False))
    num_rows = int(frame.filter(is_theirs).select(pl.len()).collect(engine="streaming").item())
    draft = path.with_name(f".{path.name}.draft")
    frame.filter(~is_theirs).sink_parquet(draft, row_group_size=ROW_GROUP_ROWS)
    flush(draft)
    _correct_manifest(path, draft)  # first: a crash in between leaves the names, so it is redone
    draft.replace(path)
    flush(path.parent)
    return num_rows


def _names(frame: pl.LazyFrame, columns: Sequence[str], tombstones: Tombstones) -> list[str]:
    names: set[str] = set()
    for column in columns:
        rows = frame.select(pl.col(column).unique()).collect(engine="streaming")
        names |= {name for name in rows.to_series() if _is_erased(name, tombstones)}
    return sorted(names)


def _correct_manifest(path: Path, draft: Path) -> None:
    """An export's manifest names the checksums of its parts, and how many users there are.

    What else an export holds of its people is written anew, or removed, first.
    """
    forget_rows(path, draft)
    manifest = path.with_name("manifest.json")
    content = json.loads(manifest.read_bytes()) if manifest.exists() else {}
    if path.name not in content.get("files", ()):
        return
    files = content["files"]
    for name in list(files):
        changed = draft if name == path.name else path.with_name(name)
        if not changed.exists():
            del files[name]
        elif name.rpartition(".")[0] == path.stem:
            files[name] = hashlib.sha256(changed.read_bytes()).hexdigest()
    names = [name for name in files if name.startswith("part-") and name.endswith(".parquet")]
    parts = [draft if name == path.name else path.with_name(name) for name in names]
    users = pl.concat([pl.scan_parquet(part, glob=False).select("user") for part in parts])
    content["num_users"] = users.collect()["user"].n_unique()
    replace_file(manifest, json.dumps(content, indent=2).encode() + b"\n")


def _erase_spools(event_log: Path, tombstones: Tombstones) -> int:
    num_rows = 0
    for worker in spool_workers(event_log):
        with closing(EventLog(event_log, worker)) as log:
            names = sorted(name for name in log.pseudonyms() if _is_erased(name, tombstones))
            for start in range(0, len(names), NAMES_AT_ONCE):
                num_rows += sum(log.erase(*names[start : start + NAMES_AT_ONCE]))
    return num_rows


def _erase_records(store: OnlineStore, tombstones: Tombstones) -> int:
    """What came back after the server forgot, and states of other layouts than the server's."""
    keys = [
        key
        for key, _ in store.scan(b"")
        if len(key) > PSEUDONYM_BYTES and tombstones.has_pseudonym(key[-PSEUDONYM_BYTES:])
    ]
    marks = [mark_key(tombstones.marker.of_pseudonym(key[-32:])) for key in keys]
    for start in range(0, len(keys), NAMES_AT_ONCE):
        some = keys[start : start + NAMES_AT_ONCE]
        store.update_many(some, lambda values: [None] * len(values))
    store.put_many((mark, b"1") for mark in marks)
    _unlist(store, tombstones)
    return len(keys)


def _erase_claims(address: str, tombstones: Tombstones) -> int:
    """Take them out of the ledger, whose sums stay; how many claims there were."""
    scheme, _, path = address.partition(":")
    if scheme == "sqlite" and not Path(path).exists():
        return 0
    with closing(open_ledger(address)) as ledger:
        theirs = [
            user for user in ledger.users() if _is_erased(user.rpartition("/")[2], tombstones)
        ]
        num_claims = sum(ledger.forget(user) for user in theirs)
        ledger.shred()
        return num_claims


def _unlist(store: OnlineStore, tombstones: Tombstones) -> None:
    """A user's list of what was merged into them may name a visit that was erased alone."""

    def left(value: bytes | None) -> list[bytes]:
        return [key for key in decode_sources(value) if not tombstones.has_pseudonym(key[-32:])]

    for key, value in store.scan(SOURCES_PREFIX):
        if left(value) != decode_sources(value):
            store.update_many([key], lambda values: [encode_sources(left(one)) for one in values])


def _complete(home: Path, found: Mapping[str, int], now_time: int, is_open: bool) -> int:
    """Note in the records of all erasures that they are done; how many are so now.

    The numbers are those of the run: who was in which file is known to nobody any more.
    """
    num_complete = 0
    for audit in _pending(home):
        for name in (ONLINE_STORE, EVENT_SPOOL, LEDGER, *OFFLINE_PLACES):
            state = SCHEDULED if name == STORE_FILES and is_open else ERASED
            audit.found(name, found.get(name, 0), state)
        if not is_open:
            audit.complete_time = now_time
            num_complete += 1
        audit.write(home)
    return num_complete


def _pending(home: Path) -> Iterable[Audit]:
    folder = Audit.path(home, "").parent
    audits = (Audit.read(path) for path in sorted(folder.glob("*.json")))
    return [audit for audit in audits if audit.complete_time is None]


def finish_pending(home: Home, tables: Path) -> None:
    """Before the tables are learned from: finish the erasures that are not finished yet.

    Raises TablesInUseError while another job writes the tables.
    """
    if is_pending(home.path):
        erase(home, tables, open_tombstones(home.path), time.time_ns() // 1_000)


def is_pending(home: Path) -> bool:
    """Whether somebody who was erased may still be in the tables."""
    return bool(_pending(home))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline erase`."""
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument(
        "--also", type=Path, action="append", default=[], help="folder of exports elsewhere"
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Erase once and say what was done."""
    home = Home.from_arguments(args)
    tombstones = open_tombstones(home.path)
    now_time = time.time_ns() // 1_000
    tables = args.tables or home.tables
    done = erase(home, tables, tombstones, now_time, args.also, Progress())
    print(
        f"{sum(done.num_records.values()):,} records were removed; {done.num_completed:,} erasures "
        f"are complete; their records are in {home.path / 'erased' / AUDIT_FOLDER}"
    )
    if done.is_store_open:
        print(
            f"{home.store} is open, so pages that it left behind were not removed: stop the "
            "server and run this again"
        )
    return 0
