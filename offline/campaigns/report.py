"""The report of a campaign: what was sent, opened, clicked and bought, and what difference it made.

From the plan of an export and the tables, so that it may be asked for at any time and grows with
what comes back. Each mail counts once for each thing, however often it is told.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from rich.console import Console
from rich.table import Table

from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from offline.campaigns.campaign import HOLD_OUT
from offline.campaigns.effects import Lift, Outcome, buyer_lift, spend_lift
from offline.campaigns.parts import Folder, folders_of
from offline.home import Home
from offline.ingest.tables import scan_events
from offline.people import read_merges

DAYS: Final = 14.0
COUNTED: Final = {
    "sent": EventKind.MAIL_SENT,
    "opened": EventKind.MAIL_OPEN,
    "clicked": EventKind.MAIL_CLICK,
    "bought_from": EventKind.PURCHASE,
    "unsubscribed": EventKind.UNSUBSCRIBE,
}


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One arm: mails by what became of them, its people's buying, and the lift over the held out.

    The lifts are None where nobody was held out, and for who was.
    """

    arm: str
    mails: dict[str, int]
    outcome: Outcome
    buyers: Lift | None
    spend: Lift | None


def report(export: Path, tables: Path, days: float = DAYS) -> list[ArmReport]:
    """The arms of an export (all shards of it), by name, the held out last.

    Buying is counted within `days` of the send time. Raises CampaignError for no whole export.
    """
    folders = folders_of(export)
    start_time = int(folders[0].manifest()["send_time"])
    end_time = start_time + round(days * MICROSECONDS_PER_DAY)
    people = pl.concat([folder.scan_plan() for folder in folders]).filter(_is_assigned())
    people = people.select("pseudonym", "arm")
    spent = people.join(_spent(tables, start_time, end_time), on="pseudonym", how="left")
    outcomes = {
        arm: Outcome(num, buyers, spend, squared)
        for arm, num, buyers, spend, squared in _by_arm(spent).iter_rows()
    }
    mails = _mails(folders, tables, start_time)
    held = outcomes.get(HOLD_OUT)
    return [
        _arm(name, outcomes[name], mails.get(name, {}), held)
        for name in sorted(outcomes, key=lambda one: (one == HOLD_OUT, one))
    ]


def _arm(name: str, outcome: Outcome, mails: dict[str, int], held: Outcome | None) -> ArmReport:
    if held is None or name == HOLD_OUT:
        return ArmReport(name, mails, outcome, None, None)
    return ArmReport(name, mails, outcome, buyer_lift(outcome, held), spend_lift(outcome, held))


def _is_assigned() -> pl.Expr:
    """Who was written to or would have been: the arms are alike in nothing less."""
    return pl.col("left_out").is_null() | (pl.col("left_out") == HOLD_OUT)


def _spent(tables: Path, start_time: int, end_time: int) -> pl.LazyFrame:
    """What each person spent, whatever they allow: a report is about nobody in particular."""
    events = scan_events(tables, start_time, end_time)
    accounts = read_merges(tables).filter(pl.col("kind") == "user").lazy()
    became = accounts.select(user="source", target="target")
    value = pl.col("price").fill_null(0.0) * pl.col("quantity").fill_null(1.0)
    return (
        events.filter(pl.col("kind") == EventKind.PURCHASE.value, pl.col("user").is_not_null())
        .join(became, on="user", how="left")
        .group_by(pseudonym=pl.coalesce("target", "user"))
        .agg(spend=value.cast(pl.Float64).sum(), num=pl.len())
    )


def _by_arm(spent: pl.LazyFrame) -> pl.DataFrame:
    money = pl.col("spend").fill_null(0.0)
    return (
        spent.group_by("arm")
        .agg(pl.len(), pl.col("num").is_not_null().sum(), money.sum(), squared=(money**2).sum())
        .collect()
    )


def _mails(folders: list[Folder], tables: Path, start_time: int) -> dict[str, dict[str, int]]:
    """For each arm, how many mails there are and how many of them each thing was told of."""
    mails = pl.concat([folder.scan_mails() for folder in folders])
    tokens = mails.select("arm", token="tracking_token").unique().collect()  # noqa: S106
    told = (
        scan_events(tables, start_time - MICROSECONDS_PER_DAY)
        .filter(pl.col("attribution_token").is_not_null())
        .select("kind", token="attribution_token")  # noqa: S106
        .unique()
        .join(tokens.lazy(), on="token")
        .collect()
    )
    found: dict[str, dict[str, int]] = {}
    for (arm,), rows in tokens.partition_by("arm", as_dict=True).items():
        kinds = dict(told.filter(pl.col("arm") == arm)["kind"].value_counts().iter_rows())
        counts = {name: kinds.get(kind.value, 0) for name, kind in COUNTED.items()}
        found[str(arm)] = {"mails": len(rows), **counts}
    return found


def print_report(arms: list[ArmReport], days: float) -> None:
    """A table for a person."""
    table = Table(title=f"What became of it, buying within {days:g} days, intervals of 95%")
    names = ("people", "mails", *COUNTED, "buyers", "spend each", "more buyers", "more spend each")
    table.add_column("arm")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for one in arms:
        numbers = [f"{one.mails.get(name, 0):,}" for name in ("mails", *COUNTED)]
        table.add_row(
            one.arm.replace("_", "-"),
            f"{one.outcome.num_people:,}",
            *numbers,
            f"{one.outcome.buyer_share:.2%}",
            f"{one.outcome.mean_spend:.2f}",
            one.buyers.told(100, "%") if one.buyers else "",
            one.spend.told() if one.spend else "",
        )
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline campaign-report`."""
    parser.add_argument("--export", type=Path, required=True, help="the export's folder")
    parser.add_argument("--days", type=float, default=DAYS, help="of buying (default: %(default)g)")
    parser.add_argument("--json", type=Path, help="write it as JSON too")
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    arms = report(args.export, Home.from_arguments(args).tables, args.days)
    print_report(arms, args.days)
    if args.json is not None:
        rows: list[dict[str, Any]] = [asdict(one) for one in arms]
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0
