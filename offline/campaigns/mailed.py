"""Take in what became of a campaign's mails: sent, opened, clicked, bought from, unsubscribed.

A mail tool knows tokens, not people: the export says whose a token is. A row that says that a mail
was sent stands for everything in it, which is then not mailed again, and is kept as what was
shown, so that training learns from it. What is read twice counts once. The same things may come
in through the server, with the token; both ways end in the same tables.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import EVENTS, EventKind
from feature_store.store import open_store
from offline.campaigns.parts import folders_of
from offline.compact import EVENT_LOG
from offline.errors import CampaignError
from offline.exposures import EXPOSURES_SCHEMA, merge_exposures
from offline.home import Home
from offline.increments import WORK_FOLDER, Site, bring_up
from offline.ingest.files import Source
from offline.ingest.job import IngestJob, ingest, staging
from offline.ingest.tables import TIME, polars_schema
from offline.materialize import erased_of
from offline.people import write_people
from offline.progress import QUIET, Progress

TOKEN: Final = "tracking_token"  # noqa: S105
KINDS: Final[Mapping[str, EventKind]] = {
    "sent": EventKind.MAIL_SENT,
    "open": EventKind.MAIL_OPEN,
    "click": EventKind.MAIL_CLICK,
    "purchase": EventKind.PURCHASE,
    "unsubscribe": EventKind.UNSUBSCRIBE,
}
"""What a file may say of a mail, and the kind of event that it becomes."""

COLUMNS: Final = ("kind", "event_time", "item", "quantity", "price", "basket", "event_id")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one file told: rows by kind, mails that were sent, rows of other campaigns."""

    kinds: Mapping[str, int]
    num_mails: int
    num_foreign: int


def take_in(
    home: Home, export: Path, file: Path, default_time: int, progress: Progress = QUIET
) -> Taken:
    """Read a file of a mail tool into tables and store, whole or not at all.

    `default_time`, microseconds UTC, is when a row without a time happened. Raises CampaignError.
    """
    told = read_told(file, default_time)
    exported = pl.concat([folder.scan_mails() for folder in folders_of(export)])
    mails = exported.join(told.lazy().select(TOKEN).unique(), on=TOKEN, how="semi").collect()
    ours = told.join(mails.select(TOKEN).unique(), on=TOKEN, how="semi")
    sent = ours.filter(pl.col("kind") == EventKind.MAIL_SENT.value).unique(TOKEN, keep="first")
    sent = sent.sort(TOKEN)
    rows = pl.concat([_sent_events(sent, mails), _other_events(ours, mails)])
    if not rows.is_empty():
        source = Source(file.name, _fingerprint(rows), len(rows), rows.lazy())
        ingest(IngestJob({"events": [source]}, home.tables), None, progress)
        with staging(home.tables) as folder:
            merge_exposures(home.tables, _exposures(sent, mails), folder)
        refresh(home, progress)
    counts = dict(ours["kind"].value_counts(sort=True).iter_rows())
    return Taken(counts, len(sent), len(told) - len(ours))


