"""What training makes of coupon tables: known answers, and the section as it is read back."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, BundleWriter
from feature_store.coupons import (
    COUPONS_FILE,
    GOODS,
    GOODS_END,
    MODELS_FILE,
    NOTHING_LEARNED,
    Coupon,
    Discount,
    DiscountKind,
    Learned,
    Model,
    decode_coupons,
    decode_learned,
)
from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, Table
from offline.coupons.dataset import REDEMPTION_SCHEMA, CouponData
from offline.coupons.section import write_coupons
from offline.coupons.values import (
    FALLBACK_RATE,
    FALLBACK_VALUE,
    MARGIN_SHARE,
    PRIOR_TRIALS,
    base_rates,
    basket_margin,
    coupon_values,
)
from offline.ingest.tables import polars_schema

SPRING = datetime(2024, 3, 1, tzinfo=UTC)


def rows(table: Table, *given: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [{name: one.get(name) for name in table.names} for one in given],
        schema=polars_schema(table),
    )


def coupon(item: str, campaign: str = "a", **fields: Any) -> dict[str, Any]:
    fixed = {"item": item, "campaign": campaign, "title": item, "discount": "amount"}
    return {**fixed, **fields}


def redeemed(*given: tuple[str, str, float | None, float | None]) -> pl.DataFrame:
    """Redemptions as user, coupon, what it gave, and the basket's amount."""
    times = [(user, item, SPRING, price, basket) for user, item, price, basket in given]
    return pl.DataFrame(times, REDEMPTION_SCHEMA, orient="row")


ITEMS = pl.DataFrame(
    {
        "item": ["p1", "p2", "p3", "p4"],
        "category": ["Food > Fruit", "Food", "Foodstuff > Salt", None],
    }
)
DATA = CouponData(
    campaigns=rows(
        CAMPAIGNS,
        {"campaign": "a", "kind": "A", "start_time": SPRING, "budget": 10.01},
        {"campaign": "b", "kind": "A"},
        {"campaign": "c", "kind": "C"},
    ),
    coupons=rows(
        COUPONS,
        coupon("a1", products=["p1", "gone"]),
        coupon("a2", value=2.5, categories=["Food"]),
        coupon("b1", "b", products=["gone"]),
        coupon("c1", "c", discount="percent", value=12.5, maximum=3.0, minimum_basket=20.1),
    ),
    audiences=rows(AUDIENCES, *({"campaign": "a", "user": str(n)} for n in range(10))),
    redemptions=redeemed(
        ("u", "a1", 1.0, 40.0), ("v", "a1", 3.0, 80.0), ("w", "a1", 1.25, None), ("x", "a2", 9, 60)
    ),
)


def written(tmp_path: Path, data: CouponData, learned: Learned = NOTHING_LEARNED) -> Bundle:
    with BundleWriter(tmp_path) as writer:
        write_coupons(writer, data, ITEMS, 20, learned)
        return writer.commit(
            horizon_time=0, seed=0, recipe={}, role=bundle_pb2.ROLE_REFIT, num_items={}
        )


def test_a_coupon_is_worth_the_median_of_what_it_gave() -> None:
    # a1 its own median; a2 what the table says; b1 what its kind gave; c1 the table's percent.
    assert coupon_values(DATA).tolist() == [1.25, 2.5, 2.12, 12.5]
    unused = replace(DATA, redemptions=DATA.redemptions.clear())
    assert coupon_values(unused).tolist() == [FALLBACK_VALUE, 2.5, FALLBACK_VALUE, 12.5]


def test_rates_are_redemptions_over_trials_smoothed_by_the_kind() -> None:
    of_all = (4 + PRIOR_TRIALS * FALLBACK_RATE) / (20 + PRIOR_TRIALS)
    of_kind = (4 + PRIOR_TRIALS * of_all) / (20 + PRIOR_TRIALS)
    of_a = (4 + PRIOR_TRIALS * of_kind) / (20 + PRIOR_TRIALS)
    expected = [of_a, of_a, of_kind, of_all]
    assert base_rates(DATA, num_users=20) == pytest.approx(expected, rel=1e-5)


def test_a_basket_earns_a_share_of_what_those_with_a_redemption_cost() -> None:
    assert basket_margin(DATA) == pytest.approx(MARGIN_SHARE * 60.0 * 1e6)


def test_the_section_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    bundle = written(tmp_path, DATA)
    campaigns, coupons = decode_coupons(bundle.json(COUPONS_FILE))
    assert [one.budget for one in campaigns] == [10_010_000, None, None]
    start_time = int(SPRING.timestamp()) * 1_000_000
    assert [one.start_time for one in coupons] == [start_time, start_time, None, None]
    assert [one.is_for_all_goods for one in coupons] == [False, False, False, True]
    discount = Discount(DiscountKind.PERCENT, basis_points=1_250, maximum=3_000_000)
    assert coupons[3] == Coupon("c1", "c", "c1", discount, minimum_basket=20_100_000)
    assert bundle.array(GOODS).tolist() == [0, 0, 1]
    assert bundle.array(GOODS_END).tolist() == [1, 3, 3, 3]
    assert decode_learned(bundle.json(MODELS_FILE)) == Learned()


def test_what_was_learned_is_read_back_too(tmp_path: Path) -> None:
    learned = Learned(Model("linear", ("a", "b"), (0.5, -1.0), 0.25), None, {"a": 0.75})
    assert decode_learned(written(tmp_path, DATA, learned).json(MODELS_FILE)) == learned


def test_a_shop_without_coupons_has_no_section(tmp_path: Path) -> None:
    assert not written(tmp_path, CouponData()).manifest.files


def test_face_value_is_the_most_that_a_coupon_can_cost() -> None:
    values = [
        Discount(DiscountKind.AMOUNT, amount=5).face_value,
        Discount(DiscountKind.AMOUNT, amount=5, maximum=3).face_value,
        Discount(DiscountKind.PERCENT, basis_points=100).face_value,
        Discount(DiscountKind.GIFT, gift_item="p", maximum=7).face_value,
    ]
    assert values == [5, 3, None, 7]
