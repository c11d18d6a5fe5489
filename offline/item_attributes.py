"""What filters and rules ask of items, as columns of a bundle.

Text becomes codes here once, so that serving compares numbers. It knows the product table, and
not the filter language.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.codes import category_tree, coded, indexed_terms, inverted
from feature_store.state import NO_TIME
from offline.dataset import Dataset, Purchases

EVERYWHERE = ""
"""The region of items that name none: they are sold everywhere."""


def write_attributes(writer: BundleWriter, dataset: Dataset) -> None:
    """Write brand, category, tags, regions and age of each item, and their vocabularies."""
    items = dataset.items
    brands, brand_codes = coded(items["brand"].fill_null("").to_list())
    writer.strings("attributes/brands", brands)
    writer.array("attributes/brand", brand_codes)
    paths, path_codes, ends = category_tree(items["category"].fill_null("").to_list())
    writer.strings("attributes/paths", paths)
    writer.array("attributes/path_end", ends)
    writer.array("attributes/path", path_codes)
    for name, empty in (("tags", None), ("region", EVERYWHERE)):
        words, word_ends, members = inverted(_lists(items[name]), empty)
        writer.strings(f"attributes/{name}", words)
        writer.array(f"attributes/{name}_end", word_ends)
        writer.array(f"attributes/{name}_item", members)
    write_terms(writer, items)
    writer.array("attributes/created_time", created_times(items, dataset.purchases))


def write_terms(writer: BundleWriter, items: pl.DataFrame) -> None:
    """Write which items have each term in their title or in a level of their category."""
    columns = (items["title"].fill_null("").to_list(), items["category"].fill_null("").to_list())
    terms, ends, members = indexed_terms(list(zip(*columns, strict=True)))
    writer.strings("attributes/text", terms)
    writer.array("attributes/text_end", ends)
    writer.array("attributes/text_item", members)


def created_times(items: pl.DataFrame, purchases: Purchases) -> NDArray[np.int64]:
    """When each item came into the shop: as the table says, else when it was first bought.

    Microseconds UTC, NO_TIME where neither is known.
    """
    first = np.full(len(items), -NO_TIME)
    np.minimum.at(first, purchases.item, purchases.time)
    first[first == -NO_TIME] = NO_TIME
    given = items["created_time"].cast(pl.Datetime("us", "UTC")).dt.epoch("us")
    return np.where(given.is_null().to_numpy(), first, given.fill_null(0).to_numpy())


def _lists(column: pl.Series) -> list[list[str]]:
    return [list(words) if words is not None else [] for words in column.to_list()]
