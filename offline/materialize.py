"""Load the online store with what the event tables say of every user.

Polars only reads and cuts; the states are made by `feature_store.features.update`, the function
that the server calls for each event. Days that are new since the last time are applied to the
states that are there; a day that has grown has its users made anew; `--full` makes everybody
anew. The server may run meanwhile: what it has taken in and no table holds yet is kept. Killed at
any moment, run it again: it goes on where it stopped, and nothing counts twice.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console

from feature_store.ids import load_key
from feature_store.store import OnlineStore, open_store
from feature_store.tombstones import Tombstones, load_tombstone_key
from offline.by_user import part_path, users_of
from offline.compact import EVENT_LOG
from offline.home import Home
from offline.increments import WORK_FOLDER, Done, How, Site, bring_up
from offline.ingest.tables import days_within
from offline.people import write_people
from offline.progress import Progress
from offline.quality import print_warnings, require_quality
from offline.spreading import spread_days
from offline.states import Chunk, change_states, make_anew
from offline.uncompacted import read_merges

_DONE = {
    How.FULL: "made anew from all {0.num_events:,} events",
    How.AFFECTED: "made anew, since days that were known tell more than before",
    How.NEW_DAYS: "brought up to {0.num_events:,} events of new days",
}


def materialize(
    tables: Path,
    store: OnlineStore,
    end_time: int | None,
    progress: Progress,
    since_time: int | None = None,
) -> int:
    """Write the state of every user with events before `end_time`; returns how many.

    With `since_time` the store holds the states of that instant, and only what came after is
    applied to them.

    For a store of one's own, such as an evaluation's: it leaves no record in it, and looks at
    no spools. Raises TablesMissingError.
    """
    merges = read_merges(tables)
    num_users = 0
    with tempfile.TemporaryDirectory(prefix="aisle-states-") as folder:
        work = Path(folder)
        known = days_within(tables, since_time, end_time)
        span = (since_time, end_time)
        num_files = spread_days(tables, known, work, merges, progress, span=span)
        with progress.task("Making user states", num_files) as advance:
            for number in range(num_files):
                for users, events in users_of(part_path(work, number)):
                    if since_time is None:
                        make_anew(store, Chunk(users, events))
                    else:
                        change_states(store, Chunk(users, events))
                    num_users += len(users)
                advance(1)
    return num_users


def erased_of(home: Path) -> Callable[[bytes], bool]:
    """Says of a pseudonym whether who had it was erased."""
    key = load_tombstone_key(home, load_key(home))
    return Tombstones(home, key).has_pseudonym


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline materialize`."""
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument(
        "--full", action="store_true", help="make every state anew, from all events there are"
    )
    parser.add_argument(
        "--ignore-quality", action="store_true", help="go on with tables that are not fit"
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Bring the online store up to the tables and say what was done.

    Raises QualityError before anything is changed when the newest days break a limit.
    """
    home = Home.from_arguments(args)
    if not args.ignore_quality:
        print_warnings(require_quality(args.tables or home.tables), Console())
    with closing(open_store(home.store)) as store:
        site = Site(
            store=store,
            tables=args.tables or home.tables,
            event_log=home.path / EVENT_LOG,
            work=home.path / WORK_FOLDER,
            is_erased=erased_of(home.path),
        )
        write_people(site.tables, store)
        done = bring_up(site, time.time_ns() // 1_000, Progress(), full=args.full)
    for one in done:
        print(_line(one, home))
    if not done:
        print(f"{home.store} reflects all events already")
    return 0


def _line(done: Done, home: Home) -> str:
    return f"{done.num_users:,} user states in {home.store} were {_DONE[done.how].format(done)}"
