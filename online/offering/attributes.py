"""What items are like, as columns, and which of them a filter expression is true for.

It knows the fields of the filter language and the columns of a bundle, and no query.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle, StringTable
from feature_store.language.words import terms_of_phrase
from feature_store.schema import CATEGORY_SEPARATOR
from online.offering.expression import (
    AllOf,
    Expression,
    Not,
    Restriction,
    refused,
    restrictions_of,
)
from online.recent import Recent
from online.types import Indexes, Mask

EVERYWHERE: Final = ""
MAX_MATCHED: Final = 64
"""For how many patterns it is kept which words they match."""

WORD_COST: Final = 1_000
"""Matching a word costs about as much as comparing so many numbers."""

_ORDER: Final[dict[str, Callable[[NDArray[np.float32], np.float32], Mask]]] = {
    "=": np.equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, slots=True)
class Words:
    """The words of lists of words: ascending, and the sorted items that have each."""

    words: StringTable
    ends: NDArray[np.int64]
    items: Indexes

    def having(self, place: int) -> Indexes:
        """The items that have the word number `place`."""
        return self.items[self.ends[place - 1] if place else 0 : self.ends[place]]


@dataclass(frozen=True, slots=True)
class Attributes:
    """Item columns to filter by, memory-mapped, one entry an item.

    `brand` and `path` are numbers of `brands` and `paths`, both ascending; the nodes of the
    category tree below node n are those up to `path_end[n]`. `price`, and `margin` as a share of
    it, are NaN where unknown; `created_time` is in microseconds UTC. `text` has the terms of
    titles and categories; None: the bundle is older than they are. `matched` keeps which words a
    pattern matches.
    """

    brands: StringTable
    brand: NDArray[np.int32]
    paths: StringTable
    path: NDArray[np.int32]
    path_end: NDArray[np.int32]
    tags: Words
    regions: Words
    price: NDArray[np.float32]
    margin: NDArray[np.float32]
    available: Mask
    created_time: NDArray[np.int64]
    text: Words | None = None
    matched: Recent[tuple[StringTable, str], list[int]] = field(
        default_factory=lambda: Recent(MAX_MATCHED), repr=False, compare=False
    )

    def __len__(self) -> int:
        """The number of items."""
        return len(self.brand)

    def subtree(self, path: str) -> tuple[int, int] | None:
        """The range of nodes at and below a category path, None where there is no such path."""
        place = bisect_left(_Levels(self.paths), tuple(path.split(CATEGORY_SEPARATOR)))
        if place == len(self.paths) or self.paths[place] != path:
            return None
        return place, int(self.path_end[place])

    def department_starts(self) -> NDArray[np.int64]:
        """The nodes of the first level, ascending: each department reaches to the next one."""
        starts, node = [], 0
        while node < len(self.paths):
            starts.append(node)
            node = int(self.path_end[node])
        return np.array(starts, np.int64)

    def in_region(self, region: str) -> Mask:
        """What is sold in a region, or everywhere; shape (items,)."""
        return _having(self.regions, (EVERYWHERE, region), len(self))


def open_attributes(bundle: Bundle) -> Attributes:
    """The columns of an opened bundle."""
    column: dict[str, Any] = {name: bundle.array(f"attributes/{name}") for name in _COLUMNS}
    return Attributes(
        brands=bundle.strings("attributes/brands"),
        paths=bundle.strings("attributes/paths"),
        tags=_words(bundle, "tags"),
        regions=_words(bundle, "region"),
        price=bundle.array("items/price"),
        margin=bundle.array("items/margin"),
        available=bundle.array("items/available"),
        text=_words(bundle, "text") if "attributes/text_item" in bundle else None,
        **column,
    )


def with_room(bundle: Bundle, attributes: Attributes) -> Attributes:
    """The columns that are looked up by item, with the bundle's room; not to be filtered by."""
    return replace(
        attributes,
        brand=bundle.column("attributes/brand"),
        path=bundle.column("attributes/path"),
        created_time=bundle.column("attributes/created_time"),
    )


_COLUMNS: Final = ("brand", "path", "path_end", "created_time")


def items_where(expression: Expression, attributes: Attributes) -> Mask:
    """Which items the expression is true for, shape (items,).

    Raises RequestError for a field, comparison or value that there is not.
    """
    if isinstance(expression, Restriction):
        return _restricted(expression, attributes)
    if isinstance(expression, Not):
        return ~items_where(expression.part, attributes)
    combine = np.logical_and if isinstance(expression, AllOf) else np.logical_or
    mask = np.full(len(attributes), isinstance(expression, AllOf))
    for part in expression.parts:
        combine(mask, items_where(part, attributes), out=mask)
    return mask


def cost_of(expression: Expression, attributes: Attributes) -> int:
    """About how many numbers are compared to find the items that the expression is true for."""
    num_words = len(attributes.brands) + len(attributes.tags.words)
    return sum(
        len(attributes) + (WORD_COST * num_words if one.is_pattern else 0)
        for one in restrictions_of(expression)
    )


