"""What a page shows of an item, as messages: products from the catalogue, others from their cards.

It knows the messages and the columns, and no request.
"""

import math

from aisle.v1 import recommendation_pb2, slate_pb2
from online.catalog import Catalog
from online.service.coupon_messages import write_coupon
from online.types import Card, ContentDetail, CouponDetail, Slate


def write_displays(
    response: recommendation_pb2.RecommendResponse, slate: Slate, catalog: Catalog, currency: str
) -> None:
    """What a page shows of each item, which makes the answer's view full.

    Products are looked up by id, since `catalog` may be newer than the slate.
    """
    indexes = catalog.indexes_of([item.item_id for item in response.items])
    for item, place, index in zip(response.items, slate.items, indexes.tolist(), strict=True):
        if place.card is not None:
            write_card(item, place.card, currency)
        elif index >= 0:
            write_product(item.display, catalog, index, currency)


def write_card(item: slate_pb2.RecommendedItem, card: Card, currency: str) -> None:
    """What is shown of an item that is no product, money in the shop's currency."""
    write_head(item.display, card)
    if isinstance(card.detail, ContentDetail):
        write_content(item.content, card.detail)
    if isinstance(card.detail, CouponDetail):
        write_coupon(item.coupon, card.detail, currency)


def write_head(display: slate_pb2.Display, card: Card) -> None:
    """What all cards have."""
    display.title = card.title
    display.category = card.category
    display.image_url = card.image_url
    display.url = card.url


def write_content(message: slate_pb2.ContentDetail, detail: ContentDetail) -> None:
    """What a piece of content has beyond that."""
    message.kind = detail.kind
    message.locale = detail.language
    message.summary = detail.summary
    message.product_ids.extend(detail.product_ids)
    if detail.publish_time:
        message.publish_time.FromMicroseconds(detail.publish_time)


def write_product(display: slate_pb2.Display, catalog: Catalog, index: int, currency: str) -> None:
    """What is shown of a product, with prices in the shop's currency."""
    display.title = catalog.title[index]
    display.category = catalog.category[index]
    display.brand = catalog.brand[index]
    display.image_url = catalog.image_url[index]
    display.url = catalog.url[index]
    price = float(catalog.price[index])
    if not math.isnan(price):
        cents = round(price * 100)  # prices are float32: more digits are noise
        display.price.currency_code = currency
        display.price.units = cents // 100
        display.price.nanos = cents % 100 * 10_000_000
