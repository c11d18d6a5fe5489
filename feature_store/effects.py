"""What each kind of event does to a state, by the kind's code.

Spelled once for the two ways of changing a state: many events at once
(`feature_store.features`) and few (`feature_store.stepwise`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import EVENT_KIND_CODE, EVENT_KINDS, EventKind

PURCHASE: Final = EVENT_KIND_CODE[EventKind.PURCHASE]

ENGAGEMENT_HALF_LIFE_DAYS: Final = 7.0
ENGAGEMENT_WEIGHT: Final = {
    EventKind.VIEW: 1.0,
    EventKind.CLICK: 1.0,
    EventKind.CONTENT_READ: 1.0,
    EventKind.MAIL_CLICK: 1.0,
    EventKind.COUPON_CLAIM: 2.0,
    EventKind.CART_ADD: 3.0,
}
FEEDBACK: Final = {EventKind.LIKE: 1, EventKind.DISLIKE: -1, EventKind.NOT_INTERESTED: -1}
SHOWN_KINDS: Final = (EventKind.IMPRESSION, EventKind.MAIL_SENT)


def _by_code(values: dict[EventKind, float] | dict[EventKind, int]) -> NDArray[np.float32]:
    return np.array([values.get(kind, 0) for kind in EVENT_KINDS], np.float32)


ENGAGEMENT_BY_CODE: Final = _by_code(ENGAGEMENT_WEIGHT)
FEEDBACK_BY_CODE: Final = _by_code(FEEDBACK).astype(np.int32)
IS_SHOWN: Final = np.array([kind in SHOWN_KINDS for kind in EVENT_KINDS])