def refresh(home: Home, progress: Progress = QUIET) -> None:
    """Bring the online store up to the tables: what was sent is in the next answer."""
    with closing(open_store(home.store)) as store:
        work = home.path / WORK_FOLDER
        site = Site(store, home.tables, home.path / EVENT_LOG, work, erased_of(home.path))
        write_people(home.tables, store)
        bring_up(site, time.time_ns() // 1_000, progress)


def read_told(file: Path, default_time: int) -> pl.DataFrame:
    """The rows of a mail tool's file: tracking_token, kind (an event kind), event_time and so on.

    CSV or Parquet. Raises CampaignError for what cannot be understood.
    """
    try:
        is_parquet = file.suffix == ".parquet"
        given = pl.read_parquet(file) if is_parquet else pl.read_csv(file, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CampaignError(f"{file} cannot be read as CSV or Parquet: {error}") from error
    if TOKEN not in given.columns:
        raise CampaignError(f"{file} has no column {TOKEN}; the export has one, give it back")
    absent = [pl.lit(None, pl.String).alias(c) for c in COLUMNS if c not in given.columns]
    rows = given.cast(pl.String).with_columns(absent).select(TOKEN, *COLUMNS)
    unknown = set(rows["kind"].drop_nulls()) - KINDS.keys()
    if unknown:
        raise CampaignError(
            f"{file} says `{min(unknown)}` in the column kind; known: {', '.join(KINDS)}"
        )
    moment = pl.col("event_time").str.to_datetime("%+", time_unit="us", strict=False)
    known = rows.with_columns(
        pl.col("kind").fill_null("sent").replace_strict(dict(KINDS)),
        moment.dt.convert_time_zone("UTC").alias("moment"),
        pl.col("quantity", "price").cast(pl.Float32, strict=False),
    )
    if not (
        wrong := known.filter(pl.col("moment").is_null() & (rows["event_time"] != ""))
    ).is_empty():
        raise CampaignError(
            f"{file}: {wrong['event_time'][0]!r} in event_time should be 2026-12-01T06:00:00Z"
        )
    default = pl.lit(default_time, pl.Int64).cast(TIME)
    return known.with_columns(event_time=pl.col("moment").fill_null(default)).drop("moment")


def _sent_events(sent: pl.DataFrame, mails: pl.DataFrame) -> pl.DataFrame:
    """One event for each thing in each mail that was sent."""
    rows = mails.join(sent.select(TOKEN, "event_time"), on=TOKEN)
    return _canonical(
        rows.select(
            pl.format("{}/{}", TOKEN, "rank").alias("event_id"),
            "event_time",
            pl.col("pseudonym").alias("user"),
            pl.lit(EventKind.MAIL_SENT.value).alias("kind"),
            pl.col("slot").alias("corpus"),
            "item",
            pl.lit("email").alias("placement"),
            pl.col(TOKEN).alias("attribution_token"),
        )
    )


def _other_events(ours: pl.DataFrame, mails: pl.DataFrame) -> pl.DataFrame:
    """One event for each row that says something else, with the person whose token it is."""
    owners = mails.select(TOKEN, user="pseudonym").unique()
    corpora = mails.select(TOKEN, "item", corpus="slot").unique([TOKEN, "item"])
    rows = ours.filter(pl.col("kind") != EventKind.MAIL_SENT.value).join(owners, on=TOKEN)
    rows = rows.join(corpora, on=[TOKEN, "item"], how="left")
    is_mail = pl.col("kind") != EventKind.PURCHASE.value
    placed = rows.with_columns(pl.when(is_mail).then(pl.lit("email")).alias("placement"))
    return _canonical(placed.rename({TOKEN: "attribution_token"}))


def _canonical(rows: pl.DataFrame) -> pl.DataFrame:
    schema = polars_schema(EVENTS)
    absent = [pl.lit(None, schema[name]).alias(name) for name in schema if name not in rows.columns]
    return rows.with_columns(absent).select(schema.names()).cast(dict(schema))  # type: ignore[arg-type]


def _exposures(sent: pl.DataFrame, mails: pl.DataFrame) -> pl.DataFrame:
    """What the mails that were sent showed, one row a mail."""
    rows = mails.join(sent.select(TOKEN, "event_time"), on=TOKEN).sort(TOKEN, "rank")
    shown = rows.group_by(TOKEN, maintain_order=True).agg(
        pl.col("event_time").first().alias("request_time"),
        pl.col("pseudonym").first().alias("user"),
        pl.lit(None, pl.String).alias("session"),
        pl.lit("email").alias("placement"),
        pl.col("item").alias("items"),
        pl.col("slot").alias("corpora"),
        pl.col("propensity").alias("propensities"),
        pl.col("model_version").first(),
        pl.col("arm").first(),
    )
    return shown.rename({TOKEN: "attribution_token"}).select(EXPOSURES_SCHEMA.names())


def _fingerprint(rows: pl.DataFrame) -> str:
    digest = hashlib.sha256(b"".join(rows.hash_rows().to_numpy()))
    return digest.hexdigest()[:16]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline mailed`."""
    parser.add_argument("--export", type=Path, required=True, help="the export's folder")
    parser.add_argument(
        "--events",
        type=Path,
        required=True,
        help=f"CSV or Parquet with {TOKEN} and, if they are told, {', '.join(COLUMNS)}; kind is "
        f"one of {', '.join(KINDS)}; without one the mail was sent",
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Take a file in and say what it told."""
    home = Home.from_arguments(args)
    now_time = time.time_ns() // 1_000
    taken = take_in(home, args.export, args.events, now_time, Progress())
    for line in _lines(taken):
        print(line)
    return 0


def _lines(taken: Taken) -> Iterator[str]:
    for kind, num in taken.kinds.items():
        yield f"{kind}: {num:,}"
    yield f"{taken.num_mails:,} mails count as shown from now on"
    if taken.num_foreign:
        yield f"{taken.num_foreign:,} rows name a token that is not of this export; left aside"
