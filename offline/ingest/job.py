"""One ingestion from sources to published tables, top to bottom.

Everything is made in a hidden folder beside the tables and moved into place at the end, each
file whole or not at all. An ingestion that fails, or that finds too many bad rows, leaves the
tables as they were; one that is killed while publishing is repaired by running it again.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.ids import Pseudonymizer
from feature_store.schema import EVENTS, TABLES, Table
from feature_store.tombstones import Tombstones
from offline.errors import QuarantineLimitError, TablesInUseError
from offline.ingest.days import MergedDays, merge_days, publish_days
from offline.ingest.files import Source
from offline.ingest.keyed import MergedTable, merge_table, publish_quarantine, quarantine_path
from offline.ingest.mapping import ShopMapping
from offline.ingest.spill import Spill, Spiller
from offline.ingest.summary import Summary, TableCount
from offline.ingest.tables import SUMMARY_FILE, scan_events, table_path
from offline.progress import QUIET, Progress

MAX_QUARANTINED: Final = 0.05

_STAGING_FOLDER: Final = ".staging"
_LOCK_FILE: Final = ".lock"


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_quarantined`: the share of bad rows, 0 to 1, above which a table is refused.

    Memory grows with `batch_rows`, read and judged at once, and `span_rows`, merged and
    sorted at once; a single hour with more events than that is still merged in one go.
    """

    max_quarantined: float = MAX_QUARANTINED
    batch_rows: int = 500_000
    span_rows: int = 2_000_000


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What to read, by table name, how its columns are named, and the folder to write to."""

    sources: Mapping[str, Sequence[Source]]
    out: Path
    mapping: ShopMapping = field(default_factory=ShopMapping)
    limits: Limits = field(default_factory=Limits)


def ingest(
    job: IngestJob,
    pseudonymizer: Pseudonymizer | None,
    progress: Progress = QUIET,
    report: Callable[[Summary], None] = lambda summary: None,
    tombstones: Tombstones | None = None,
) -> Summary:
    """Read, judge, merge and publish; the same input again gives the same files.

    `pseudonymizer` is None when the sources hold pseudonyms already, as the server's event log
    does. Rows of who is in `tombstones` are counted as rejected, and not kept. `report` gets the
    summary before anything is published. Raises SourceError or MappingError
    when the input is not what it claims, QuarantineLimitError when too many rows are bad and
    TablesInUseError when another ingestion writes to the same folder.
    """
    with staging(job.out) as folder:
        spiller = Spiller(folder, job.mapping, pseudonymizer, job.limits.batch_rows, tombstones)
        for name, sources in job.sources.items():
            spiller.check(TABLES[name], sources)
        spills = [
            _spill(spiller, TABLES[name], sources, progress)
            for name, sources in job.sources.items()
        ]
        merges = [_merge(job, spill, folder, progress) for spill in spills]
        counts = [_count(job.out, s, m) for s, m in zip(spills, merges, strict=True)]
        summary = Summary(tuple(counts), job.limits.max_quarantined)
        for spill in spills:
            sources = job.sources[spill.table.name]
            publish_quarantine(job.out, spill.table, sources, spill.rejected, folder)
        _write_summary(job.out, summary, folder)
        report(summary)
        _require_within_limit(job.out, summary)
        for merged, spill in zip(merges, spills, strict=True):
            _publish(job.out, spill.table, merged)
        return summary


def _spill(spiller: Spiller, table: Table, sources: Sequence[Source], progress: Progress) -> Spill:
    total = sum(source.num_rows for source in sources)
    with progress.task(f"reading {table.name}", total) as advance:
        return spiller.spill(table, sources, advance)


def _merge(
    job: IngestJob, spill: Spill, folder: Path, progress: Progress
) -> MergedDays | MergedTable:
    with progress.task(f"storing {spill.table.name}", spill.tally.num_valid) as advance:
        if spill.table is not EVENTS:
            merged = merge_table(job.out, spill.table, spill.accepted, folder)
            advance(spill.tally.num_valid)
            return merged
        hours, rows = spill.tally.hours, job.limits.span_rows
        return merge_days(job.out, spill.accepted, hours, folder, rows, advance)


def _count(root: Path, spill: Spill, merged: MergedDays | MergedTable) -> TableCount:
    tally = spill.tally
    if isinstance(merged, MergedDays):
        num_new = sum(merged.num_new.values())
        num_stored = _num_events(root) + num_new
    else:
        num_new, num_stored = merged.num_new, merged.num_stored
    return TableCount(
        table=spill.table.name,
        num_read=tally.num_read,
        num_accepted=merged.num_distinct,
        num_duplicates=tally.num_valid - merged.num_distinct,
        quarantined=tally.quarantined,
        num_new=num_new,
        num_stored=num_stored,
        num_users=tally.num_distinct("user"),
        num_items=tally.num_distinct("item"),
        first_time=tally.first_time,
        last_time=tally.last_time,
    )


def _num_events(root: Path) -> int:
    if not (root / EVENTS.name).exists():
        return 0
    return int(scan_events(root).select(pl.len()).collect().item())


def _require_within_limit(root: Path, summary: Summary) -> None:
    for count in summary.over_limit:
        raise QuarantineLimitError(
            f"{count.quarantined_share:.1%} of the {count.table} break the schema, more than the "
            f"{summary.max_quarantined:.1%} allowed; nothing was stored; see "
            f"{quarantine_path(root, TABLES[count.table])}, then correct the export or its "
            "mapping, or raise --max-quarantined"
        )


def _publish(root: Path, table: Table, merged: MergedDays | MergedTable) -> None:
    if isinstance(merged, MergedDays):
        publish_days(root, merged)
    else:
        merged.path.replace(table_path(root, table))


def _write_summary(root: Path, summary: Summary, folder: Path) -> None:
    draft = folder / SUMMARY_FILE
    draft.write_text(summary.json(), encoding="utf-8")
    draft.replace(root / SUMMARY_FILE)


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty hidden folder in `root` that no other ingestion uses; gone afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    folder = root / _STAGING_FOLDER
    with (root / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TablesInUseError(
                f"another ingestion is writing to {root}; wait for it, or choose another --out"
            ) from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
