"""Memory is bounded by a batch and a span, not by the number of events."""

import json
from pathlib import Path

import pytest

from tests.offline.ingest.measure_ingest import generate, measure


def peak_mb(folder: Path, num_events: int) -> float:
    generate(folder / "source", "parquet", num_events, num_days=30, seed=num_events)
    measured = measure(folder / "source", folder / "out", batch_rows=25_000, span_rows=25_000)
    assert measured["num_accepted"] == num_events
    return measured["peak_mb"]


def test_eight_times_the_events_need_about_the_same_memory(tmp_path: Path) -> None:
    small, large = (peak_mb(tmp_path / str(n), n) for n in (50_000, 400_000))
    assert large < small + 100, "all at once would take 220 MB more"


@pytest.mark.prove
def test_ten_million_events_in_under_two_gigabytes(tmp_path: Path) -> None:
    generate(tmp_path / "source", "parquet", 10_000_000, num_days=90, seed=1)
    measured = measure(tmp_path / "source", tmp_path / "out")
    print(json.dumps(measured))
    assert measured["peak_mb"] < 2_000
