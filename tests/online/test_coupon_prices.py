"""Records of prices: what they were made for, and what counts as spent."""

from dataclasses import replace

import numpy as np
import pytest

from feature_store.ledger import Ledger
from feature_store.store import MemoryStore
from online.catalog import Catalog
from online.coupons.live import LiveCoupons, charges_of
from tests.online.coupons import DAY, ONE, columns, coupon
from tests.online.test_coupon_shelf import NOW, PLANNED, amount, catalog, claim_of, ledger

__all__ = ["catalog", "ledger"]


def test_a_record_made_for_other_terms_begins_anew(catalog: Catalog, ledger: Ledger) -> None:
    offer, first, store = coupon("a", discount=amount(4)), np.array([1.0]), MemoryStore()
    (planned,) = PLANNED
    live = LiveCoupons(columns(catalog, offer, campaigns=PLANNED), ledger, store, first)
    live.prices(NOW)
    for number in range(12):
        ledger.claim(claim_of(live.coupons, 0, str(number), NOW))
    (risen,) = live.prices(NOW + 2 * DAY)
    for changed in (
        replace(planned, end_time=NOW + 50 * DAY),
        replace(planned, budget=200 * ONE),
        replace(planned, start_time=NOW - 4 * DAY),
    ):
        others = columns(catalog, offer, campaigns=(changed,))
        again = LiveCoupons(others, ledger, store, first)
        assert again.prices(NOW + 2 * DAY).tolist() == [1.0] != [risen]
        (later,) = again.prices(NOW + 3 * DAY)
        assert later != 1.0, "it goes on"
    back = LiveCoupons(others, ledger, store, first)
    assert back.prices(NOW).tolist() == [1.0], "the clock went back"
    assert back.prices(NOW + DAY).tolist() != [1.0]


def test_what_mails_are_expected_to_take_is_not_left(catalog: Catalog, ledger: Ledger) -> None:
    coupons = columns(catalog, coupon("a", discount=amount(4)), campaigns=PLANNED)
    first = np.array([1.0])
    live, plain = (LiveCoupons(coupons, ledger, MemoryStore(), first) for _ in range(2))
    assert live.prices(NOW) == plain.prices(NOW) == [1.0]
    for number in range(6):
        ledger.claim(claim_of(coupons, 0, str(number), NOW))
    (unmailed,) = plain.prices(NOW + DAY)
    (_, _, charge) = charges_of(coupons, 0, "user/x")
    assert ledger.reserve_expected("m", charge, 40 * ONE, NOW, NOW + 9 * DAY)
    (mailed,) = live.prices(NOW + DAY)
    assert mailed == pytest.approx(unmailed * 76 / 36, rel=0.05), "for what is left alone"
