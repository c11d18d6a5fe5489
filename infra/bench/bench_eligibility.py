"""Measure the rules of coupons: all rules on 1,000 coupons for one request.

    python -m infra.bench.bench_eligibility

prints one JSON line: microseconds of processor time for one request, median and 95th percentile
over drawn users and baskets of 20 lines. Processor time, so that a busy machine does not count
against it.
"""

import argparse
import json
from time import process_time_ns
from typing import Any, Final

import numpy as np

from feature_store.bundle import StringTable
from feature_store.coupons import MICROS, Campaign, Coupon, Discount, DiscountKind
from feature_store.ids import hash64_many
from online.catalog import Catalog
from online.coupons.basket import Basket
from online.coupons.columns import Coupons, make_coupons
from online.coupons.eligibility import Situation, judge
from online.coupons.usage import Holdings, Usage

NUM_ITEMS: Final = 20_000
NUM_CAMPAIGNS: Final = 40
NOW: Final = 1_700_000_000_000_000
DAY: Final = 86_400_000_000
BASKET_LINES: Final = 20


def make_catalog(num_items: int) -> Catalog:
    """A catalogue of products with prices and nothing else."""
    ids = [f"p{number}" for number in range(num_items)]
    keys = hash64_many(ids)
    order = np.argsort(keys)
    texts = StringTable(np.zeros(0, np.uint8), np.zeros(num_items, np.int64))
    blob = np.frombuffer("".join(ids).encode(), np.uint8)
    return Catalog(
        ids=StringTable(blob, np.cumsum([len(one) for one in ids])),
        title=texts,
        category=texts,
        brand=texts,
        image_url=texts,
        url=texts,
        price=np.full(num_items, 2.5, np.float32),
        available=np.ones(num_items, bool),
        sorted_keys=keys[order],
        sorted_index=order.astype(np.int32),
    )


def draw_coupons(num: int, catalog: Catalog, dice: np.random.Generator) -> Coupons:
    """Coupons of all kinds, most with products, times, audiences, caps and budgets."""
    drawn = [_draw_coupon(number, dice) for number in range(num)]
    goods = [
        np.sort(dice.choice(len(catalog), 0 if one.is_for_all_goods else 100, replace=False))
        for one in drawn
    ]
    campaigns = [Campaign(str(number), budget=1_000 * MICROS) for number in range(NUM_CAMPAIGNS)]
    rate, margin = np.full(num, 0.01, np.float32), np.full(num, 20.0 * MICROS)
    return make_coupons(
        campaigns, drawn, [part.astype(np.int32) for part in goods], catalog, rate, margin
    )


def _draw_coupon(number: int, dice: np.random.Generator) -> Coupon:
    kinds = (
        Discount(DiscountKind.AMOUNT, amount=MICROS),
        Discount(DiscountKind.PERCENT, basis_points=1_500, maximum=5 * MICROS),
        Discount(DiscountKind.PERCENT, basis_points=500),
        Discount(DiscountKind.GIFT, gift_item=f"p{number}", maximum=2 * MICROS),
    )
    return Coupon(
        item=f"c{number:05}",
        campaign=str(number % NUM_CAMPAIGNS),
        title="",
        discount=kinds[number % len(kinds)],
        is_for_all_goods=bool(number % 10 == 0),
        start_time=NOW - int(dice.integers(1, 60)) * DAY,
        end_time=NOW + int(dice.integers(-10, 60)) * DAY,
        audience=f"campaign = {number % NUM_CAMPAIGNS}" if number % 5 else "",
        max_claims_per_user=number % 3,
        max_claims=1_000,
        budget=500 * MICROS if number % 2 else None,
        stacking_group=f"g{number % 7}" if number % 4 == 0 else "",
        exclusive=number % 50 == 0,
        regions=("north",) if number % 8 == 0 else (),
        channels=("web", "app") if number % 6 == 0 else (),
        minimum_basket=int(dice.integers(0, 40)) * MICROS,
    )


def draw_situation(coupons: Coupons, catalog: Catalog, dice: np.random.Generator) -> Situation:
    """A known user with ten traits, one open claim and a basket."""
    num = len(coupons)
    usage = Usage(
        dice.integers(0, 1_100, num),
        dice.integers(0, 510, num) * MICROS,
        dice.integers(0, 1_010, NUM_CAMPAIGNS) * MICROS,
    )
    items = dice.choice(len(catalog), BASKET_LINES, replace=False).astype(np.int32)
    campaigns = dice.choice(NUM_CAMPAIGNS, 10, replace=False)
    return Situation(
        time=NOW,
        usage=usage,
        holdings=Holdings(np.zeros(num, np.int64), {int(dice.integers(num)): "claim"}),
        sold=np.asarray(catalog.available),
        region="north",
        channel="web",
        traits=frozenset(f"campaign={one}" for one in campaigns),
        basket=Basket(items, dice.integers(1, 10, BASKET_LINES) * MICROS),
    )


def measure(num_coupons: int, num_requests: int) -> dict[str, Any]:
    """Microseconds of processor time for one request, and how many coupons pass."""
    dice = np.random.default_rng(3)
    catalog = make_catalog(NUM_ITEMS)
    coupons = draw_coupons(num_coupons, catalog, dice)
    situations = [draw_situation(coupons, catalog, dice) for _ in range(50)]
    judge(coupons, situations[0])
    taken = []
    for number in range(num_requests):
        started = process_time_ns()
        verdicts = judge(coupons, situations[number % len(situations)])
        passed = verdicts.eligible
        taken.append((process_time_ns() - started) / 1_000)
    return {
        "bench": "eligibility",
        "num_coupons": num_coupons,
        "num_rules": len(verdicts.masks),
        "num_eligible": int(passed.sum()),
        "p50_us": round(float(np.median(taken)), 1),
        "p95_us": round(float(np.quantile(taken, 0.95)), 1),
    }


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coupons", type=int, default=1_000, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=2_000, help="default: %(default)s")
    args = parser.parse_args()
    print(json.dumps(measure(args.coupons, args.requests)))


if __name__ == "__main__":
    main()
