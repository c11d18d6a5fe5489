"""What a piece of content is about: products by their ids, categories by paths or names.

A path links all below it. The deeper a link, the closer; a name of one level counts as deep as the
level where it is found.
"""

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.content.columns import write_columns
from feature_store.schema import CATEGORY_SEPARATOR

STRENGTHS: Final = (0.3, 1.0, 1.3)
"""How closely a link to a department, to a category in it and to what is below links."""


def write_links(
    writer: BundleWriter,
    versions: list[dict[str, Any]],
    number: dict[str, int],
    items: pl.DataFrame,
    purchased: NDArray[np.int32],
) -> None:
    """Write the links of all pieces to products and categories, and what of the shop they cover."""
    categories = items["category"].fill_null("")
    paths = categories.unique().sort().to_list()
    numbers = {path: place for place, path in enumerate(paths)}
    item_path = np.array([numbers[path] for path in categories.to_list()], np.int32)
    strengths = np.zeros((len(paths), len(number)), np.float32)
    products: list[set[int]] = [set() for _ in number]
    index = {item: place for place, item in enumerate(items["item"].to_list())}
    for row in versions:
        piece = number[row["item"]]
        products[piece] |= {index[item] for item in row["products"] or () if item in index}
        for link in row["categories"] or ():
            for path, strength in _matches(link, paths):
                place = numbers[path]
                strengths[place, piece] = max(strengths[place, piece], strength)
    share = np.bincount(item_path[purchased], minlength=len(paths)) / max(1, len(purchased))
    rows, pieces = np.nonzero(strengths)
    columns: dict[str, NDArray[np.generic]] = {
        "item_path": item_path,
        "path_starts": np.searchsorted(rows, np.arange(len(paths) + 1)).astype(np.int64),
        "path_pieces": pieces.astype(np.int32),
        "path_strengths": strengths[rows, pieces],
        "base": (share @ strengths).astype(np.float32),
        "product_starts": np.cumsum([0, *(len(each) for each in products)], dtype=np.int64),
        "product_items": np.array([item for each in products for item in sorted(each)], np.int32),
    }
    for name, values in columns.items():
        write_columns(writer, name, values)


def _matches(link: str, paths: list[str]) -> list[tuple[str, float]]:
    """The category paths that a link means, each with the strength of the link."""
    wanted = link.split(CATEGORY_SEPARATOR)
    found = []
    for path in paths:
        levels = path.split(CATEGORY_SEPARATOR)
        if levels[: len(wanted)] == wanted:
            found.append((path, _strength(len(wanted))))
        elif len(wanted) == 1 and link in levels:
            found.append((path, _strength(levels.index(link) + 1)))
    return found


def _strength(depth: int) -> float:
    return STRENGTHS[min(depth, len(STRENGTHS)) - 1]
