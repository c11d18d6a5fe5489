"""How fast the feature store is: one line of JSON for each store.

Each store is measured in a process of its own, on user states of the real layout, through the
code that serves: the store and `online.feedback`. Beside the user's state, a request reads the
rows of 300 items from a memory-mapped array, as a bundle holds them.

    get_us_p50, get_us_p99     one request's full feature read: 1 user and 300 items
    state_kb                   size of a user's state
    events_per_s               events on the disk, in batches, by the event log alone
    applied_events_per_s       events on the disk and in the users' states, in the same batches
    event_to_effect_ms_*       from handing in one event until another process reads its effect
    rss_mb                     the largest resident set of the measuring process
    load_average               of the machine at the end: above its cores, others ran too
    missed                     the floors of two cores that were not reached; `--floors` fails then
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import StoreUnavailableError
from feature_store.event_log import EventLog
from feature_store.events import Event
from feature_store.schema import EVENT_KINDS
from feature_store.state import UserState, state_key
from feature_store.store import OnlineStore, open_store
from online.feedback.changes import apply
from online.feedback.intake import Feedback

SPAWN: Final = multiprocessing.get_context("spawn")
NOW: Final = 1_700_000_000_000_000
NUM_ITEMS: Final = 100_000
ITEM_COLUMNS: Final = 32
ITEMS_PER_REQUEST: Final = 300
EVENTS_PER_USER: Final = 90
USERS_AT_ONCE: Final = 50
AT_MOST: Final = {
    "lmdb": {"get_us_p99": 1_000.0, "event_to_effect_ms_p99": 10.0},
    "redis": {"get_us_p99": 3_000.0},
}
AT_LEAST: Final = {"lmdb": {"events_per_s": 20_000.0, "applied_events_per_s": 5_000.0}}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    num_users: int
    num_reads: int
    num_batches: int
    batch_events: int
    num_effects: int


def user_name(number: int) -> str:
    """The pseudonym of a user."""
    return f"{number:064x}"


def events(dice: np.random.Generator, users: Sequence[int]) -> list[Event]:
    """One event for each of these users, on a random item."""
    kinds = dice.integers(len(EVENT_KINDS), size=len(users))
    items = dice.integers(NUM_ITEMS, size=len(users))
    return [
        Event(
            event_id=str(uuid.UUID(bytes=dice.bytes(16))),
            event_time=NOW + number,
            user=user_name(user),
            kind=EVENT_KINDS[kind],
            item=f"item-{item}",
            price=2.5,
            placement="home",
        )
        for number, (user, kind, item) in enumerate(zip(users, kinds, items, strict=True))
    ]


def fill(store: OnlineStore, dice: np.random.Generator, num_users: int) -> float:
    """Give every user a history; returns the mean size of a state in KB.

    The states of a few users are made from events, the others get copies.
    """
    apply(events(dice, np.repeat(np.arange(USERS_AT_ONCE), EVENTS_PER_USER).tolist()), store)
    made = [value or b"" for value in store.get_many(state_keys(range(USERS_AT_ONCE)))]
    keys = state_keys(range(num_users))
    store.put_many((key, made[i % len(made)]) for i, key in enumerate(keys))
    return sum(map(len, made)) / len(made) / 1_000


def state_keys(users: Sequence[int]) -> list[bytes]:
    """The store's keys of these users."""
    return [state_key(bytes.fromhex(user_name(user))) for user in users]


def item_rows(directory: Path, dice: np.random.Generator) -> NDArray[np.float32]:
    """Item features as a bundle holds them: memory-mapped, read-only."""
    path = directory / "items.npy"
    np.save(path, dice.random((NUM_ITEMS, ITEM_COLUMNS), np.float32))
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return mapped


def read_times(
    store: OnlineStore, items: NDArray[np.float32], dice: np.random.Generator, size: Size
) -> NDArray[np.float64]:
    """Microseconds of each full feature read, shape (num_reads,)."""
    users = state_keys(dice.integers(size.num_users, size=size.num_reads).tolist())
    rows = dice.integers(NUM_ITEMS, size=(size.num_reads, ITEMS_PER_REQUEST))
    times = np.empty(size.num_reads)
    for i, user in enumerate(users):
        start = time.perf_counter_ns()
        (value,) = store.get_many([user])
        UserState.decode(value or b"")
        items[rows[i]]
        times[i] = (time.perf_counter_ns() - start) / 1_000
    return times


def durable_rate(log: EventLog, dice: np.random.Generator, size: Size) -> float:
    """Events a second that the log alone takes."""
    batches = list(event_batches(dice, size))
    start = time.perf_counter()
    for batch in batches:
        log.append(batch, NOW)
    return size.num_batches * size.batch_events / (time.perf_counter() - start)


def applied_rate(feedback: Feedback, dice: np.random.Generator, size: Size) -> float:
    """Events a second that are logged and applied."""
    batches = list(event_batches(dice, size))
    start = time.perf_counter()
    for batch in batches:
        feedback.write(batch, (), NOW).result()
    return size.num_batches * size.batch_events / (time.perf_counter() - start)


