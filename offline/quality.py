"""Whether the tables are fit to learn from: counts, nulls, ranges, and drift of the newest days.

The newest window is compared with what came before it, the training window. Drift is the
population stability index, PSI = sum((p - q) ln(p / q)) over the shares p and q of each bin
(Siddiqi, Credit Risk Scorecards, 2006); 0.1 is worth a look, 0.25 a shift. Of few events it is
mostly chance, so the part that chance explains is taken off. A value beyond `warning` is told,
one beyond `limit` fails the command with exit code 6: so do ingest, which keeps what it stored,
and materialize and train, which do nothing then.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from feature_store.durable import replace_file
from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY, EventKind
from offline.dataset import time_span
from offline.errors import QualityError, TablesMissingError, TrainingDataError
from offline.home import Home
from offline.ingest.tables import scan_events, scan_products

WINDOW_DAYS: Final = 7
TRAINING_DAYS: Final = 180
PRIOR: Final = 0.5
"""Rows added to each bin: one that is empty on one side would make the index infinite."""

REPORT_FILE: Final = "quality.json"


class Status(StrEnum):
    """How a value stands to its limits."""

    GOOD = "good"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Beyond `warning` is told, beyond `limit` is an error; values below are good."""

    warning: float
    limit: float


DRIFT: Final = Bounds(0.25, 1.0)
NULLS: Final = Bounds(0.05, 0.5)
ROWS: Final = Bounds(2.0, 10.0)
"""How many times more rows a day than before, or fewer."""
OUT_OF_RANGE: Final = Bounds(0.001, 0.01)
UNKNOWN: Final = Bounds(0.05, 0.5)


@dataclass(frozen=True, slots=True)
class Finding:
    """One value and its bounds."""

    name: str
    value: float
    bounds: Bounds

    @property
    def status(self) -> Status:
        """How the value stands to its bounds."""
        if self.value > self.bounds.limit:
            return Status.BROKEN
        return Status.WARNING if self.value > self.bounds.warning else Status.GOOD


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, and the counts that they come from."""

    num_new: int
    num_before: int
    findings: tuple[Finding, ...]

    def of(self, status: Status) -> list[Finding]:
        """The findings of a status."""
        return [finding for finding in self.findings if finding.status is status]

    def to_json(self) -> bytes:
        """The report as a JSON document."""
        rows = [asdict(finding) | {"status": finding.status} for finding in self.findings]
        counts = {"num_new": self.num_new, "num_before": self.num_before}
        return json.dumps(counts | {"findings": rows}, indent=2).encode()


def inspect(tables: Path, end_time: int | None = None, window_days: int = WINDOW_DAYS) -> Report:
    """Look at the events before `end_time` (microseconds UTC, None: all) and the products.

    Raises TrainingDataError when there are no events.
    """
    first_time, last_time = time_span(tables)
    end = end_time or last_time
    cut = end - window_days * MICROSECONDS_PER_DAY
    start = max(first_time, cut - TRAINING_DAYS * MICROSECONDS_PER_DAY)
    new, before = _facts(tables, cut, end), _facts(tables, start, cut)
    days_before = (cut - start) / MICROSECONDS_PER_DAY
    rows = _ratio(new.num_rows / window_days, before.num_rows / max(days_before, 1.0))
    return Report(
        num_new=new.num_rows,
        num_before=before.num_rows,
        findings=(
            Finding("times the rows a day", rows, ROWS),
            *(Finding(name, new.shares[name], bounds) for name, (_, bounds) in SHARES.items()),
            *_drifts(new, before),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is counted of a window: rows, shares of rows, and rows by bin of each column."""

    num_rows: int
    shares: dict[str, float]
    bins: dict[str, pl.DataFrame]


_BOUGHT: Final = pl.col("kind") == EventKind.PURCHASE.value
_PRICE, _QUANTITY = pl.col("price"), pl.col("quantity")
_NUM_BOUGHT: Final = pl.max_horizontal(_BOUGHT.sum(), 1)

SHARES: Final[dict[str, tuple[pl.Expr, Bounds]]] = {
    "events of nobody": (pl.all_horizontal(pl.col("user", "session").is_null()).mean(), NULLS),
    "purchases without a price": ((_PRICE.is_null() & _BOUGHT).sum() / _NUM_BOUGHT, NULLS),
    "purchases of quantity 0": ((_QUANTITY.eq(0) & _BOUGHT).sum() / _NUM_BOUGHT, OUT_OF_RANGE),
    "prices that are none": ((_PRICE.lt(0) | _PRICE.is_nan()).mean(), OUT_OF_RANGE),
    "items without a product": (
        (pl.col("item").is_not_null() & pl.col("department").is_null()).mean(), UNKNOWN
    ),
}  # fmt: skip
"""Shares of rows in the newest window."""

