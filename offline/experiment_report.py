"""Compare the arms of an experiment by what was shown and what came of it, with intervals of 95%.

An experiment is a rule of the shop, `action = "experiment"`. Counted are the answers that the
server kept as exposures (after `compact`): how many of them were clicked, and bought from, by the
attribution token that the shop's events send back. One person has many answers, so the intervals
are those of people, not of answers. Buyers and spending are counted for each person within so many
days of the first answer, however they came to buy. Who was seen in several arms, having logged in
meanwhile, is left out and told.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Final

import polars as pl
from rich.console import Console
from rich.table import Table

from feature_store.schema import EventKind
from offline.campaigns.effects import Lift, Outcome, Z, buyer_lift, spend_lift
from offline.errors import ExperimentError
from offline.exposures import scan_exposures
from offline.home import Home
from offline.ingest.tables import scan_events
from offline.people import read_merges

DAYS: Final = 14.0
_COUNTS: Final = ("answers", "clicked", "bought")


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of answers: its value and the standard error, people being drawn, not answers."""

    value: float
    error: float

    @property
    def interval(self) -> Lift:
        """The 95% interval."""
        return Lift(self.value, self.value - Z * self.error, self.value + Z * self.error)


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One arm. The lifts are over the arm that the others are compared with, None for that one."""

    arm: str
    num_answers: int
    people: Outcome
    clicked: Lift
    bought: Lift
    more_clicked: Lift | None = None
    more_bought: Lift | None = None
    more_buyers: Lift | None = None
    more_spend: Lift | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The arms, first the one that others are compared with; and how many were in several."""

    arms: tuple[ArmReport, ...]
    num_in_several: int


def report(tables: Path, experiment: str, against: str, days: float = DAYS) -> Report:
    """The arms of an experiment by name, after the arm that the others are compared with.

    Raises ExperimentError where no exposure names the experiment, or the arm `against`.
    """
    answers = _answers(tables, experiment)
    names = sorted(answers["arm"].unique().to_list())
    if not names:
        raise ExperimentError(
            f"no exposure names the experiment {experiment}; run `python -m offline compact` first"
        )
    if against not in names:
        raise ExperimentError(f"no arm {against} was shown, only: {', '.join(names)}")
    arms_of = answers.group_by("person").agg(pl.col("arm").n_unique().alias("num"))
    several = arms_of.filter(pl.col("num") > 1)
    people = _people(answers.join(several, on="person", how="anti"), tables, days)
    counted = {str(arm): rows for (arm,), rows in people.partition_by("arm", as_dict=True).items()}
    present = [name for name in (against, *names) if name in counted]
    baseline = counted.get(against)
    arms = tuple(_arm(name, counted[name], baseline) for name in dict.fromkeys(present))
    return Report(arms, len(several))


def _answers(tables: Path, experiment: str) -> pl.DataFrame:
    """Each answer of the experiment: person, arm, time, and whether it was clicked and bought."""
    shown = scan_exposures(tables).filter(pl.col("arm").str.starts_with(f"{experiment}/"))
    answers = shown.select(
        "request_time",
        token="attribution_token",  # noqa: S106
        arm=pl.col("arm").str.strip_prefix(f"{experiment}/"),
        person=pl.coalesce("user", "session"),
    ).collect()
    if answers.is_empty():
        return answers
    told = (
        scan_events(tables)
        .filter(pl.col("attribution_token").is_not_null())
        .filter(pl.col("kind").is_in([EventKind.CLICK.value, EventKind.PURCHASE.value]))
        .select("kind", token="attribution_token")  # noqa: S106
        .unique()
        .collect()
    )
    for name, kind in (("clicked", EventKind.CLICK), ("bought", EventKind.PURCHASE)):
        tokens = told.filter(pl.col("kind") == kind.value)["token"]
        answers = answers.with_columns(pl.col("token").is_in(tokens.implode()).alias(name))
    return answers.lazy().pipe(_as_today, tables).collect()


def _as_today(rows: pl.LazyFrame, tables: Path) -> pl.LazyFrame:
    """The rows, with who became somebody else since as who they are today."""
    became = read_merges(tables).select(person="source", today="target").unique("person")
    joined = rows.join(became.lazy(), on="person", how="left")
    return joined.with_columns(person=pl.coalesce("today", "person")).drop("today")


