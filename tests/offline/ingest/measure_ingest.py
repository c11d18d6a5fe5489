"""Measures one ingestion of generated events in a process of its own; prints one JSON line.

    python tests/offline/ingest/measure_ingest.py --num-events 10000000 --format parquet

Events are Zipf distributed over users and items, spread over the days, and in no order of
time, which is the worst case for storing them by day. The process that ingests does nothing
else, so that its peak memory is the ingestion's.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[3]
ROWS_PER_FILE = 1_000_000
FIRST_TIME = 1_735_689_600_000_000  # 2025-01-01
MICROSECONDS_PER_DAY = 86_400_000_000


def generate(folder: Path, file_format: str, num_events: int, num_days: int, seed: int) -> None:
    """Write events with canonical column names, a million to a file."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    num_users, num_items = max(100, num_events // 20), max(100, num_events // 100)
    for first in range(0, num_events, ROWS_PER_FILE):
        rows = min(ROWS_PER_FILE, num_events - first)
        times = FIRST_TIME + random.integers(0, num_days * MICROSECONDS_PER_DAY, rows)
        frame = pl.DataFrame(
            {
                "event_time": pl.Series(times).cast(pl.Datetime("us")),
                "user": _zipf(random, num_users, rows),
                "item": _zipf(random, num_items, rows),
                "kind": random.choice(["view", "cart_add", "purchase"], rows),
                "quantity": random.integers(1, 4, rows),
                "price": random.integers(50, 9_999, rows) / 100,
                "basket": random.integers(0, num_events // 3 + 1, rows),
            }
        )
        path = folder / f"events-{first // ROWS_PER_FILE:05}.{file_format}"
        if file_format == "csv":
            frame.write_csv(path, datetime_format="%Y-%m-%d %H:%M:%S%.f")
        else:
            frame.write_parquet(path)


def measure(
    source: Path, out: Path, batch_rows: int = 500_000, span_rows: int = 2_000_000
) -> dict[str, float]:
    """Ingest in a process of its own; seconds, rows a second, and peak memory in MB."""
    limits = ["--batch-rows", str(batch_rows), "--span-rows", str(span_rows)]
    command = [sys.executable, __file__, "--ingest", str(source), "--out", str(out), *limits]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(done.stdout))


def ingest_here(source: Path, out: Path, batch_rows: int, span_rows: int) -> dict[str, float]:
    """Ingest in this process and look at its peak memory."""
    sys.path[:0] = [str(ROOT), str(ROOT / "proto")]
    from feature_store.ids import Pseudonymizer
    from offline.ingest.files import find_sources
    from offline.ingest.job import IngestJob, Limits, ingest
    from offline.ingest.mapping import CsvFormat

    limits = Limits(batch_rows=batch_rows, span_rows=span_rows)
    job = IngestJob({"events": find_sources(str(source), CsvFormat())}, out, limits=limits)
    start = time.perf_counter()
    count = ingest(job, Pseudonymizer(b"measure-measure-")).table("events")
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "num_events": count.num_read,
        "num_accepted": count.num_accepted,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "events_per_s": round(count.num_read / seconds),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def _zipf(random: np.random.Generator, size: int, rows: int) -> pl.Series:
    ranks = np.minimum(size * random.random(rows) ** 3, size - 1).astype(np.int64)
    return pl.Series(ranks).cast(pl.String)


def main() -> None:
    """Parse the command line; generate and measure, or ingest here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-events", type=int, default=1_000_000)
    parser.add_argument("--num-days", type=int, default=90)
    parser.add_argument("--format", choices=["csv", "parquet"], default="parquet")
    parser.add_argument("--batch-rows", type=int, default=500_000)
    parser.add_argument("--span-rows", type=int, default=2_000_000)
    parser.add_argument("--ingest", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ingest:
        print(json.dumps(ingest_here(args.ingest, args.out, args.batch_rows, args.span_rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        generate(source, args.format, args.num_events, args.num_days, seed=1)
        measured = measure(source, Path(folder, "out"), args.batch_rows, args.span_rows)
    print(json.dumps({"format": args.format, **measured}))


if __name__ == "__main__":
    main()
