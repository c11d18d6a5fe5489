"""What the chat must know of names: the hashes of titles, and what categories are called.

Written into every bundle; category names come from the demo shop's list where the paths are its.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from feature_store.bundle import BundleWriter
from feature_store.ids import hash64_many
from feature_store.language.titles import NAMES_FILE, TITLES, TYPE, title_key
from feature_store.schema import CATEGORY_SEPARATOR
from offline.dataset import Dataset

CHINESE_NAMES: Final = Path(__file__).parents[1] / "texts" / "catalogue_zh.tsv"
MIN_WORDS: Final = 2
"""A title of one word is a word of the language too."""


def write_vocabulary(writer: BundleWriter, dataset: Dataset) -> None:
    """Write the section that `online.chat.facts.open_vocabulary` reads."""
    titles = sorted(hashable_titles(dataset.items["title"].fill_null("").to_list()))
    hashes = np.sort(hash64_many(titles)) if titles else np.zeros(0, np.uint64)
    writer.array(TITLES, hashes)
    max_words = max((title.count(" ") + 1 for title in titles), default=0)
    paths = set(dataset.items["category"].fill_null("").to_list())
    names = {"zh": chinese_names(paths)}
    writer.json(NAMES_FILE, {"max_words": max_words, "names": names})


def hashable_titles(titles: Iterable[str]) -> set[str]:
    """Titles of two words and more as they are hashed, also without what follows a comma."""
    whole = set(titles)
    heads = {title.partition(",")[0] for title in whole}
    keys = map(title_key, whole | heads)
    return {key for key in keys if key.count(" ") + 1 >= MIN_WORDS}


def chinese_names(paths: Iterable[str]) -> dict[str, str]:
    """The Chinese name of each path, or path above one, that the list has."""
    listed = dict(_rows(CHINESE_NAMES.read_text().splitlines()))
    levels = {tuple(path.split(CATEGORY_SEPARATOR)) for path in paths}
    heads = {CATEGORY_SEPARATOR.join(path[:depth]) for path in levels for depth in (1, 2, 3)}
    types = {CATEGORY_SEPARATOR.join((TYPE, path[-1])) for path in levels}
    return {path: listed[path] for path in sorted(heads | types) if path in listed}


def _rows(lines: Sequence[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        *levels, names = line.split("\t")
        yield CATEGORY_SEPARATOR.join(levels), names.partition("|")[0]