def _people(answers: pl.DataFrame, tables: Path, days: float) -> pl.DataFrame:
    """One row a person: the arm, answers by what came of them, purchases and money spent."""
    people = answers.group_by("person", "arm").agg(
        pl.len().alias("answers"),
        pl.col("clicked").sum(),
        pl.col("bought").sum(),
        pl.col("request_time").min().alias("since"),
    )
    value = pl.col("price").fill_null(0.0) * pl.col("quantity").fill_null(1.0)
    since = people.lazy().select("person", "since")
    spent = (
        scan_events(tables)
        .filter(pl.col("kind") == EventKind.PURCHASE.value)
        .with_columns(person=pl.coalesce("user", "session"))
        .pipe(_as_today, tables)
        .join(since, on="person")
        .filter(pl.col("event_time") >= pl.col("since"))
        .filter(pl.col("event_time") < pl.col("since") + pl.duration(seconds=round(days * 86_400)))
        .group_by("person")
        .agg(spend=value.cast(pl.Float64).sum(), purchases=pl.len())
        .collect()
    )
    return people.join(spent, on="person", how="left").with_columns(
        pl.col("spend", "purchases").fill_null(0)
    )


def _arm(name: str, people: pl.DataFrame, baseline: pl.DataFrame | None) -> ArmReport:
    clicked, bought = share_of(people, "clicked"), share_of(people, "bought")
    own = outcome_of(people)
    told = ArmReport(name, int(people["answers"].sum()), own, clicked.interval, bought.interval)
    if baseline is None or baseline is people:
        return told
    theirs = outcome_of(baseline)
    return ArmReport(
        *(told.arm, told.num_answers, own, told.clicked, told.bought),
        more_clicked=difference(clicked, share_of(baseline, "clicked")),
        more_bought=difference(bought, share_of(baseline, "bought")),
        more_buyers=buyer_lift(own, theirs),
        more_spend=spend_lift(own, theirs),
    )


def share_of(people: pl.DataFrame, name: str) -> Rate:
    """The share of answers of which this is true; its error by the delta method over people.

    Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics".
    """
    hits, answers = people[name].to_numpy(), people["answers"].to_numpy()
    num, total = len(people), float(answers.sum())
    value = float(hits.sum()) / total
    if num < 2:
        return Rate(value, float("inf"))
    squares = float(((hits - value * answers) ** 2).sum())
    return Rate(value, sqrt(squares * num / (num - 1)) / total)


def outcome_of(people: pl.DataFrame) -> Outcome:
    """How many people there are, how many bought, and what they spent."""
    spend = people["spend"].cast(pl.Float64)
    buyers = int((people["purchases"] > 0).sum())
    return Outcome(len(people), buyers, float(spend.sum()), float((spend**2).sum()))


def difference(ours: Rate, theirs: Rate) -> Lift:
    """How much more, the arms being independent."""
    value, error = ours.value - theirs.value, Z * sqrt(ours.error**2 + theirs.error**2)
    return Lift(value, value - error, value + error)


def print_report(told: Report, experiment: str, days: float) -> None:
    """A table for a person."""
    title = f"{experiment}: buying within {days:g} days of the first answer, intervals of 95%"
    table = Table(title=title, caption=f"left out: {told.num_in_several:,} people in several arms")
    table.add_column("arm")
    for name in ("people", "answers", "clicked", "bought from", "buyers", "spend each"):
        table.add_column(name, justify="right")
    for name in ("more clicked", "more bought from", "more buyers", "more spend each"):
        table.add_column(name, justify="right")
    for one in told.arms:
        table.add_row(
            one.arm,
            f"{one.people.num_people:,}",
            f"{one.num_answers:,}",
            *(f"{share.value:.2%}" for share in (one.clicked, one.bought)),
            f"{one.people.buyer_share:.2%}",
            f"{one.people.mean_spend:.2f}",
            *(lift.told(100, "%") if lift else "" for lift in (one.more_clicked, one.more_bought)),
            one.more_buyers.told(100, "%") if one.more_buyers else "",
            one.more_spend.told() if one.more_spend else "",
        )
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline experiment-report`."""
    parser.add_argument("--experiment", required=True, help="the name of the rule")
    parser.add_argument(
        "--against", required=True, help="the arm to compare with, which is as things were"
    )
    parser.add_argument("--days", type=float, default=DAYS, help="of buying (default: %(default)g)")
    parser.add_argument("--tables", type=Path, help="canonical tables (default: HOME/tables)")
    parser.add_argument("--json", type=Path, help="write it as JSON too")
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    tables = args.tables or Home.from_arguments(args).tables
    told = report(tables, args.experiment, args.against, args.days)
    print_report(told, args.experiment, args.days)
    if args.json is not None:
        args.json.write_text(json.dumps(asdict(told), indent=2) + "\n")
    return 0
