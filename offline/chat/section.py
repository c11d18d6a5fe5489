"""The section of a shop's bundle that lets it understand what shoppers say."""

from pathlib import Path

from feature_store.bundle import BundleWriter
from feature_store.language.encoder import embedded_encoder
from offline.chat.feelings import read_sentiments
from offline.chat.habits import own_scripts
from offline.chat.learn import learn
from offline.chat.names import Shelves
from offline.chat.texts import TEXTS, read_written
from offline.dataset import Dataset
from offline.progress import Progress


def write_understanding(
    writer: BundleWriter, dataset: Dataset, seed: int, progress: Progress, texts: Path = TEXTS
) -> None:
    """Learn from the repository's texts and the shop's catalogue, and write what was learned."""
    encoder = embedded_encoder()
    with progress.task("Understanding", 1) as advance:
        learned = learn(
            read_written(texts),
            read_sentiments(texts / "sentiments" / "training.jsonl"),
            own_scripts(texts),
            shelves_of(dataset),
            encoder,
            seed,
        )
        learned.write(writer, encoder)
        advance(1)


def shelves_of(dataset: Dataset) -> Shelves:
    """The categories, brands and tags of what a shop sells."""
    items = dataset.items
    counts = items["category"].drop_nulls().value_counts(sort=True)
    return Shelves(
        paths=dict(counts.iter_rows()),
        brands=items["brand"].drop_nulls().unique().sort().to_list(),
        tags=items["tags"].explode().drop_nulls().unique().sort().to_list(),
    )
