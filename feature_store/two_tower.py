"""The two-tower in a bundle: its files, what the ranker hears of it, an item's features in words.

Training describes items by these words, and serving a product that came after it, so that both
mean the same. It knows neither how the towers are learned nor how they are asked.
"""

import math
import re
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.ids import hash64_many
from feature_store.ranking import RATED_SOURCES
from feature_store.schema import CATEGORY_SEPARATOR

SOURCE: Final = "two_tower"

USER_TOWER: Final = f"{SOURCE}/user.onnx"
"""Inputs `vectors` (B, L, d) and `salience` (B, L) of a history, oldest first, and `strength`
(B, L), how much the user had of each, 0 for no item; output `user` (B, d), of length 1."""

SETTINGS: Final = f"{SOURCE}/settings.json"
INDEX: Final = f"{SOURCE}/index.faiss"
VECTORS: Final = f"{SOURCE}/vectors"
"""Item vectors of length 1, for the index; times LENGTH they are what the user tower takes."""

LENGTH: Final = f"{SOURCE}/length"
SALIENCE: Final = f"{SOURCE}/salience"
BUCKETS: Final = f"{SOURCE}/buckets"
"""The buckets of features that items share, ascending; the two below have a row for each."""

BUCKET_VECTORS: Final = f"{SOURCE}/bucket_vectors"
BUCKET_SALIENCE: Final = f"{SOURCE}/bucket_salience"

BANDS_PER_DOUBLING: Final = 2
WORD: Final = re.compile(r"[^\W_]+")


def has_two_tower(bundle: Bundle) -> bool:
    """Whether the bundle's recipe asked for it."""
    return USER_TOWER in bundle.manifest.files


def rated_with(*, two_tower: bool) -> tuple[str, ...]:
    """The sources whose scores and ranks are features of the ranker."""
    return (*RATED_SOURCES, SOURCE) if two_tower else RATED_SOURCES


def rated_sources(bundle: Bundle) -> tuple[str, ...]:
    """Those of a bundle's ranker."""
    return rated_with(two_tower=has_two_tower(bundle))


def item_words(category: str, brand: str, title: str, price: float) -> Iterator[str]:
    """What the catalogue says of an item, in words, each once; a price of NaN is not known.

    The first word of a brand is taken for its label, such as that of all house brands.
    """
    levels = [level for level in category.split(CATEGORY_SEPARATOR) if level]
    for depth in range(len(levels)):
        yield f"category={CATEGORY_SEPARATOR.join(levels[: depth + 1])}"
    for label in brand.split()[:1]:
        yield f"brand={brand}"
        yield f"label={label}"
        if levels:
            yield f"brand in category={brand} {levels[-1]}"
            yield f"label in category={label} {category}"
    if price > 0:
        yield f"price={math.floor(BANDS_PER_DOUBLING * math.log2(price))}"
    if title:
        yield f"title={title}"
    for word in sorted(set(WORD.findall(title.lower()))):
        yield f"word={word}"


def buckets_of(words: list[str], num_buckets: int) -> NDArray[np.int64]:
    """The bucket of each word, from 0 to below `num_buckets`; shape (words,)."""
    return (hash64_many(words) % np.uint64(num_buckets)).astype(np.int64)
