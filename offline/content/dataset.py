"""Content and what people did with it, as one value that a bundle is written from.

What was shown and acted on counts up to the horizon only; the texts themselves may be newer, since
they are shown by their own dates.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import CONTENT, Corpus, EventKind
from offline.ingest.tables import instant, polars_schema, scan_content, scan_events

ACTED: Final = (EventKind.CLICK, EventKind.CONTENT_READ, EventKind.LIKE, EventKind.MAIL_CLICK)
"""What says that a piece was of use."""

_COUNTS: Final = {"item": pl.String(), "shown": pl.Int64(), "acted": pl.Int64()}


@dataclass(frozen=True, slots=True)
class ContentData:
    """The content table, sorted by item and language, and how often each piece was acted on.

    `counts` has item, shown (impressions) and acted (people who clicked, read or liked it, less
    those who found it of no help).
    """

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=polars_schema(CONTENT)))
    counts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_COUNTS))

    @property
    def num_pieces(self) -> int:
        """The number of pieces, whatever languages they are in."""
        return self.rows["item"].n_unique()

    def __len__(self) -> int:
        """The number of rows: a piece has one for each language."""
        return len(self.rows)


def load_content(tables: Path, horizon_time: int) -> ContentData:
    """The content of an installation; empty when it has none."""
    rows = scan_content(tables).sort("item", "language").collect()
    if not len(rows):
        return ContentData()
    kind = pl.col("kind")
    acted = kind.is_in([one.value for one in ACTED])
    person = pl.coalesce("user", "session")
    counts = (
        scan_events(tables)
        .filter(pl.col("corpus") == Corpus.CONTENT.value)
        .filter(pl.col("event_time") < instant(horizon_time))
        .group_by("item")
        .agg(
            shown=(kind == EventKind.IMPRESSION.value).sum().cast(pl.Int64),
            acted=(
                person.filter(acted).n_unique().cast(pl.Int64)
                - person.filter(kind == EventKind.DISLIKE.value).n_unique().cast(pl.Int64)
            ),
        )
        .collect()
    )
    return ContentData(rows, counts)
