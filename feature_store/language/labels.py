"""What models of language tell apart, each name spelled once.

Training texts, bundles and answers use these names. It knows no model.
"""

from enum import StrEnum


class Intent(StrEnum):
    """What a shopper wants of the chatbot."""

    FIND_PRODUCT = "find_product"
    REFINE = "refine"
    COMPARE = "compare"
    NEW_ARRIVALS = "new_arrivals"
    BEST_SELLERS = "best_sellers"
    BOUGHT_TOGETHER = "bought_together"
    BUY_AGAIN = "buy_again"
    GIFT = "gift"
    DEALS = "deals"
    PRODUCT_QUESTION = "product_question"
    ORDER_DELIVERY = "order_delivery"
    RETURNS_WARRANTY = "returns_warranty"
    COMPLAINT = "complaint"
    GREETING = "greeting"
    THANKS = "thanks"
    HUMAN = "human"
    WHY_THIS = "why_this"
    NOT_THIS = "not_this"
    OUT_OF_SCOPE = "out_of_scope"


class SlotKind(StrEnum):
    """What a part of an utterance says of the products meant."""

    CATEGORY = "category"
    BRAND = "brand"
    MAX_PRICE = "max_price"
    MIN_PRICE = "min_price"
    QUANTITY = "quantity"
    SIZE = "size"
    FOR_WHOM = "for_whom"
    OCCASION = "occasion"
    TAG = "tag"
    WITHOUT = "without"
    CHEAPER = "cheaper"
    OTHER_BRAND = "other_brand"
    ORDINAL = "ordinal"


class Feeling(StrEnum):
    """What an utterance feels like; neutral: a request or a fact."""

    NEGATIVE = "negative"
    NEUTRAL = "neutral"
    POSITIVE = "positive"
