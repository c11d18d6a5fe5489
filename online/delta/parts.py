"""Changed and new products as small tables, by which the allowed sets of a bundle are patched.

A set is compiled once over the whole catalogue and kept. What changed is judged by the same rules
in its own table, a handful of rows, and then a few bits are set or cleared. It knows products and
sets, and not who asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_store.bundle import string_table
from feature_store.codes import category_tree, coded, indexed_terms, inverted
from online.delta.products import Product
from online.offering.attributes import EVERYWHERE, Attributes, Words, items_where
from online.offering.expression import parse
from online.offering.offer import AllowedSet
from online.offering.rules import Rule
from online.types import Indexes, Mask

GROWTH: Final = 2
"""A part is merged with the one before it when that one is not this much larger."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some products and where they stand: `index` ascending, one entry a product.

    `attributes.available` says what can be bought.
    """

    index: Indexes
    products: tuple[Product, ...]
    attributes: Attributes

    def where(self, filter_text: str, region: str = "") -> Mask:
        """Which products pass a filter and are sold in a region, shape (products,).

        Raises RequestError for a filter that is wrong.
        """
        mask = items_where(parse(filter_text), self.attributes)
        return mask & self.attributes.in_region(region) if region else mask

    def concerned(self, rule: Rule) -> Mask:
        """Which products a rule concerns."""
        mask = np.isin([product.item for product in self.products], rule.items)
        return mask | self.where(rule.filter) if rule.filter else mask


def part_of(products: Mapping[int, Product]) -> Part:
    """The table of some products by index."""
    index = np.array(sorted(products), np.int32)
    rows = tuple(products[place] for place in index.tolist())
    brands, brand = coded([row.brand for row in rows])
    paths, path, path_end = category_tree([row.category for row in rows])
    return Part(
        index,
        rows,
        Attributes(
            brands=string_table(brands),
            brand=brand,
            paths=string_table(paths),
            path=path,
            path_end=path_end,
            tags=_words(*inverted([list(row.tags) for row in rows], None)),
            regions=_words(*inverted([list(row.region) for row in rows], EVERYWHERE)),
            price=np.array([row.price for row in rows], np.float32),
            margin=np.full(len(rows), np.nan, np.float32),
            available=np.array([row.is_sold for row in rows], bool),
            created_time=np.array([row.created_time for row in rows], np.int64),
            text=_words(*indexed_terms([(row.title, row.category) for row in rows])),
        ),
    )


def with_part(parts: Sequence[Part], products: Mapping[int, Product]) -> tuple[Part, ...]:
    """The parts with newer products, which count before those of the same index.

    Small neighbours are merged, so that there are few parts and each product is put into a
    table only a few times.
    """
    kept, newest = list(parts), dict(products)
    while kept and len(kept[-1].index) <= GROWTH * len(newest):
        last = kept.pop()
        newest = {**dict(zip(last.index.tolist(), last.products, strict=True)), **newest}
    return (*kept, part_of(newest))


def patched(
    allowed: AllowedSet, parts: Sequence[Part], holds: Sequence[Mask], num_items: int
) -> AllowedSet:
    """The set of a bundle with what holds of the products of each part, oldest part first."""
    bits = np.zeros((num_items + 7) // 8, np.uint8)
    bits[: len(allowed.bits)] = allowed.bits
    size = allowed.size
    for part, mask in zip(parts, holds, strict=True):
        byte, bit = part.index >> 3, (1 << (part.index & 7)).astype(np.uint8)
        size += int(np.count_nonzero(mask)) - int(np.count_nonzero(bits[byte] & bit))
        np.bitwise_and.at(bits, byte, ~bit)
        np.bitwise_or.at(bits, byte[mask], bit[mask])
    few = allowed.few
    if few is not None:
        few = np.unique(np.concatenate((few, *(part.index for part in parts))))
        few = few[(bits[few >> 3] >> (few & 7).astype(np.uint8)) & 1 != 0]
    return AllowedSet(bits, num_items, size, few)


def _words(words: list[str], ends: np.typing.NDArray[np.int64], items: Indexes) -> Words:
    return Words(string_table(words), ends, items)
