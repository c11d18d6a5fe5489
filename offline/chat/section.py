"""The section of a shop's bundle that lets it understand what shoppers say."""

from pathlib import Path
from typing import Final

import polars as pl

from feature_store.bundle import BundleWriter
from feature_store.language.encoder import TextEncoder, embedded_encoder
from offline.chat.feelings import own_sentiments
from offline.chat.habits import own_scripts
from offline.chat.learn import learn
from offline.chat.names import Shelves
from offline.chat.texts import TEXTS, read_written
from offline.dataset import Dataset
from offline.progress import Progress

NUM_TITLES: Final = 3
"""So many titles say what a shelf holds."""

_SIZE: Final = r",\s*\d[^,]*$"


def write_understanding(
    writer: BundleWriter,
    dataset: Dataset,
    seed: int,
    progress: Progress,
    encoder: TextEncoder | None = None,
    texts: Path = TEXTS,
) -> None:
    """Learn from the repository's texts and the shop's catalogue, and write what was learned.

    An `encoder` of the embedded one's space, which may know texts already, encodes in its place.
    """
    embedded = embedded_encoder()
    if encoder is None or encoder.space != embedded.space:
        encoder = embedded
    with progress.task("Understanding", 1) as advance:
        learned = learn(
            read_written(texts),
            own_sentiments(texts),
            own_scripts(texts),
            shelves_of(dataset.items),
            encoder,
            seed,
        )
        learned.write(writer, encoder)
        advance(1)


def shelves_of(items: pl.DataFrame) -> Shelves:
    """The categories, brands, tags and commonest titles of a table of products."""
    counts = items["category"].drop_nulls().value_counts(sort=True)
    heads = pl.col("title").str.replace(_SIZE, "")
    titles = (
        items.drop_nulls(["category", "title"])
        .group_by("category", heads.alias("head"))
        .len()
        .sort("len", "head", descending=[True, False])
        .group_by("category", maintain_order=True)
        .agg(pl.col("head").head(NUM_TITLES))
    )
    return Shelves(
        paths=dict(counts.iter_rows()),
        brands=items["brand"].drop_nulls().unique().sort().to_list(),
        tags=items["tags"].explode().drop_nulls().unique().sort().to_list(),
        titles=dict(titles.iter_rows()),
    )