def _restricted(one: Restriction, attributes: Attributes) -> Mask:
    field = _FIELDS.get(one.field)
    if field is None:
        raise refused(one.position, f"no field `{one.field}`, use one of: {', '.join(_FIELDS)}")
    operators, evaluate = field
    if one.operator not in operators:
        usable = " ".join(operators)
        raise refused(one.position, f"`{one.field}` cannot be compared by {one.operator}: {usable}")
    return evaluate(one, attributes)


def _price(one: Restriction, attributes: Attributes) -> Mask:
    """Where the price is unknown, nothing is true of it, not even that it differs."""
    try:
        value = np.float32(one.value)
    except ValueError:
        raise refused(one.position, f"`price` is compared with a number, not {one.value}") from None
    if one.operator == "!=":
        differs: Mask = (attributes.price != value) & ~np.isnan(attributes.price)
        return differs
    return _ORDER[one.operator](attributes.price, value)


def _brand(one: Restriction, attributes: Attributes) -> Mask:
    if one.is_presence:
        first = int(len(attributes.brands) > 0 and attributes.brands[0] == "")
        return attributes.brand >= first
    mask: Mask = np.isin(attributes.brand, _places(attributes, attributes.brands, one))
    return ~mask if one.operator == "!=" else mask


def _category(one: Restriction, attributes: Attributes) -> Mask:
    """`=` is exactly this path, `:` is the path and all that is below it."""
    path = attributes.path
    if one.is_presence:
        empty = attributes.subtree("")
        return path != empty[0] if empty else np.ones(len(path), bool)
    nodes = attributes.subtree(one.value)
    first, end = nodes or (0, 0)
    if one.operator != ":":
        end = min(end, first + 1)
    mask: Mask = (path >= first) & (path < end)
    return ~mask if one.operator == "!=" else mask


def _tags(one: Restriction, attributes: Attributes) -> Mask:
    if one.is_presence:
        return _with_items(attributes.tags.items, len(attributes))
    places = _places(attributes, attributes.tags.words, one)
    return _with_items(_union(attributes.tags, places), len(attributes))


def _text(one: Restriction, attributes: Attributes) -> Mask:
    """Title or a level of the category path has these words next to each other."""
    if attributes.text is None:
        raise refused(one.position, "this bundle has no index of `text`; train again")
    terms = terms_of_phrase(one.value)
    if not terms:
        raise refused(one.position, f"`text` needs a word, not {one.value!r}")
    mask = np.ones(len(attributes), bool)
    for term in terms:
        mask &= _having(attributes.text, (term,), len(attributes))
    return mask


def _region(one: Restriction, attributes: Attributes) -> Mask:
    mask = attributes.in_region(one.value)
    return ~mask if one.operator == "!=" else mask


def _available(one: Restriction, attributes: Attributes) -> Mask:
    if one.value not in ("true", "false"):
        raise refused(one.position, f"`available` is true or false, not {one.value}")
    wanted = (one.value == "true") == (one.operator == "=")
    mask: Mask = attributes.available == wanted
    return mask


_FIELDS: Final[dict[str, tuple[tuple[str, ...], Callable[[Restriction, Attributes], Mask]]]] = {
    "price": (("=", "!=", "<", "<=", ">", ">="), _price),
    "brand": (("=", "!=", ":"), _brand),
    "category": (("=", "!=", ":"), _category),
    "tags": ((":",), _tags),
    "text": ((":",), _text),
    "available": (("=", "!="), _available),
    "region": (("=", "!=", ":"), _region),
}
"""The fields, by which operators each is compared, and how."""


class _Levels(Sequence[tuple[str, ...]]):
    """Category paths as tuples of levels, which is how they are sorted."""

    def __init__(self, paths: StringTable) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> tuple[str, ...]:  # type: ignore[override]  # no slices
        return tuple(self._paths[place].split(CATEGORY_SEPARATOR))


def _places(attributes: Attributes, words: StringTable, one: Restriction) -> list[int]:
    """The numbers of the words that equal the value; outside of quotes `*` stands for any text."""
    if one.is_pattern:
        return attributes.matched.get((words, one.value), lambda: _matching(words, one.value))
    place = bisect_left(words, one.value)
    return [place] if place < len(words) and words[place] == one.value else []


def _matching(words: StringTable, pattern: str) -> list[int]:
    """The numbers of the words that a pattern matches, the whole of each."""
    # What `translate` makes never goes back over what a `*` has matched.
    matches = re.compile(translate(pattern.replace("[", "[[]").replace("?", "[?]"))).match
    return [place for place, word in enumerate(words.tolist()) if matches(word)]


def _union(words: Words, places: Sequence[int]) -> Indexes:
    parts = [words.having(place) for place in places]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _having(words: Words, wanted: Sequence[str], num_items: int) -> Mask:
    places = [bisect_left(words.words, word) for word in wanted]
    hits = [
        place
        for place, word in zip(places, wanted, strict=True)
        if place < len(words.words) and words.words[place] == word
    ]
    return _with_items(_union(words, hits), num_items)


def _with_items(items: Indexes, num_items: int) -> Mask:
    mask = np.zeros(num_items, bool)
    mask[items] = True
    return mask


def _words(bundle: Bundle, name: str) -> Words:
    return Words(
        bundle.strings(f"attributes/{name}"),
        bundle.array(f"attributes/{name}_end"),
        bundle.array(f"attributes/{name}_item"),
    )
