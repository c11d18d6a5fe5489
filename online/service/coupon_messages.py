"""Coupons and money as messages: what the contract says of them, to values and back.

Amounts are exact on both sides: what is finer than a millionth, or in another currency than the
shop's, is refused and never rounded.
"""

from typing import Final

from aisle.v1 import context_pb2, discount_pb2, money_pb2, slate_pb2
from feature_store.coupons import MICROS, Discount, DiscountKind
from feature_store.ledger import MAX_MICROS
from online.coupons.basket import units_and_nanos
from online.errors import RequestError
from online.types import BasketLine, CouponDetail

NANOS_IN_MICRO: Final = 1_000


def read_money(message: money_pb2.Money, currency: str, field: str) -> int:
    """An amount in micros. Raises RequestError, naming the field.

    `currency` is the shop's; empty: any is taken.
    """
    if message.currency_code and currency and message.currency_code != currency:
        raise RequestError(f"{field}.currency_code", f"this shop's currency is {currency}")
    if message.nanos % NANOS_IN_MICRO:
        raise RequestError(f"{field}.nanos", "is finer than a millionth of a unit")
    micros = message.units * MICROS + message.nanos // NANOS_IN_MICRO
    if micros > MAX_MICROS:
        raise RequestError(field, f"is more than {MAX_MICROS // MICROS} units")
    return micros


def write_money(message: money_pb2.Money, micros: int, currency: str) -> None:
    """An amount of the shop's currency."""
    message.currency_code = currency
    message.units, message.nanos = units_and_nanos(micros)


def read_basket_lines(context: context_pb2.Context, currency: str) -> tuple[BasketLine, ...]:
    """The basket in money. Raises RequestError."""
    return tuple(
        BasketLine(
            item=line.item_id,
            quantity=line.quantity or 1.0,
            amount=read_money(line.amount, currency, f"context.basket[{position}].amount")
            if line.HasField("amount")
            else None,
        )
        for position, line in enumerate(context.basket)
    )


def write_coupon(message: slate_pb2.CouponDetail, detail: CouponDetail, currency: str) -> None:
    """What an offer has beyond its title; what does not apply stays absent."""
    write_discount(message.discount, detail.discount, currency)
    message.terms = detail.terms
    message.claim_id = detail.claim_id
    for field, micros in (
        ("saving", detail.saving),
        ("minimum_basket", detail.minimum_basket),
        ("missing_amount", detail.missing),
    ):
        if micros:
            write_money(getattr(message, field), micros, currency)
    if detail.end_time:
        message.end_time.FromMicroseconds(detail.end_time)


def write_discount(message: discount_pb2.Discount, discount: Discount, currency: str) -> None:
    """What an offer gives."""
    if discount.kind is DiscountKind.PERCENT:
        message.basis_points = discount.basis_points
    elif discount.kind is DiscountKind.AMOUNT:
        write_money(message.amount, discount.amount, currency)
    elif discount.kind is DiscountKind.GIFT:
        message.gift_item_id = discount.gift_item
    else:
        message.free_delivery = True
    if discount.maximum is not None:
        write_money(message.maximum, discount.maximum, currency)
