"""What the demo shop has to read: the texts of this repository as a content table.

The texts name departments and categories of the shop's catalogue; here they become links. A link to
a category counts for more than one to its whole department, so both are given.
"""

from pathlib import Path
from typing import Final

import polars as pl

from feature_store.schema import CATEGORY_SEPARATOR
from offline.ingest.files import Source, fingerprint

TEXTS: Final = Path(__file__).parents[1] / "texts" / "content"

_PIECES: Final = {
    "id": pl.String(),
    "kind": pl.String(),
    "language": pl.String(),
    "title": pl.String(),
    "body": pl.String(),
    "departments": pl.List(pl.String()),
    "categories": pl.List(pl.String()),
    "tags": pl.List(pl.String()),
    "published": pl.String(),
    "valid_until": pl.String(),
    "author": pl.String(),
}
_PHRASES: Final = {"id": pl.String(), "language": pl.String(), "phrases": pl.List(pl.String())}


def shop_content(folder: Path = TEXTS) -> Source:
    """The pieces and their phrases, with canonical columns."""
    pieces = folder / "pieces.jsonl"
    rows = pl.read_ndjson(pieces, schema=_PIECES)
    phrases = pl.read_ndjson(folder / "phrases.jsonl", schema=_PHRASES)
    links = [
        _links(departments, categories)
        for departments, categories in rows.select("departments", "categories").iter_rows()
    ]
    frame = rows.join(phrases, on=["id", "language"], how="left", maintain_order="left").select(
        "language",
        "kind",
        "title",
        "body",
        "tags",
        "phrases",
        "author",
        item="id",
        categories=pl.Series(links, dtype=pl.List(pl.String())),
        publish_time="published",
        expire_time="valid_until",
    )
    return Source(pieces.name, fingerprint(pieces), len(frame), frame.lazy())


def _links(departments: list[str], categories: list[str]) -> list[str]:
    """Each department, and each category in each of them; one that is not there links nothing."""
    inside = [f"{one}{CATEGORY_SEPARATOR}{each}" for one in departments for each in categories]
    return [*departments, *(inside if departments else categories)]
