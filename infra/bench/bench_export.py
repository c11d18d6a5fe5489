"""`make bench-export`: a campaign's export over a shop of a million products, as JSON lines.

The whole command is measured: plan, answers, reasons, Parquet, CSV, JSON Lines, preview, manifest;
and the steady rate too, from the first parts that were written to the last, which is what remains
of it the more people there are. The bundle has a ranker of the usual size.
Beside it, in the same run, the bare search of the same users' vectors in the same index, in
batches, with nothing around it; `ratio` is the search's CPU time over the export's, a user. On a
machine with other work, CPU time is what says something: `users_per_cpu_s` is of one core.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from feature_store.bundle import open_bundle
from infra.bench.bench_retrieval import LIMIT, index_of
from infra.bench.processes import family
from infra.bench.ranked import ranked_bundle
from infra.bench.shop import Shop, add_arguments, from_arguments, user_id
from infra.bench.user_vectors import user_vectors
from offline.campaigns.campaign import Audience, Campaign, MailCap, Slots
from offline.campaigns.exporting import Job, export_campaign
from offline.home import Home
from offline.progress import Progress
from online.snapshot import Snapshot, open_snapshot

SEARCH_BATCH: Final = 256
NUM_VECTORS: Final = 2_000
LOOK_S: Final = 2.0
MIB: Final = 1 << 20


@dataclass(slots=True)
class Memory:
    """The most that the processes had at a time, in bytes.

    `shared` divides a page that several of them have mapped among them, `resident` counts it for
    each.
    """

    shared: int = 0
    resident: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look at this process and all that it started, until told to stop."""
        while not self._is_over.wait(LOOK_S):
            pss, rss = zip(*(_memory(pid) for pid in family(os.getpid())), strict=True)
            self.shared = max(self.shared, sum(pss))
            self.resident = max(self.resident, sum(rss))

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()


def _memory(pid: int) -> tuple[int, int]:
    """Proportional and resident bytes of a process; zeros for one that has ended."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {row.split(":")[0]: row.split() for row in rows[1:]}
    return int(found["Pss"][1]) * 1024, int(found["Rss"][1]) * 1024


@contextmanager
def watched() -> Iterator[Memory]:
    """What this process and its children use meanwhile."""
    memory = Memory()
    thread = threading.Thread(target=memory.watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.stop()
        thread.join()


def measure(
    shop: Shop, out: Path, workers: int, num_people: int | None = None, *, is_plain: bool = False
) -> dict[str, Any]:
    """The figures of one export, of all users of the shop or of the first `num_people`.

    `is_plain`: without the ranker.
    """
    job = Job(
        campaign=_campaign(shop, out, num_people),
        home=Home(shop.home, f"lmdb:{shop.home / 'store'}", None),
        bundle=shop.bundle if is_plain else ranked_bundle(shop),
        out=out / "export",
        workers=workers,
    )
    started_s, cpu_s = perf_counter(), _cpu_seconds()
    with watched() as memory:
        manifest = export_campaign(job, Progress())
    wall_s, cpu_s = perf_counter() - started_s, _cpu_seconds() - cpu_s
    num_users = manifest["num_users"]
    snapshot = open_snapshot(open_bundle(job.bundle, verify=False))
    vectors = user_vectors(shop, snapshot.bundle, min(NUM_VECTORS, shop.num_users))
    with threadpool_limits(1):
        recall, search_us = search(snapshot, vectors)
    return {
        "users_per_s": round(num_users / wall_s, 1),
        "steady_users_per_s": round(steady_rate(job), 1),
        "users_per_cpu_s": round(num_users / cpu_s, 1),
        "cpu_us_per_user": round(1e6 * cpu_s / num_users, 1),
        "search_us_per_user": round(search_us, 1),
        "ratio": round(search_us / (1e6 * cpu_s / num_users), 4),
        "recall_at_200": round(recall, 4),
        "peak_rss_mb": round(memory.shared / MIB),
        "peak_resident_sum_mb": round(memory.resident / MIB),
        "num_users": num_users,
        "num_items": shop.num_items,
        "is_ranked": "ranker.onnx" in snapshot.bundle.manifest.files,
        "workers": workers,
        "load_average": round(os.getloadavg()[0], 1),
    }


def steady_rate(job: Job) -> float:
    """People a second from when each process had written two parts to the last part; 0 for few."""
    notes = sorted(job.folder.path.glob("part-*.json"), key=lambda note: note.stat().st_mtime)
    num_first = 2 * max(1, job.workers)
    rest = notes[num_first:]
    if not rest:
        return 0.0
    num_people = sum(json.loads(note.read_bytes())["num_mails"] for note in rest)
    return float(num_people / (rest[-1].stat().st_mtime - notes[num_first - 1].stat().st_mtime))


def search(snapshot: Snapshot, vectors: np.typing.NDArray[np.float32]) -> tuple[float, float]:
    """Recall of the served index against all vectors, and its CPU microseconds in batches."""
    served = index_of(snapshot, "als")
    started_s = process_time()
    found = [
        served.index.search(vectors[first : first + SEARCH_BATCH], LIMIT)[1]
        for first in range(0, len(vectors), SEARCH_BATCH)
    ]
    search_us = 1e6 * (process_time() - started_s) / len(vectors)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(np.ascontiguousarray(served.vectors[: len(snapshot.catalog)]))
    some = vectors[:SEARCH_BATCH]
    right = flat.search(some, LIMIT)[1]
    pairs = zip(np.concatenate(found)[: len(some)].tolist(), right.tolist(), strict=True)
    hits = [len(set(ours) & set(theirs)) for ours, theirs in pairs]
    return float(np.mean(hits)) / min(LIMIT, len(snapshot.catalog)), search_us


def _campaign(shop: Shop, out: Path, num_people: int | None) -> Campaign:
    """A mail of four products for everybody, raw ids and all."""
    numbers = range(shop.num_users if num_people is None else num_people)
    people = out / "people.csv"
    people.write_text("user,name\n" + "".join(f"{user_id(n)},Name {n}\n" for n in numbers))
    return Campaign(
        campaign="bench",
        subject="{name}, {num_products} things for you",
        audience=Audience(file=people),
        slots=Slots(products=4),
        caps=(MailCap(mails=2, days=7),),
    )


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in times)


def main() -> int:
    """Build the shop if needed, export, print a line for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.set_defaults(users=1_000_000)
    parser.add_argument("--people", type=int, help="only so many of the shop's users")
    parser.add_argument("--plain", action="store_true", help="without a ranker")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    shop = from_arguments(args)
    out = shop.home / "campaign"
    for _ in range(args.rounds):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        row = measure(shop, out, args.workers, args.people, is_plain=args.plain)
        print(json.dumps(row), flush=True)
    shutil.rmtree(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
