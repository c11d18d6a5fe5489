"""Texts of items as codes: vocabularies, the category tree, which items have which words.

What training writes of a whole catalogue and what serving makes of a few changed products is made
here, so that a filter means the same for both. It knows lists of texts, and no table.
"""

from array import array

import numpy as np
from numpy.typing import NDArray

from feature_store.language.words import terms_of
from feature_store.schema import CATEGORY_SEPARATOR


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
