"""A folder to ingest into, and one call that writes rows to a file and ingests them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_store.ids import Pseudonymizer
from offline.ingest.files import find_sources
from offline.ingest.job import IngestJob, Limits, ingest
from offline.ingest.mapping import parse_mapping
from offline.ingest.summary import Summary
from offline.ingest.tables import scan_events

KEY = b"a key that only the tests know"
ALL = Limits(max_quarantined=1.0)

Row = Mapping[str, object]


@dataclass(frozen=True)
class Shop:
    """Tables below `folder`; each call of `ingest` writes its rows to a file of that name."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, name: str, rows: Sequence[Row]) -> Path:
        path = self.folder / name
        frame = pl.DataFrame(list(rows), infer_schema_length=None)
        frame.write_csv(path) if name.endswith("csv") else frame.write_parquet(path)
        return path

    def ingest(
        self,
        rows: Sequence[Row],
        *,
        table: str = "events",
        name: str = "rows.csv",
        mapping: Mapping[str, Any] | None = None,
        limits: Limits = ALL,
    ) -> Summary:
        return self.ingest_file(self.write(name, rows), table, mapping, limits)

    def ingest_file(
        self,
        path: Path,
        table: str = "events",
        mapping: Mapping[str, Any] | None = None,
        limits: Limits = ALL,
    ) -> Summary:
        read = parse_mapping(mapping or {})
        job = IngestJob({table: find_sources(str(path), read.csv)}, self.out, read, limits)
        return ingest(job, Pseudonymizer(KEY))

    def events(self) -> pl.DataFrame:
        return scan_events(self.out).collect()

    def quarantine(self, table: str = "events") -> pl.DataFrame:
        return pl.read_parquet(self.out / "quarantine" / f"{table}.parquet")

    def files(self) -> dict[str, bytes]:
        """The content of every file of the tables, by its path."""
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for path in sorted(self.out.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def purchase() -> Callable[..., dict[str, object]]:
    """Makes a good row; what is given replaces its values."""

    def make(**changed: object) -> dict[str, object]:
        row: dict[str, object] = {
            "event_time": "2026-03-01 10:00:00",
            "user": "anna",
            "kind": "purchase",
            "item": "kettle",
        }
        return {**row, **changed}

    return make
