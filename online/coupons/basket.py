"""The basket of a request in money, and what each coupon gives on it.

Sums are exact: a line is rounded to the currency's cent once, as the till does, and what a share of
the price gives is rounded half up. It knows the catalogue's prices and no rule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_store.coupons import CENT, MICROS, DiscountKind
from online.catalog import Catalog
from online.coupons.columns import Coupons, Micros
from online.types import BasketLine, Indexes

NOT_KNOWN: Final = -1
"""In the place of an amount that cannot be said yet."""


@dataclass(frozen=True, slots=True)
class Basket:
    """The lines of a basket: product indexes, -1 for what the bundle lacks, and micros."""

    items: Indexes
    amounts: Micros

    @property
    def total(self) -> int:
        """What all of it costs, micros."""
        return int(self.amounts.sum())

    def __len__(self) -> int:
        """The number of lines."""
        return len(self.items)


def read_basket(lines: Sequence[BasketLine], catalog: Catalog) -> Basket:
    """The lines in money: their own amounts, else the catalogue's price times the quantity.

    What has neither costs nothing as far as one knows.
    """
    items = catalog.indexes_of([line.item for line in lines])
    amounts = [
        _amount(line, catalog, index) for line, index in zip(lines, items.tolist(), strict=True)
    ]
    return Basket(items, np.array(amounts, np.int64))


def _amount(line: BasketLine, catalog: Catalog, index: int) -> int:
    if line.amount is not None:
        return line.amount
    price = float(catalog.price[index]) if index >= 0 else math.nan
    if math.isnan(price):
        return 0
    return CENT * math.floor(round(price * 100) * line.quantity + 0.5)


def covered(coupons: Coupons, basket: Basket) -> Micros:
    """What the part of the basket costs that each coupon is good for, shape (coupons,)."""
    named, lines = coupons.good_for(basket.items)
    sums = np.bincount(named, basket.amounts.take(lines), len(coupons))
    sums[coupons.places_for_all] = basket.total
    return sums.astype(np.int64)  # exact: below 2^53 micros


def saving(coupons: Coupons, place: int, amount: int, price: float) -> int:
    """What a coupon gives on a basket of which it covers `amount` micros; -1: not known.

    `price` is that of its gift, NaN where there is none. What a delivery costs is not known.
    """
    discount = coupons.coupons[place].discount
    if discount.kind is DiscountKind.FREE_DELIVERY:
        return NOT_KNOWN
    if discount.kind is DiscountKind.GIFT:
        worth = NOT_KNOWN if math.isnan(price) else CENT * round(price * 100)
        return worth if discount.maximum is None else min(worth, discount.maximum)
    if discount.kind is DiscountKind.PERCENT:
        given = CENT * ((amount * discount.basis_points + 5_000 * CENT) // (10_000 * CENT))
    else:
        given = min(amount, discount.amount)
    return given if discount.maximum is None else min(given, discount.maximum)


def as_text(micros: int) -> str:
    """An amount as a person reads it, two digits after the point."""
    cents = (micros + CENT // 2) // CENT
    return f"{cents // 100}.{cents % 100:02}"


def units_and_nanos(micros: int) -> tuple[int, int]:
    """An amount as the contract has it."""
    return micros // MICROS, micros % MICROS * 1_000
