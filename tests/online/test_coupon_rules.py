"""Which rule turns which coupon away: a table of cases, and all rules against plain Python."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.coupons import Campaign, Discount
from online.catalog import Catalog, open_catalog
from online.coupons.audience import compile_audiences
from online.coupons.basket import Basket, read_basket, saving
from online.coupons.columns import Coupons
from online.coupons.eligibility import RULES, Group, Situation, judge
from online.coupons.findings import PARAMETERS, barred_by, findings
from online.coupons.usage import Holdings, Usage
from online.errors import SnapshotError
from online.types import BasketLine
from tests.online.coupon_cases import CAPPED, CASES, DELIVERY, GIFT, NOW, SHARE, Case
from tests.online.coupons import AMOUNT, ONE, columns, coupon, situation
from tests.worlds import World


@pytest.fixture(scope="module")
def catalog(pristine_world: World) -> Catalog:
    return open_catalog(open_bundle(pristine_world.bundle))


def asked(case: Case, catalog: Catalog) -> tuple[Coupons, Situation]:
    goods = None if case.goods is None else {"c": case.goods}
    first = coupon(**case.coupon)
    coupons = columns(catalog, first, *case.others, campaigns=case.campaigns, goods=goods)
    rest = [0] * len(case.others)
    everybody, spent, campaign_spent = case.claims
    usage = Usage(
        np.array([everybody, *rest]), np.array([spent, *rest]), np.array([campaign_spent])
    )
    holdings = Holdings(np.array([case.mine, *rest]), dict.fromkeys(case.held, "claim"))
    basket = None if case.basket is None else basket_of(*case.basket)
    fields = {"usage": usage, "holdings": holdings, "basket": basket, **case.asks}
    return coupons, situation(coupons, catalog, **fields)


def basket_of(*lines: tuple[int, int]) -> Basket:
    items, amounts = [item for item, _ in lines], [amount for _, amount in lines]
    return Basket(np.array(items, np.int32), np.array(amounts, np.int64))


def test_there_are_cases_enough_and_each_rule_is_broken_by_one() -> None:
    assert len(CASES) >= 60
    broken = {name for case in CASES for name in case.broken.split()}
    assert broken == {rule.name for rule in RULES}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, catalog: Catalog) -> None:
    coupons, now = asked(case, catalog)
    verdicts = judge(coupons, now)
    broken = {name for name, mask in verdicts.masks.items() if not mask[0]}
    assert broken == set(case.broken.split())
    assert bool(verdicts.eligible[0]) is (not broken)
    told = findings(verdicts, 0)
    assert {one.rule for one in told if not one.met} == broken
    has_basket = bool(case.basket)
    assert len(told) == sum(has_basket or rule.group is not Group.BASKET for rule in RULES)


def test_every_rule_says_what_it_compared() -> None:
    assert list(PARAMETERS) == [rule.name for rule in RULES]


def plainly(coupons: Coupons, now: Situation, place: int) -> bool:
    """The rules once more, for one coupon, without arrays."""
    one = coupons.coupons[place]
    campaign = coupons.campaigns[coupons.campaign[place]]
    named = {
        int(item)
        for item, owner in zip(coupons.goods_items, coupons.goods_of, strict=True)
        if owner == place
    }
    basket = cast(Basket, now.basket)
    lines = list(zip(basket.items.tolist(), basket.amounts.tolist(), strict=True))
    covers = sum(amount for item, amount in lines if one.is_for_all_goods or item in named)
    value = one.discount.face_value
    if value is None:
        if not covers:
            return False
        cents = -(-covers * one.discount.basis_points // 100_000_000)
        value = 10_000 * cents
    held = [coupons.coupons[number] for number in now.holdings.open_claims if number != place]
    group, limit = one.stacking_group, one.max_claims_per_user
    left = None if campaign.budget is None else campaign.budget
    return all(
        (
            one.start_time is None or one.start_time <= now.time,
            one.end_time is None or now.time < one.end_time,
            not one.regions or now.region in one.regions,
            not one.channels or now.channel in one.channels,
            not one.audience or one.audience.replace(" ", "") in now.traits,
            one.is_for_all_goods or bool(named),
            not limit or now.holdings.claims[place] < limit,
            not one.max_claims or now.usage.claims[place] < one.max_claims,
            one.budget is None or now.usage.spent[place] + value <= one.budget,
            left is None or now.usage.campaign_spent[coupons.campaign[place]] + value <= left,
            not group or all(other.stacking_group != group for other in held),
            not (held and one.exclusive) and not any(other.exclusive for other in held),
            covers > 0,
            basket.total >= one.minimum_basket,
        )
    )


def test_all_rules_at_once_say_what_each_says_alone(catalog: Catalog) -> None:
    """A thousand drawn coupons, of which some pass and some break each rule."""
    dice = np.random.default_rng(5)
    coupons = drawn_coupons(catalog, dice, 1_000)
    for _ in range(5):
        now = drawn_situation(coupons, catalog, dice)
        eligible = judge(coupons, now).eligible
        expected = [plainly(coupons, now, place) for place in range(len(coupons))]
        assert eligible.tolist() == expected
        assert 0 < eligible.sum() < len(coupons)


def test_what_a_claim_names_as_barring_is_what_the_rules_refuse(catalog: Catalog) -> None:
    """The ledger decides between claims of the same instant; it is told what the rules say."""
    dice = np.random.default_rng(6)
    coupons = drawn_coupons(catalog, dice, 200)
    now = drawn_situation(coupons, catalog, dice)
    apart = [set(coupons.apart_from(place)) for place in range(len(coupons))]
    for held in range(len(coupons)):
        holdings = Holdings(np.zeros(len(coupons), np.int64), {held: "claim"})
        masks = judge(coupons, replace(now, holdings=holdings)).masks
        item = coupons.coupons[held].item
        for place in range(len(coupons)):
            refused = [name for name in ("stacking_group", "exclusive") if not masks[name][place]]
            assert (item in apart[place]) is bool(refused)
            if refused:
                assert barred_by(coupons, place, item).rule == refused[0]


def test_what_conflicts_is_named_and_nothing_else(catalog: Catalog) -> None:
    coupons = columns(
        catalog,
        coupon("asked", stacking_group="g"),
        coupon("free"),
        coupon("same", stacking_group="g"),
        coupon("alone", exclusive=True),
    )

    def named(place: int, *held: int) -> dict[str, str]:
        holdings = Holdings(np.zeros(4, np.int64), dict.fromkeys(held, "claim"))
        told = findings(judge(coupons, situation(coupons, catalog, holdings=holdings)), place)
        return {one.rule: one.parameters["held"] for one in told if "held" in one.parameters}

    assert named(0, 0, 1, 2, 3) == {"stacking_group": "same", "exclusive": "alone"}
    assert named(0, 0, 1) == {"stacking_group": "-", "exclusive": "-"}
    assert named(3, 1, 2, 3) == {"stacking_group": "-", "exclusive": "free, same"}


def drawn_coupons(catalog: Catalog, dice: np.random.Generator, num: int) -> Coupons:
    def maybe(value: Any, otherwise: Any, share: float = 0.2) -> Any:
        return value if dice.random() < share else otherwise

    drawn = [
        coupon(
            f"c{number:04}",
            campaign=f"k{number % 20}",
            discount=(AMOUNT, SHARE, CAPPED, DELIVERY)[number % 4],
            start_time=maybe(NOW + int(dice.integers(-2, 2)), None),
            end_time=maybe(NOW + int(dice.integers(-1, 3)), None),
            regions=maybe(("north",), (), 0.1),
            channels=maybe(("app",), (), 0.1),
            audience=maybe(f"campaign = {number % 20}", ""),
            max_claims_per_user=maybe(1, 0),
            max_claims=maybe(5, 0),
            budget=maybe(6 * ONE, None),
            stacking_group=maybe(f"g{number % 3}", ""),
            exclusive=maybe(True, False, 0.05),
            minimum_basket=maybe(12 * ONE, 0),
        )
        for number in range(num)
    ]
    goods = {
        one.item: dice.choice(60, int(dice.integers(0, 30)), replace=False).tolist()
        for one in drawn
        if dice.random() < 0.5
    }
    campaigns = [Campaign(f"k{number}", budget=maybe(9 * ONE, None)) for number in range(20)]
    return columns(catalog, *drawn, campaigns=campaigns, goods=goods)


def drawn_situation(coupons: Coupons, catalog: Catalog, dice: np.random.Generator) -> Situation:
    num = len(coupons)
    usage = Usage(
        dice.integers(0, 7, num), dice.integers(0, 8, num) * ONE, dice.integers(0, 10, 20) * ONE
    )
    open_ones = [place for place in dice.choice(num, 2).tolist() if place % 2]
    holdings = Holdings(dice.integers(0, 2, num), dict.fromkeys(open_ones, "claim"))
    items = dice.choice(60, 8, replace=False)
    lines = zip(items.tolist(), dice.integers(1, 4 * ONE, 8).tolist(), strict=True)
    chosen = {f"campaign={number}" for number in dice.choice(20, 6, replace=False)}
    return situation(
        coupons,
        catalog,
        usage=usage,
        holdings=holdings,
        basket=basket_of(*lines),
        region=str(dice.choice(["", "north"])),
        channel=str(dice.choice(["web", "app"])),
        traits=frozenset(chosen),
    )


@pytest.mark.parametrize("text", ["segment >", "segment > 3", "(segment = a", "segment"])
def test_an_audience_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SnapshotError, match="the audience"):
        compile_audiences(["", text])


@pytest.mark.parametrize(
    ("discount", "covered", "price", "saved"),
    [
        (AMOUNT, 5 * ONE, np.nan, 2 * ONE),
        (AMOUNT, ONE, np.nan, ONE),
        (SHARE, 10 * ONE, np.nan, ONE),
        (SHARE, 1_230_000, np.nan, 120_000),
        (SHARE, 1_250_000, np.nan, 130_000),
        (CAPPED, 99 * ONE, np.nan, 3 * ONE),
        (GIFT, ONE, 0.8, 800_000),
        (GIFT, ONE, 1.5, ONE),
        (GIFT, ONE, np.nan, -1),
        (DELIVERY, 5 * ONE, np.nan, -1),
    ],
)
def test_what_a_coupon_saves(
    catalog: Catalog, discount: Discount, covered: int, price: float, saved: int
) -> None:
    coupons = columns(catalog, coupon(discount=discount))
    assert saving(coupons, 0, covered, price) == saved


def test_a_share_never_saves_more_than_its_claim_reserves(catalog: Catalog) -> None:
    coupons = columns(catalog, coupon(discount=replace(SHARE, basis_points=333)))
    for amount in range(10_000, 3_000_000, 37_000):
        verdicts = judge(coupons, situation(coupons, catalog, basket=basket_of((1, amount))))
        reserved = int(verdicts.judged.face_value[0])
        assert saving(coupons, 0, amount, np.nan) <= reserved <= amount


def test_lines_are_priced_as_the_till_does(catalog: Catalog) -> None:
    lines = (
        BasketLine("p01", 3),  # 1.25 each
        BasketLine("p02", 0.333),  # 1.50 a unit: 0.4995
        BasketLine("p03", 2, amount=990_000),
        BasketLine("unknown", 2),
        BasketLine("unknown too", 1, amount=10_000),
    )
    basket = read_basket(lines, catalog)
    assert basket.amounts.tolist() == [3_750_000, 500_000, 990_000, 0, 10_000]
    assert basket.items.tolist() == [1, 2, 3, -1, -1]
    assert basket.total == 5_250_000
