"""What the cards of an answer say, which is all that its text may say of products and prices.

It reads the catalogue and the cards, and no utterance.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.language.titles import NAMES_FILE, TITLES, TYPE
from feature_store.schema import CATEGORY_SEPARATOR, Corpus
from online.catalog import Catalog
from online.explain import reasons
from online.types import ContentDetail, CouponDetail, SlateItem

MICROS: Final = 1_000_000
"""Money is kept in millionths of the currency's unit."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the shop's products are called: for telling that a text names one.

    `titles` are the 64-bit hashes of the titles of two words and more, ascending, `max_words`
    the length of the longest; `names` are the categories' names by language and path.
    """

    titles: NDArray[np.uint64]
    max_words: int
    brands: frozenset[str]
    names: dict[str, dict[str, str]]

    def category(self, path: str, language: str) -> str:
        """What a path's category is called: as its last level says where nobody translated it."""
        levels = path.split(CATEGORY_SEPARATOR)
        listed = self.names.get(language, {})
        keys = ((TYPE, levels[-1]), levels, levels[:2])
        found = (listed.get(CATEGORY_SEPARATOR.join(key), "") for key in keys)
        own = re.split(r"[/(,:-]", levels[-1])[0].strip().capitalize()
        return next(filter(None, found), own)


def open_vocabulary(bundle: Bundle) -> Vocabulary | None:
    """The vocabulary of an opened bundle; None when it is older than the chat."""
    if TITLES not in bundle:
        return None
    told = bundle.json(NAMES_FILE)
    brands = (name for name in bundle.strings("attributes/brands").tolist() if name)
    return Vocabulary(bundle.array(TITLES), told["max_words"], frozenset(brands), told["names"])


@dataclass(frozen=True, slots=True)
class Shown:
    """One card: what it is called and costs, and all of its text. `price` None: none is known."""

    item: str
    corpus: Corpus
    title: str
    price: Decimal | None = None
    brand: str = ""
    category: str = ""
    reason: str = ""
    text: str = ""

    @property
    def everything(self) -> str:
        """All that stands on the card."""
        parts = (self.title, self.brand, self.category, self.reason, self.text)
        return "\n".join(part for part in parts if part)


def shown_of(items: Sequence[SlateItem], catalog: Catalog, language: str) -> list[Shown]:
    """The cards of a slate, as they can be read."""
    indexes = catalog.indexes_of([item.item for item in items]).tolist()
    return [
        _shown(item, catalog, index, language) for item, index in zip(items, indexes, strict=True)
    ]


def _shown(item: SlateItem, catalog: Catalog, index: int, language: str) -> Shown:
    reason = reasons.text(item.reason, language)
    if item.card is not None:
        return Shown(
            item=item.item,
            corpus=item.corpus,
            title=item.card.title,
            category=item.card.category,
            reason=reason,
            text=_detail_text(item),
        )
    if item.corpus is not Corpus.PRODUCT or index < 0:
        return Shown(item.item, item.corpus, item.item, reason=reason)
    return Shown(
        item=item.item,
        corpus=item.corpus,
        title=catalog.title[index] or item.item,
        price=price_of(catalog, index),
        brand=catalog.brand[index],
        category=catalog.category[index],
        reason=reason,
    )


def price_of(catalog: Catalog, index: int) -> Decimal | None:
    """What a product costs, to the cent; None where it is not known."""
    price = float(catalog.price[index])
    return None if math.isnan(price) else Decimal(round(price * 100)) / 100


def _detail_text(item: SlateItem) -> str:
    """What the card says beside its title: a summary, or terms and what they come to."""
    detail = item.card.detail if item.card is not None else None
    if isinstance(detail, ContentDetail):
        return detail.summary
    if not isinstance(detail, CouponDetail):
        return ""
    sums = (detail.saving, detail.minimum_basket, detail.missing)
    return "\n".join((detail.terms, *(f"{sum_ / MICROS:.2f}" for sum_ in sums if sum_)))
