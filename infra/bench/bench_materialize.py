"""How long the online store takes to fill, and how much memory: one line of JSON.

Events of users and items with Zipf's popularity are written as canonical Parquet tables, day by
day; a process of its own makes all states of them into LMDB through `offline.increments`, as
`python -m offline materialize --full` does.

    num_events, num_items    what was made
    num_users                users who did something, each with a state in the store
    seconds, rows_per_s      from tables to states in the store
    peak_rss_mb              the largest resident set of that process, its maps of files included
    store_mb                 what the store takes on the disk
    load_average             of the machine at the end: above its cores, others ran too
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.schema import EVENTS, MICROSECONDS_PER_DAY, EventKind
from feature_store.store import open_store
from offline.increments import Site, bring_up
from offline.ingest.tables import TIME, day_folder, polars_schema
from offline.progress import Progress

SPAWN: Final = multiprocessing.get_context("spawn")
FIRST_DAY: Final = date(2025, 1, 1)
KINDS: Final = (EventKind.VIEW, EventKind.PURCHASE, EventKind.CART_ADD, EventKind.IMPRESSION)
KIND_SHARES: Final = (0.45, 0.25, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made. The exponents are Zipf's."""

    num_events: int
    num_users: int
    num_items: int
    num_days: int
    user_exponent: float = 0.8
    item_exponent: float = 1.0


class Zipf:
    """Draws numbers below `num`, the n-th with a probability that falls as 1 / n^exponent."""

    def __init__(self, num: int, exponent: float) -> None:
        weights = np.cumsum(np.arange(1, num + 1, dtype=np.float64) ** -exponent)
        self._cumulated = weights / weights[-1]

    def draw(self, dice: np.random.Generator, size: int) -> NDArray[np.int64]:
        """`size` numbers."""
        return np.searchsorted(self._cumulated, dice.random(size)).astype(np.int64)


def write_tables(tables: Path, size: Size, progress: Progress) -> None:
    """Days of events in the canonical layout, each day sorted by time."""
    dice = np.random.default_rng(7)
    users = Zipf(size.num_users, size.user_exponent), pseudonyms(dice, size.num_users)
    items = Zipf(size.num_items, size.item_exponent), item_ids(size.num_items)
    per_day = -(-size.num_events // size.num_days)
    with progress.task("Making events", size.num_events) as advance:
        for number in range(size.num_days):
            day = FIRST_DAY + timedelta(days=number)
            num = min(per_day, size.num_events - number * per_day)
            path = day_folder(tables, day) / "hours-00-24.parquet"
            path.parent.mkdir(parents=True)
            columns = {
                "event_id": pl.Series(np.arange(num) + number * per_day).cast(pl.String),
                "event_time": times(dice, day, num),
                "user": users[1].gather(users[0].draw(dice, num)),
                "kind": pl.Series([kind.value for kind in KINDS]).gather(
                    dice.choice(len(KINDS), num, p=KIND_SHARES)
                ),
                "item": items[1].gather(items[0].draw(dice, num)),
                "quantity": pl.Series(np.ones(num, np.float32)),
                "price": pl.Series(dice.random(num, np.float32) * 50),
            }
            schema = polars_schema(EVENTS)
            absent = [pl.lit(None, schema[n]).alias(n) for n in schema if n not in columns]
            rows = pl.DataFrame(columns).with_columns(absent).select(schema.names())
            rows.write_parquet(path, compression="lz4")
            advance(num)


def pseudonyms(dice: np.random.Generator, num: int) -> pl.Series:
    """Random digests in hexadecimal."""
    digests = dice.bytes(32 * num)
    binary = pl.Series([digests[i : i + 32] for i in range(0, len(digests), 32)], dtype=pl.Binary)
    return binary.bin.encode("hex")


def item_ids(num: int) -> pl.Series:
    """Names of items."""
    return pl.select("item-" + pl.int_range(num).cast(pl.String)).to_series()


def times(dice: np.random.Generator, day: date, num: int) -> pl.Series:
    """Instants of a day, in order."""
    start = (day - date(1970, 1, 1)).days * MICROSECONDS_PER_DAY
    return pl.Series(start + np.sort(dice.integers(MICROSECONDS_PER_DAY, size=num))).cast(TIME)


def measure(folder: Path, answer: Connection) -> None:
    """Fill a store from the tables of a folder, in a process that has done nothing else."""
    started_s = time.perf_counter()
    with closing(open_store(f"lmdb:{folder / 'store'}")) as store:
        site = Site(store, folder / "tables", folder / "event_log", folder / "work")
        (done,) = bring_up(site, time.time_ns() // 1_000, Progress(), full=True)
    seconds = time.perf_counter() - started_s
    store_bytes = sum(path.stat().st_size for path in (folder / "store").iterdir())
    answer.send(
        {
            "num_users": done.num_users,
            "seconds": round(seconds, 1),
            "rows_per_s": round(done.num_events / seconds),
            "peak_rss_mb": peak_memory_mb(),
            "store_mb": round(store_bytes / 1e6),
            "load_average": round(os.getloadavg()[0], 1),
        }
    )


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
    parser.add_argument("--events", type=int, default=10_000_000, help="default: %(default)s")
    parser.add_argument("--users", type=int, help="default: one for 18 events")
    parser.add_argument("--items", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--days", type=int, default=365, help="default: %(default)s")
    parser.add_argument("--directory", type=Path, default=Path("var"), help="on the disk to use")
    return parser.parse_args()


def main() -> int:
    """Make, measure, print; 1 when the measured process failed."""
    args = options()
    size = Size(args.events, args.users or args.events // 18, args.items, args.days)
    args.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="bench-materialize-") as name:
        write_tables(Path(name) / "tables", size, Progress())
        here, there = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=measure, args=(Path(name), there))
        process.start()
        there.close()
        try:
            figures = here.recv()
        except EOFError:
            return 1
        process.join()
        print(json.dumps(asdict(size) | figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
