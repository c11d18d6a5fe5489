"""Content and what people did with it, as one value that a bundle is written from.

What was shown and acted on counts up to the horizon only; the texts themselves may be newer, since
they are shown by their own dates.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from feature_store.schema import CONTENT, Corpus, EventKind
from offline.exposures import scan_exposures
from offline.ingest.tables import instant, polars_schema, scan_content, scan_events

ACTED: Final = (EventKind.CLICK, EventKind.CONTENT_READ, EventKind.LIKE, EventKind.MAIL_CLICK)
"""What says that a piece was of use."""

ANSWERING_FILE: Final = "answering.json"
"""Beside the tables: how this shop's questions are answered, see `offline.content.tuning`."""

_COUNTS: Final = {"item": pl.String(), "shown": pl.Int64(), "acted": pl.Int64()}


@dataclass(frozen=True, slots=True)
class ContentData:
    """The content table, sorted by item and language, and how often each piece was acted on.

    `counts` has item, shown (how often) and acted (people who clicked, read or liked it, less
    those who found it of no help); null stands for 0. `answering` is of ANSWERING_FILE, None where
    the shop has none of its own.
    """

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=polars_schema(CONTENT)))
    counts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_COUNTS))
    answering: Mapping[str, Any] | None = None

    @property
    def num_pieces(self) -> int:
        """The number of pieces, whatever languages they are in."""
        return self.rows["item"].n_unique()

    def __len__(self) -> int:
        """The number of rows: a piece has one for each language."""
        return len(self.rows)


def load_content(tables: Path, horizon_time: int) -> ContentData:
    """The content of an installation; empty when it has none."""
    data = read_content(tables)
    if not len(data):
        return data
    before = instant(horizon_time)
    events = scan_events(tables).filter(
        pl.col("corpus") == Corpus.CONTENT.value, pl.col("event_time") < before
    )
    counts = _shown(events, scan_exposures(tables).filter(pl.col("request_time") < before))
    counts = counts.join(_acted(events), on="item", how="full", coalesce=True)
    return replace(data, counts=counts)


def read_content(tables: Path) -> ContentData:
    """The content as such, whatever people did with it."""
    rows = scan_content(tables).sort("item", "language").collect()
    own = tables.parent / ANSWERING_FILE
    answering = json.loads(own.read_text(encoding="utf-8")) if own.exists() else None
    return ContentData(rows, answering=answering)


def _shown(events: pl.LazyFrame, exposures: pl.LazyFrame) -> pl.DataFrame:
    """How often each piece was shown: by the shop's impressions; it sends none: in answers."""
    seen = events.filter(pl.col("kind") == EventKind.IMPRESSION.value).select("item").collect()
    if seen.is_empty():
        is_content = pl.col("corpora") == Corpus.CONTENT.value
        mixed = exposures.filter(pl.col("corpora").list.contains(Corpus.CONTENT.value))
        answered = mixed.select("items", "corpora").explode("items", "corpora")
        seen = answered.filter(is_content).select(item="items").collect()
    return seen.group_by("item").agg(shown=pl.len().cast(pl.Int64))


def _acted(events: pl.LazyFrame) -> pl.DataFrame:
    """How many people found each piece of use, less those who did not."""
    person, kind = pl.coalesce("user", "session"), pl.col("kind")
    good = person.filter(kind.is_in([one.value for one in ACTED])).n_unique()
    bad = person.filter(kind == EventKind.DISLIKE.value).n_unique()
    acted = good.cast(pl.Int64) - bad.cast(pl.Int64)
    return events.group_by("item").agg(acted=acted).filter(pl.col("acted") != 0).collect()
