"""Compute served features again, from the tables, the spools and the bundle, and compare.

A server with AISLE_PARITY_SAMPLE notes what it served (`online.parity`). For each such answer
the user's state is made anew of what was known when it was read, and the same engine is asked the
same question. What was known goes by arrival, not by an event's own time: of what came through a
server, everything up to the event that the state had taken in last; of what came in files, all
up to the instant of the request. A late event of an earlier day was therefore not known.

Exit code 5 when a value differs by more than float rounding can explain.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from feature_store.bundle import open_bundle
from feature_store.features import EventBatch, update
from feature_store.pointer import serving_folder
from feature_store.ranking import feature_names, open_columns, ranking_features
from feature_store.served import PARITY_FOLDER, Place, Served, places
from feature_store.state import EMPTY, state_key
from feature_store.store import MemoryStore
from feature_store.two_tower import rated_sources
from feature_store.views import RANKING_VIEWS
from offline.arrivals import read_all_arrivals
from offline.by_user import part_path, users_of
from offline.compact import EVENT_LOG
from offline.errors import ParityError
from offline.home import Home
from offline.ingest.tables import days
from offline.progress import QUIET, Progress
from offline.spreading import spread_days
from offline.uncompacted import open_tail
from online.engine import Engine
from online.snapshot import Snapshot, open_snapshot
from online.types import Candidates, PurchaseMode, Query, Request

RELATIVE: float = 1e-4
ABSOLUTE: float = 1e-4
MAX_OTHER: float = 1e-5
NEVER: int = 2**62

NUM_DECLARED = len(RANKING_VIEWS)
"""What the sources say follows behind these."""

DEFAULTS = np.array([view.default or 0.0 for view in RANKING_VIEWS], np.float32)


@dataclass(slots=True)
class Parity:
    """What was compared. `differences` counts values by feature.

    `num_other_items` were candidates then and are none now, the last places of a source's list
    being within float rounding of each other: of all `num_items`, hardly any may be so.
    """

    num_requests: int = 0
    num_items: int = 0
    num_values: int = 0
    num_not_default: int = 0
    num_other_items: int = 0
    users: set[str] = field(default_factory=set)
    differences: Counter[str] = field(default_factory=Counter)

    @property
    def is_kept(self) -> bool:
        """Whether what was served can be explained."""
        return not self.differences and self.num_other_items <= MAX_OTHER * self.num_items

    @property
    def num_differences(self) -> int:
        """Values that differ."""
        return self.differences.total()


@dataclass(frozen=True, slots=True)
class Memory:
    """All events of one user, and when each arrived: microseconds UTC, NEVER for a file's."""

    events: EventBatch
    arrival: NDArray[np.int64]

    def known(self, served: Served, request_time: int) -> EventBatch:
        """What the state had taken in when it was read, in the order of arrival."""
        place = np.flatnonzero(self.events.event == np.uint64(served.last_event))
        live = self.arrival != NEVER
        until = served.read_time
        if len(place) and live[place[0]]:
            until = int(self.arrival[place[0]])
        known = np.where(live, self.arrival <= until, self.events.time <= request_time)
        order = np.lexsort((self.events.time, np.where(live, self.arrival, 0)))
        return self.events.take(order[known[order]])


def check(
    home: Path, tables: Path, event_log: Path, bundles: Sequence[Path], progress: Progress = QUIET
) -> Parity:
    """Compare all that was noted below a home; `bundles` are folders of bundles.

    Raises ParityError when nothing was noted or a bundle is not there any more.
    """
    noted = places(home / PARITY_FOLDER)
    if not noted:
        raise ParityError(
            f"{home / PARITY_FOLDER} holds no served features; let a server note some with "
            "AISLE_PARITY_SAMPLE=0.01"
        )
    by_user: dict[str, list[Place]] = {}
    for place in noted:
        by_user.setdefault(place.user, []).append(place)
    snapshots = {version: _open(bundles, version) for version in {p.model_version for p in noted}}
    parity = Parity()
    memories = _memories(tables, event_log, list(by_user))
    with progress.task("Computing features again", len(noted)) as advance:
        for user, memory in memories:
            for place in by_user.pop(user, ()):
                _compare(parity, snapshots[place.model_version], place.read(), memory)
                advance(1)
        for place in chain(*by_user.values()):  # nothing is known of these users
            _compare(parity, snapshots[place.model_version], place.read(), None)
            advance(1)
    return parity


