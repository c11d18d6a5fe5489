"""What of the coupons is used up: by everybody, and by who asks. As columns, beside the coupons.

Filled from the ledger; empty for an evaluation, which claims nothing. It knows no ledger.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from online.coupons.columns import Coupons, Micros
from online.types import Mask

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all users together: claims by coupon, and micros reserved or settled.

    `spent` is by coupon, `campaign_spent` by campaign and also holds what is expected of mails.
    """

    claims: NDArray[np.int64]
    spent: Micros
    campaign_spent: Micros


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of one user: how many claims count against the cap of each coupon, and what is open.

    `claims` is by coupon, shape (coupons,); `open_claims` has the id of the open claim of each
    coupon that the user holds, by the coupon's place.
    """

    claims: NDArray[np.int64]
    open_claims: dict[int, str]


class Use(Protocol):
    """What a shelf asks for each answer. Raises LedgerError and StoreError."""

    def usage(self) -> Usage:
        """What is used up."""

    def holdings(self, name: str, now_time: int, /) -> Holdings:
        """What a user or visit, named as in `Known.name`, has claimed."""

    def prices(self, now_time: int, /) -> Floats:
        """The shadow prices of money, in the order of `Coupons.budgets`."""

    def note(self, value: Floats, cost: Floats, shown: Mask) -> None:
        """Remember what a visitor could be shown: value and cost of each coupon."""


def nothing_used(coupons: Coupons) -> Usage:
    """Where nobody has claimed anything."""
    zeros = np.zeros(len(coupons), np.int64)
    return Usage(zeros, zeros, np.zeros(len(coupons.campaigns), np.int64))


def holds_nothing(coupons: Coupons) -> Holdings:
    """Where this user has claimed nothing."""
    return Holdings(np.zeros(len(coupons), np.int64), {})
