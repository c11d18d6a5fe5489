"""What filters and rules ask of items, as columns of a bundle.

Text becomes codes here once, so that serving compares numbers. It knows the product table, and
not the filter language.
"""

from array import array

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.language.words import terms_of
from feature_store.schema import CATEGORY_SEPARATOR
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


def coded(values: list[str]) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct values in ascending order, and the number of each value among them."""
    distinct = sorted(set(values))
    numbers = {value: number for number, value in enumerate(distinct)}
    return distinct, np.array([numbers[value] for value in values], np.int32)


def category_tree(
    paths: list[str],
) -> tuple[list[str], NDArray[np.int32], NDArray[np.int32]]:
    """All nodes of the tree in preorder, the node of each path, and where each subtree ends.

    The subtree of node n are the nodes from n up to, not including, `ends[n]`.
    """
    levels = {path: tuple(path.split(CATEGORY_SEPARATOR)) for path in set(paths)}
    nodes = sorted({full[:depth] for full in levels.values() for depth in range(1, len(full) + 1)})
    numbers = {node: number for number, node in enumerate(nodes)}
    ends = np.arange(1, len(nodes) + 1, dtype=np.int32)
    for node in reversed(nodes):
        if len(node) > 1:
            parent = numbers[node[:-1]]
            ends[parent] = max(ends[parent], ends[numbers[node]])
    codes = {path: numbers[full] for path, full in levels.items()}
    names = [CATEGORY_SEPARATOR.join(node) for node in nodes]
    return names, np.array([codes[path] for path in paths], np.int32), ends


def inverted(
    lists: list[list[str]], empty: str | None
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int32]]:
    """The distinct words ascending, and the ascending positions of the lists that hold each.

    Positions lie end to end, those of word w before `ends[w]`. `empty` stands for a word in
    lists without words.
    """
    no_words = set() if empty is None else {empty}
    pairs = [
        (word, position)
        for position, words in enumerate(lists)
        for word in (set(words) or no_words)
    ]
    words, codes = coded([word for word, _ in pairs])
    positions = np.array([position for _, position in pairs], np.int32)
    order = np.lexsort((positions, codes))
    ends = np.cumsum(np.bincount(codes, minlength=len(words)), dtype=np.int64)
    return words, ends, positions[order]


def write_terms(writer: BundleWriter, items: pl.DataFrame) -> None:
    """Write which items have each term in their title or in a level of their category."""
    columns = (items["title"].fill_null("").to_list(), items["category"].fill_null("").to_list())
    terms, ends, members = indexed_terms(list(zip(*columns, strict=True)))
    writer.strings("attributes/text", terms)
    writer.array("attributes/text_end", ends)
    writer.array("attributes/text_item", members)


def indexed_terms(
    texts: list[tuple[str, str]],
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int32]]:
    """As `inverted`, of the terms of titles and category paths; no pair crosses their borders."""
    numbers: dict[str, int] = {}
    found: dict[tuple[str, str], list[int]] = {}
    codes, positions = array("q"), array("q")
    for position, pair in enumerate(texts):
        if pair not in found:
            parts = (pair[0], *pair[1].split(CATEGORY_SEPARATOR))
            own = set().union(*map(terms_of, parts))
            found[pair] = [numbers.setdefault(term, len(numbers)) for term in own]
        codes.extend(found[pair])
        positions.extend([position] * len(found[pair]))
    order = sorted(numbers)
    rank = np.empty(len(order), np.int64)
    rank[[numbers[term] for term in order]] = np.arange(len(order))
    ranks, rows = rank[np.frombuffer(codes, np.int64)], np.frombuffer(positions, np.int64)
    ends = np.cumsum(np.bincount(ranks, minlength=len(order)), dtype=np.int64)
    return order, ends, rows[np.argsort(ranks, kind="stable")].astype(np.int32)


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
