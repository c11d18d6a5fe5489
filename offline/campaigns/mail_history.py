"""The mails that were sent, of all campaigns: for caps, and so that nobody reads a thing twice.

From the tables and from what the server has taken in since. A mail is one token, or where an
event has none, one instant. It knows the tables and the spools, and no campaign.
"""

from contextlib import closing
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.event_log import EventLog, spool_workers
from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from offline.campaigns.campaign import MailCap
from offline.campaigns.segments import has_events
from offline.compact import EVENT_LOG
from offline.ingest.tables import instant, scan_events
from offline.logged import event_table
from offline.people import read_merges

_COLUMNS: Final = ("user", "event_time", "item", "corpus", "attribution_token")


def mails_sent(home: Path, tables: Path, since_time: int) -> pl.DataFrame:
    """A row for each item of each mail since an instant (microseconds UTC), item null if not told.

    Columns: pseudonym (who the account is today), event_time, item, mail (its token).
    """
    parts = [_logged(home / EVENT_LOG, since_time)]
    if has_events(tables):
        stored = scan_events(tables, since_time)
        parts.append(stored.filter(_is_mail()).select("event_id", *_COLUMNS).collect())
    rows = pl.concat(parts).unique("event_id", keep="first", maintain_order=True)
    accounts = read_merges(tables).filter(pl.col("kind") == "user").select("source", "target")
    rows = rows.join(accounts, left_on="user", right_on="source", how="left")
    when = pl.col("event_time").dt.epoch("us").cast(pl.String)
    return rows.filter(pl.col("user").is_not_null()).select(
        pl.coalesce("target", "user").alias("pseudonym"),
        "event_time",
        "item",
        pl.coalesce("attribution_token", when).alias("mail"),
    )


def over_cap(mails: pl.DataFrame, cap: MailCap, time: int) -> pl.Series:
    """The pseudonyms of whom one mail more, at `time` (microseconds UTC), would break the cap."""
    since = time - round(cap.days * MICROSECONDS_PER_DAY)
    counts = (
        mails.filter(pl.col("event_time") > instant(since))
        .group_by("pseudonym")
        .agg(num=pl.col("mail").n_unique())
    )
    return counts.filter(pl.col("num") >= cap.mails)["pseudonym"]


def items_sent(mails: pl.DataFrame, days: float, time: int) -> pl.DataFrame:
    """What was in each person's mails in the days before `time`: pseudonym, excluded (a list)."""
    since = time - round(days * MICROSECONDS_PER_DAY)
    rows = mails.filter(pl.col("event_time") > instant(since), pl.col("item").is_not_null())
    return rows.group_by("pseudonym").agg(excluded=pl.col("item").unique().sort())


def _is_mail() -> pl.Expr:
    return pl.col("kind") == EventKind.MAIL_SENT.value


def _logged(event_log: Path, since_time: int) -> pl.DataFrame:
    """The mails that the server was told of and no table holds yet."""
    events = []
    for worker in spool_workers(event_log):
        with closing(EventLog(event_log, worker)) as log:
            place = log.compacted_sequence
            while batch := log.read(place):
                place = batch[-1].sequence
                events += [
                    one.event
                    for one in batch
                    if one.event.kind == EventKind.MAIL_SENT and one.event.event_time >= since_time
                ]
    return event_table(events).select("event_id", *_COLUMNS)
