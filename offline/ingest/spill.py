"""The first pass: sources are read in batches, judged, and set down on disk in parts.

What is accepted is pseudonymised before it touches the disk, and so are the ids in what is
rejected. Memory is bounded by one batch, whatever the size of the sources.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.ids import Pseudonymizer
from feature_store.schema import EVENTS, Table
from feature_store.tombstones import Tombstones
from offline.errors import SourceError
from offline.ingest.columns import given_columns
from offline.ingest.erased import without_erased
from offline.ingest.files import Source, unreadable
from offline.ingest.identity import pseudonymized
from offline.ingest.mapping import ShopMapping
from offline.ingest.rules import ROW_NUMBER, judge, quarantine_schema
from offline.ingest.tally import Tally

# Small enough for a read of some hours to skip most of a part that is sorted by time.
_ROW_GROUP_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Spill:
    """The parts of one table on disk, in the order of the input, and what was counted."""

    table: Table
    accepted: list[Path]
    rejected: list[Path]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Spiller:
    """Reads sources of one shop into parts below `folder`, `batch_rows` rows at a time."""

    folder: Path
    mapping: ShopMapping
    pseudonymizer: Pseudonymizer | None
    batch_rows: int
    tombstones: Tombstones | None = None

    def check(self, table: Table, sources: Sequence[Source]) -> None:
        """Open every source; SourceError when it is damaged, MappingError for lack of a column."""
        for source in sources:
            _given(table, self.mapping, source)

    def spill(
        self, table: Table, sources: Sequence[Source], advance: Callable[[int], None]
    ) -> Spill:
        """Read all sources of a table; `advance` is told the rows done.

        Raises SourceError when a source is damaged or when there is no row in any of them.
        """
        spill = Spill(table, [], [], Tally())
        for source in sources:
            for accepted, rejected in self._judged(table, source, advance):
                self._write(spill, accepted, rejected)
                spill.tally.add(accepted, rejected)
        if not spill.tally.num_read:
            raise SourceError(f"{', '.join(s.name for s in sources)}: there is no row to read")
        return spill

    def _judged(
        self, table: Table, source: Source, advance: Callable[[int], None]
    ) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        num_done = 0
        place = {"source": pl.lit(source.name), "fingerprint": pl.lit(source.fingerprint)}
        quarantine_columns = quarantine_schema(table).names()
        for batch in _batches(table, self.mapping, source, self.batch_rows):
            numbers = pl.int_range(num_done + 1, num_done + len(batch) + 1, dtype=pl.Int64)
            judged = judge(table, self.mapping, batch.with_columns(numbers.alias(ROW_NUMBER)))
            judged = without_erased(table, judged, self.tombstones)
            rejected = judged.rejected.with_columns(**place).select(quarantine_columns)
            yield (
                pseudonymized(judged.accepted, self.pseudonymizer),
                pseudonymized(rejected, self.pseudonymizer),
            )
            num_done += len(batch)
            advance(len(batch))
        advance(source.num_rows - num_done)

    def _write(self, spill: Spill, accepted: pl.DataFrame, rejected: pl.DataFrame) -> None:
        if spill.table is EVENTS:
            accepted = accepted.sort("event_time", maintain_order=True)
        for parts, frame, name in (
            (spill.accepted, accepted, "accepted"),
            (spill.rejected, rejected, "rejected"),
        ):
            if len(frame):
                path = self.folder / f"{spill.table.name}-{name}-{len(parts):06}.parquet"
                frame.write_parquet(path, compression="lz4", row_group_size=_ROW_GROUP_ROWS)
                parts.append(path)


def _batches(
    table: Table, mapping: ShopMapping, source: Source, batch_rows: int
) -> Iterator[pl.DataFrame]:
    """The given columns of a source, at most `batch_rows` rows at a time, in order."""
    given = _given(table, mapping, source)
    with _readable(source):
        for batch in given.collect_batches(chunk_size=batch_rows, maintain_order=True):
            yield from batch.iter_slices(batch_rows)


def _given(table: Table, mapping: ShopMapping, source: Source) -> pl.LazyFrame:
    with _readable(source):
        schema = source.frame.collect_schema()
    return source.frame.select(given_columns(table, mapping, schema, source.name))


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    """Turns what Polars says of damaged data into a SourceError."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unreadable(source.name, error, source.delimiter) from None