def _memories(tables: Path, event_log: Path, users: list[str]) -> Iterator[tuple[str, Memory]]:
    """The events of each of these users of whom there are any."""
    with TemporaryDirectory(prefix="aisle-parity-") as folder, open_tail(event_log, tables) as tail:
        arrivals = pl.concat([read_all_arrivals(tables), tail.arrivals()])
        arrivals = arrivals.unique("event", keep="first").sort("event")
        wanted = {bytes.fromhex(user) for user in users}
        more = (rows[[o.tobytes() in wanted for o in rows["owner"]]] for rows in tail.rows())
        number = spread_days(
            tables,
            list(days(tables)),
            Path(folder),
            tail.merges,
            QUIET,
            users=pl.Series(users),
            more=more,
        )
        for part in range(number):
            for keys, batch in users_of(part_path(Path(folder), part)):
                ends = np.searchsorted(batch.owner, np.arange(len(keys) + 1))
                for place, key in enumerate(keys):
                    own = batch.take(np.arange(ends[place], ends[place + 1]))
                    own.owner[:] = 0
                    yield key.hex(), Memory(own, _arrival(own, arrivals))


def _arrival(events: EventBatch, arrivals: pl.DataFrame) -> NDArray[np.int64]:
    known = arrivals["event"].to_numpy()
    if not len(known):
        return np.full(len(events), NEVER)
    place = np.minimum(np.searchsorted(known, events.event), len(known) - 1)
    received = arrivals["received_time"].to_numpy()[place]
    return np.where(known[place] == events.event, received, NEVER)


def _open(bundles: Sequence[Path], version: str) -> Snapshot:
    for folder in bundles:
        if (folder / version).is_dir():
            return open_snapshot(open_bundle(folder / version))
    raise ParityError(f"bundle {version} is in none of {', '.join(map(str, bundles))}")


def _compare(parity: Parity, snapshot: Snapshot, served: Served, memory: Memory | None) -> None:
    request = _request(served.request)
    store = MemoryStore()
    if memory is not None:
        (state,) = update([EMPTY], memory.known(served, request.request_time))
        store.put_many([(state_key(request.user), state.encode())])
    query, found, scores = _ask(snapshot, store, request, served.items)
    rated = rated_sources(snapshot.bundle)
    said = slice(NUM_DECLARED, NUM_DECLARED + len(rated))
    told = served.features[:, said]
    again = ranking_features(
        query.state, query.history, open_columns(snapshot.bundle), served.items, told.T,
        request.request_time,
    )  # fmt: skip
    if not request.session:  # what a session did is not kept for ever: it may move the sources
        again[:, said] = scores.T
        parity.num_other_items += int((~np.isin(served.items, found)).sum())
    _count(parity, served.features, again, request.user.hex(), feature_names(rated))


def _ask(
    snapshot: Snapshot, store: MemoryStore, request: Request, items: NDArray[np.int32]
) -> tuple[Query, NDArray[np.int32], NDArray[np.float32]]:
    """The query, the candidates that the engine finds now, and the rated scores of `items`."""
    query, found = Engine(store, snapshot).candidates(request)
    names = snapshot.pipelines[request.placement].source_names
    rated = [names.index(name) for name in rated_sources(snapshot.bundle)]
    unscored = np.zeros((len(found.rates), len(items)), np.float32)
    return query, found.items, Candidates(items, unscored, found.rates).rated(rated)


def _count(
    parity: Parity,
    served: NDArray[np.float32],
    again: NDArray[np.float32],
    user: str,
    names: Sequence[str],
) -> None:
    differs = np.abs(served - again) > ABSOLUTE + RELATIVE * np.abs(again)
    parity.num_requests += 1
    parity.num_items += len(served)
    parity.users.add(user)
    parity.num_values += served.size
    parity.num_not_default += int((served[:, :NUM_DECLARED] != DEFAULTS).sum())
    parity.num_not_default += int((served[:, NUM_DECLARED:] != 0).sum())
    for column in np.flatnonzero(differs.any(axis=0)).tolist():
        parity.differences[names[column]] += int(differs[:, column].sum())


def _request(values: Mapping[str, Any]) -> Request:
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    keys = {name: bytes.fromhex(values[name]) for name in ("user", "session")}
    mode = PurchaseMode(values["purchase_mode"])
    return Request(**{**values, **lists, **keys, "purchase_mode": mode})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline parity`."""
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and print; exit code 5 when a value differs."""
    home = Home.from_arguments(args)
    bundles = [home.bundles, serving_folder(home.path), serving_folder(home.path) / "bundles"]
    tables = args.tables or home.tables
    parity = check(home.path, tables, home.path / EVENT_LOG, bundles, Progress())
    Console().print(
        f"{parity.num_requests:,} requests of {len(parity.users):,} users, "
        f"{parity.num_values:,} values, {parity.num_not_default / parity.num_values:.0%} of them "
        f"other than the default: {parity.num_differences:,} differ"
    )
    for name, number in parity.differences.most_common():
        print(f"{name}: {number:,} values differ")
    if parity.num_other_items:
        print(f"{parity.num_other_items:,} of {parity.num_items:,} candidates are none now")
    return 0 if parity.is_kept else 5