def event_batches(dice: np.random.Generator, size: Size) -> Iterator[list[Event]]:
    """Batches of events of random users."""
    for _ in range(size.num_batches):
        yield events(dice, dice.integers(size.num_users, size=size.batch_events).tolist())


def watch(url: str, key: bytes, seen: Connection) -> None:
    """Another worker: say when the user's state has changed, each time."""
    store = open_store(url)
    before = store.get_many([key])
    seen.send(0)
    while True:
        now = store.get_many([key])
        if now != before:
            seen.send(time.monotonic_ns())
            before = now


def effect_times(
    url: str, feedback: Feedback, dice: np.random.Generator, num_effects: int
) -> NDArray[np.float64]:
    """Milliseconds from handing in an event until another process reads its effect."""
    here, there = SPAWN.Pipe(duplex=False)
    watcher = SPAWN.Process(target=watch, args=(url, state_keys([0])[0], there), daemon=True)
    watcher.start()
    here.recv()
    times = np.empty(num_effects)
    for i in range(num_effects):
        (event,) = events(dice, [0])
        start = time.monotonic_ns()
        feedback.write([event], (), NOW)
        times[i] = (here.recv() - start) / 1e6
    watcher.kill()
    watcher.join()
    return times


def report(name: str, url: str, directory: Path, size: Size, must_reach: bool) -> None:
    """Print the line of one store; ends with 1 when it misses a floor that it must reach."""
    line: dict[str, object] = {"store": name}
    try:
        figures = measure(name, url, directory, size)
        line |= figures | {"missed": missed(name, figures)}
    except StoreUnavailableError as error:
        line["unavailable"] = str(error)
    print(json.dumps(line), flush=True)
    sys.exit(bool(must_reach and line.get("missed")))


def missed(name: str, figures: dict[str, float]) -> list[str]:
    """The figures of a store that are beyond its floors."""
    high = [key for key, limit in AT_MOST.get(name, {}).items() if figures[key] > limit]
    return high + [key for key, limit in AT_LEAST.get(name, {}).items() if figures[key] < limit]


def measure(name: str, url: str, directory: Path, size: Size) -> dict[str, float]:
    """The figures of one store. Raises StoreUnavailableError when its server is away."""
    dice = np.random.default_rng(1)
    with opened(url, size.num_users) as store:
        figures: dict[str, float] = {}
        figures["state_kb"] = round(fill(store, dice, size.num_users), 1)
        times = read_times(store, item_rows(directory, dice), dice, size)
        figures |= percentiles("get_us", times)
        with closing(EventLog(directory / f"log-{name}", 0)) as log:
            figures["events_per_s"] = round(durable_rate(log, dice, size))
            log.mark_applied(log.last_sequence)
            with closing(Feedback(log, store)) as feedback:
                figures["applied_events_per_s"] = round(applied_rate(feedback, dice, size))
                if name != "memory":
                    effects = effect_times(url, feedback, dice, size.num_effects)
                    figures |= percentiles("event_to_effect_ms", effects)
        load_average = round(os.getloadavg()[0], 1)
        return figures | {"rss_mb": peak_memory_mb(), "load_average": load_average}


@contextmanager
def opened(url: str, num_users: int) -> Iterator[OnlineStore]:
    """The store, and none of our states in it afterwards."""
    store = open_store(url)
    try:
        yield store
    finally:
        for first in range(0, num_users, 1_000):
            keys = state_keys(range(first, min(first + 1_000, num_users)))
            store.update_many(keys, lambda values: [None] * len(values))
        store.close()


def percentiles(name: str, times: NDArray[np.float64]) -> dict[str, float]:
    """The median and the 99th percentile, named."""
    p50, p99 = np.percentile(times, (50, 99))
    return {f"{name}_p50": round(float(p50), 2), f"{name}_p99": round(float(p99), 2)}


def peak_memory_mb() -> int:
    """The largest resident set of this process; getrusage would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return round(int(kilobytes) / 1_024)


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("var"), help="on the disk to measure"
    )
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", help="Redis or Valkey")
    parser.add_argument("--users", type=int, default=10_000, help="states in the store")
    parser.add_argument("--reads", type=int, default=10_000, help="requests measured")
    parser.add_argument("--batches", type=int, default=100, help="batches of 1,000 events")
    parser.add_argument("--effects", type=int, default=500, help="single events measured")
    parser.add_argument("--floors", action="store_true", help="fail when a floor is missed")
    return parser.parse_args()


def main() -> int:
    """Measure each store in a process of its own; 1 when one of them failed."""
    args = options()
    size = Size(args.users, args.reads, args.batches, 1_000, args.effects)
    args.directory.mkdir(parents=True, exist_ok=True)
    exit_codes = []
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-store-") as folder:
        namespace = f"aisle-bench-{uuid.uuid4().hex}:"
        urls = {
            "memory": "memory:",
            "lmdb": f"lmdb:{folder}/lmdb",
            "redis": f"{args.redis}?namespace={namespace}",
        }
        for name, url in urls.items():
            process = SPAWN.Process(
                target=report, args=(name, url, Path(folder), size, args.floors)
            )
            process.start()
            process.join()
            exit_codes.append(process.exitcode)
    return int(any(exit_codes))


if __name__ == "__main__":
    sys.exit(main())
