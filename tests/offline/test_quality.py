"""Quality: what is usual passes; what is missing, out of range or shifted is named and fails."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from offline.__main__ import main
from offline.errors import QualityError
from offline.ingest.tables import day_files, days
from offline.quality import REPORT_FILE, Status, check, inspect, psi, require_quality
from tests.offline.shops import ingest, usual_tables, write_csv
from tests.worlds import HORIZON_TIME, draw_purchases

WEEK = 7 * 86_400_000_000


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return usual_tables(tmp_path)


def change_last_week(tables: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    for day in list(days(tables))[-7:]:
        for path in day_files(tables, day):
            change(pl.read_parquet(path, hive_partitioning=False)).write_parquet(path)


def broken(tables: Path) -> set[str]:
    return {finding.name for finding in inspect(tables).of(Status.BROKEN)}


def test_a_usual_week_passes(tables: Path) -> None:
    report = require_quality(tables)
    assert report.num_new > 0
    assert not report.of(Status.BROKEN)
    assert not [one for one in report.of(Status.WARNING) if one.name.startswith("drift")]


def test_prices_that_are_gone_are_named(tables: Path) -> None:
    change_last_week(tables, lambda rows: rows.with_columns(price=pl.lit(None, pl.Float32)))
    assert "purchases without a price" in broken(tables)
    with pytest.raises(QualityError, match=r"purchases without a price 0.99\d* > 0\.5"):
        require_quality(tables)


def test_prices_in_cents_are_a_shift(tables: Path) -> None:
    change_last_week(tables, lambda rows: rows.with_columns(pl.col("price") * 100))
    assert "drift of price, doubling" in broken(tables)


def test_times_in_another_zone_are_a_shift(tables: Path) -> None:
    change_last_week(tables, lambda rows: rows.with_columns(pl.col("event_time").dt.truncate("1d")))
    assert "drift of hour" in broken(tables)


def test_items_that_no_product_explains_are_named(tables: Path) -> None:
    change_last_week(tables, lambda rows: rows.with_columns(item="x" + pl.col("item")))
    assert "items without a product" in broken(tables)


def test_a_week_that_was_cut_short_is_named(tmp_path: Path) -> None:
    kept = [one for n, one in enumerate(draw_purchases())
            if one.time < HORIZON_TIME - WEEK or n % 20 == 0]  # fmt: skip
    write_csv(tmp_path / "csv", kept)
    report = inspect(ingest(tmp_path / "csv", tmp_path / "home"), HORIZON_TIME)
    assert "times the rows a day" in {one.name for one in report.of(Status.BROKEN)}


def test_the_command_writes_a_report_and_fails(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quality", "--home", str(tables.parent)]
    assert main(words) == 0
    change_last_week(tables, lambda rows: rows.with_columns(quantity=pl.lit(0.0, pl.Float32)))
    assert main(words) == 6
    report = json.loads((tables.parent / "quality.json").read_bytes())
    (finding,) = [one for one in report["findings"] if one["name"] == "purchases of quantity 0"]
    assert finding["status"] == "broken"
    assert "purchases of quantity 0" in capsys.readouterr().out


def test_the_index_is_the_formulas() -> None:
    new, before = np.array([500_000.0, 500_000.0]), np.array([800_000.0, 200_000.0])
    naive = (0.5 - 0.8) * np.log(0.5 / 0.8) + (0.5 - 0.2) * np.log(0.5 / 0.2)
    assert psi(new, before) == pytest.approx(naive, abs=1e-4)
    assert psi(new, new) == 0


def test_chance_is_no_drift() -> None:
    dice = np.random.default_rng(0)
    shares = np.full(20, 0.05)
    draws = [[dice.multinomial(n, shares).astype(np.float64) for n in (60, 600)] for _ in range(50)]
    assert np.mean([psi(*pair) > 0.25 for pair in draws]) < 0.1


def test_ingest_keeps_what_it_stored_and_says_what_is_broken(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_last_week(tables, lambda rows: rows.with_columns(price=pl.lit(None, pl.Float32)))
    console = Console(width=200)
    assert check(tables, console) == QualityError.exit_code
    assert "purchases without a price is" in capsys.readouterr().out
    report = json.loads((tables / REPORT_FILE).read_text())
    assert {one["name"] for one in report["findings"] if one["status"] == "broken"}


def test_a_store_is_not_brought_up_to_broken_tables(tables: Path, tmp_path: Path) -> None:
    change_last_week(tables, lambda rows: rows.with_columns(price=pl.lit(None, pl.Float32)))
    command = ["materialize", "--tables", str(tables), "--home", str(tmp_path / "home")]
    assert main(command) == QualityError.exit_code
    assert not (tmp_path / "home" / "store").exists()
    assert main([*command, "--ignore-quality"]) == 0