BINS: Final[dict[str, pl.Expr]] = {
    "kind": pl.col("kind"),
    "department": pl.col("department"),
    "weekday": pl.col("event_time").dt.weekday(),
    "hour": pl.col("event_time").dt.hour(),
    "price, doubling": _PRICE.log(2).floor(),
    "quantity, doubling": _QUANTITY.log(2).floor(),
}
"""What may drift, cut into bins."""


def _facts(tables: Path, start: int, end: int) -> _Facts:
    department = pl.col("category").fill_null("").str.split(CATEGORY_SEPARATOR).list.first()
    products = scan_products(tables).select("item", department=department)
    rows = scan_events(tables, start, end).join(products, on="item", how="left")
    shares = rows.select(pl.len(), *(share.alias(name) for name, (share, _) in SHARES.items()))
    bins = [rows.group_by(bin=expression).agg(pl.len()) for expression in BINS.values()]
    counted, *frames = pl.collect_all([shares, *bins], engine="streaming")
    (num_rows, *values) = counted.row(0)
    return _Facts(
        num_rows=num_rows,
        shares={name: float(v or 0.0) for name, v in zip(SHARES, values, strict=True)},
        bins=dict(zip(BINS, frames, strict=True)),
    )


def _drifts(new: _Facts, before: _Facts) -> Iterator[Finding]:
    for name in BINS:
        joined = new.bins[name].join(
            before.bins[name], on="bin", how="full", nulls_equal=True, coalesce=True
        )
        counts = joined.select(pl.col("len", "len_right").fill_null(0)).to_numpy().T
        yield Finding(f"drift of {name}", psi(*counts.astype(np.float64)), DRIFT)


def psi(new: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """The population stability index of two counts by bin, without what chance explains.

    Two samples of one distribution have an index of about (bins - 1) (1/n + 1/m) by chance.
    """
    if not new.sum() or not before.sum():
        return 0.0
    p, q = ((part + PRIOR) / (part + PRIOR).sum() for part in (new, before))
    chance = (len(new) - 1) * (1 / new.sum() + 1 / before.sum())
    return max(0.0, float(((p - q) * np.log(p / q)).sum() - 2 * chance))


def _ratio(new: float, before: float) -> float:
    """How many times more, or fewer; 1 where there was nothing before."""
    if not before:
        return 1.0
    return max(new, before) / max(min(new, before), 1e-9)


def require_quality(tables: Path, end_time: int | None = None) -> Report:
    """The report, when no limit is broken; QualityError naming what is, when one is."""
    report = inspect(tables, end_time)
    if broken := report.of(Status.BROKEN):
        names = ", ".join(f"{one.name} {one.value:.3g} > {one.bounds.limit:g}" for one in broken)
        raise QualityError(
            f"the tables are not fit to learn from: {names}; look at them with "
            "`python -m offline quality`, mend the source, or go on with --ignore-quality"
        )
    return report


def check(tables: Path, console: Console) -> int:
    """Look at tables that were just written: tell what is odd, keep the report beside them.

    Returns the exit code: 6 when a limit is broken. Without events or products there is nothing
    to look at yet.
    """
    try:
        report = inspect(tables)
    except (TablesMissingError, TrainingDataError):
        return 0
    replace_file(tables / REPORT_FILE, report.to_json())
    print_warnings(report, console)
    broken = report.of(Status.BROKEN)
    for one in broken:
        console.print(f"[red]quality:[/] {one.name} is {one.value:.3g}, limit {one.bounds.limit:g}")
    return QualityError.exit_code if broken else 0


def print_report(report: Report, console: Console) -> None:
    """The findings as a table."""
    title = f"{report.num_new:,} events of the newest days, {report.num_before:,} before"
    table = Table("what", "value", "warning above", "limit", "", title=title)
    colours = {Status.GOOD: "green", Status.WARNING: "yellow", Status.BROKEN: "red"}
    for one in report.findings:
        texts = (one.name, *(f"{v:.3g}" for v in (one.value, one.bounds.warning, one.bounds.limit)))
        table.add_row(*texts, f"[{colours[one.status]}]{one.status}")
    console.print(table)


def print_warnings(report: Report, console: Console) -> None:
    """One line for each value that is worth a look."""
    for one in report.of(Status.WARNING):
        console.print(f"[yellow]quality:[/] {one.name} is {one.value:.3g}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline quality`."""
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument(
        "--window-days", type=int, default=WINDOW_DAYS, help="newest days (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help=f"report (default: HOME/{REPORT_FILE})")
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print and write the report; exit code 6 when a limit is broken."""
    home = Home.from_arguments(args)
    report = inspect(args.tables or home.tables, None, args.window_days)
    print_report(report, Console())
    home.path.mkdir(parents=True, exist_ok=True)
    replace_file(args.json or home.path / REPORT_FILE, report.to_json())
    return QualityError.exit_code if report.of(Status.BROKEN) else 0
