"""A product as it is now: what the bundle says of it, and over that what was changed since.

It knows the fields of the catalogue's log and the columns of a bundle, and no request.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.bundle import StringTable
from feature_store.catalog_log import LoggedChange
from online.catalog import Catalog
from online.offering.attributes import Attributes, Words


@dataclass(frozen=True, slots=True)
class Product:
    """One product. `price` is NaN where unknown, `created_time` in microseconds UTC.

    `is_sold`: it can be bought now; one that was deleted cannot.
    """

    item: str
    title: str = ""
    category: str = ""
    brand: str = ""
    price: float = math.nan
    tags: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    image_url: str = ""
    url: str = ""
    is_sold: bool = True
    created_time: int = 0


def product_of(logged: LoggedChange, kept: Product | None) -> Product:
    """A product after a change; `kept` is what the bundle has of it, None for nothing."""
    change = logged.change
    base = kept if kept is not None and not change.is_whole else Product(logged.item)
    return Product(
        item=logged.item,
        title=_text(change.fields, "title", base.title),
        category=_text(change.fields, "category", base.category),
        brand=_text(change.fields, "brand", base.brand),
        price=_price(change.fields, base.price),
        tags=_texts(change.fields, "tags", base.tags),
        region=_texts(change.fields, "region", base.region),
        image_url=_text(change.fields, "image_url", base.image_url),
        url=_text(change.fields, "url", base.url),
        is_sold=not change.is_deleted and _is_sold(change.fields, base.is_sold),
        created_time=_created(logged, kept),
    )


def kept_product(catalog: Catalog, attributes: Attributes, index: int) -> Product:
    """A product as the bundle has it."""
    return Product(
        item=catalog.ids[index],
        title=catalog.title[index],
        category=catalog.category[index],
        brand=catalog.brand[index],
        price=float(catalog.price[index]),
        tags=_words_of(attributes.tags, index),
        region=tuple(filter(None, _words_of(attributes.regions, index))),
        image_url=catalog.image_url[index],
        url=catalog.url[index],
        is_sold=bool(catalog.available[index]),
        created_time=int(attributes.created_time[index]),
    )


def _text(fields: Mapping[str, Any], name: str, base: str) -> str:
    return str(fields[name] or "") if name in fields else base


def _texts(fields: Mapping[str, Any], name: str, base: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(fields[name] or ()) if name in fields else base


def _price(fields: Mapping[str, Any], base: float) -> float:
    price = fields.get("price", base)
    return math.nan if price is None else float(price)


def _is_sold(fields: Mapping[str, Any], base: bool) -> bool:
    """In stock, as far as one knows; a number of 0 says no whatever the flag says."""
    if fields.get("num_in_stock") == 0:
        return False
    available = fields.get("available", base)
    return True if available is None else bool(available)


def _created(logged: LoggedChange, kept: Product | None) -> int:
    given = logged.change.fields.get("created_time")
    if given is not None:
        return int(given)
    return logged.first_time if kept is None else kept.created_time


def _words_of(words: Words, index: int) -> tuple[str, ...]:
    places = np.flatnonzero(words.items == index)
    numbers = np.searchsorted(words.ends, places, side="right")
    table: StringTable = words.words
    return tuple(table[number] for number in numbers.tolist())
