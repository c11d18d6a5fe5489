"""Which rule turns which coupon away: a table of cases, and all rules against plain Python."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.coupons import Campaign, Coupon, Discount, DiscountKind
from feature_store.people import Consent
from online.catalog import Catalog, open_catalog
from online.coupons.audience import compile_audiences
from online.coupons.basket import Basket, read_basket, saving
from online.coupons.columns import Coupons
from online.coupons.eligibility import RULES, Group, Situation, judge
from online.coupons.findings import PARAMETERS, findings
from online.coupons.usage import Holdings, Usage
from online.errors import SnapshotError
from online.types import BasketLine
from tests.online.coupons import AMOUNT, DAY, ONE, columns, coupon, situation
from tests.worlds import HORIZON_TIME, UNAVAILABLE, World

NOW = HORIZON_TIME
SHARE = Discount(DiscountKind.PERCENT, basis_points=1_000)
CAPPED = Discount(DiscountKind.PERCENT, basis_points=1_000, maximum=3 * ONE)
GIFT = Discount(DiscountKind.GIFT, gift_item="p02", maximum=ONE)
NO_GIFT = Discount(DiscountKind.GIFT, gift_item=UNAVAILABLE, maximum=ONE)
LOST_GIFT = Discount(DiscountKind.GIFT, gift_item="nowhere", maximum=ONE)
DELIVERY = Discount(DiscountKind.FREE_DELIVERY, maximum=5 * ONE)
TIGHT = (Campaign("spring", budget=10 * ONE),)


@pytest.fixture(scope="module")
def catalog(pristine_world: World) -> Catalog:
    return open_catalog(open_bundle(pristine_world.bundle))


@dataclass(frozen=True)
class Case:
    """The first coupon is asked about. `basket` is product and micros; `broken` rules not met."""

    name: str
    broken: str = ""
    coupon: dict[str, Any] = field(default_factory=dict)
    others: tuple[Coupon, ...] = ()
    goods: tuple[int, ...] | None = None
    campaigns: tuple[Campaign, ...] = ()
    basket: tuple[tuple[int, int], ...] | None = None
    claims: tuple[int, int, int] = (0, 0, 0)
    """Claims by everybody, micros of the coupon, micros of the campaign."""
    mine: int = 0
    held: tuple[int, ...] = ()
    asks: dict[str, Any] = field(default_factory=dict)


def traits(*given: str) -> dict[str, Any]:
    return {"traits": frozenset(given)}


GROUPED = coupon("other", stacking_group="g")
UNGROUPED = coupon("other")
ALONE = coupon("other", exclusive=True)

CASES = (
    Case("anybody may have what has no limits"),
    Case("not before it starts", "start_time", {"start_time": NOW + 1}),
    Case("from the very instant on", "", {"start_time": NOW}),
    Case("not at the instant of its end", "end_time", {"end_time": NOW}),
    Case("until just before its end", "", {"end_time": NOW + 1}),
    Case("long over", "end_time", {"start_time": NOW - 9 * DAY, "end_time": NOW - DAY}),
    Case("in between", "", {"start_time": NOW - DAY, "end_time": NOW + DAY}),
    Case("a region asked for", "", {"regions": ("north",)}, asks={"region": "north"}),
    Case("one of its regions", "", {"regions": ("north", "south")}, asks={"region": "south"}),
    Case("another region", "region", {"regions": ("north",)}, asks={"region": "south"}),
    Case("a region is needed and none is known", "region", {"regions": ("north",)}),
    Case("good everywhere, wherever asked", asks={"region": "the moon"}),
    Case("a channel asked for", "", {"channels": ("app",)}, asks={"channel": "app"}),
    Case("one of its channels", "", {"channels": ("app", "web")}, asks={"channel": "web"}),
    Case("another channel", "channel", {"channels": ("app",)}, asks={"channel": "web"}),
    Case("a channel is needed and none is known", "channel", {"channels": ("app",)}),
    Case("good through all channels", asks={"channel": "store"}),
    Case(
        "mails need consent",
        "consent",
        asks={"channel": "mail", "consent": Consent(email=False)},
    ),
    Case("elsewhere mails do not matter", asks={"channel": "web", "consent": Consent(email=False)}),
    Case("mails with consent", asks={"channel": "mail"}),
    Case(
        "who is not looked at gets what is for everybody",
        asks={"consent": Consent(personalization=False)},
    ),
    Case(
        "who is not looked at was not chosen",
        "consent",
        {"audience": "segment = loyal"},
        asks={"consent": Consent(personalization=False), **traits("segment=loyal")},
    ),
    Case("chosen", "", {"audience": "campaign = 18"}, asks=traits("campaign=18")),
    Case("not chosen", "audience", {"audience": "campaign = 18"}, asks=traits("campaign=17")),
    Case("nobody known is in no audience", "audience", {"audience": "campaign = 18"}),
    Case(
        "one of several campaigns",
        "",
        {"audience": "campaign = 18"},
        asks=traits("campaign=3", "campaign=18"),
    ),
    Case("a quoted value", "", {"audience": 'age = "45-54"'}, asks=traits("age=45-54")),
    Case("either of two", "", {"audience": "segment = a OR segment = b"}, asks=traits("segment=b")),
    Case(
        "neither of two",
        "audience",
        {"audience": "segment = a OR segment = b"},
        asks=traits("segment=c"),
    ),
    Case(
        "both",
        "",
        {"audience": "segment = a AND region = north"},
        asks=traits("segment=a", "region=north"),
    ),
    Case(
        "one of both is not enough",
        "audience",
        {"audience": "segment = a AND region = north"},
        asks=traits("segment=a"),
    ),
    Case("not the opposite", "", {"audience": "segment != a"}, asks=traits("segment=b")),
    Case("the opposite", "audience", {"audience": "segment != a"}, asks=traits("segment=a")),
    Case("NOT", "audience", {"audience": "NOT segment = a"}, asks=traits("segment=a")),
    Case("any value of a field", "", {"audience": "segment:*"}, asks=traits("segment=z")),
    Case("no value of a field", "audience", {"audience": "segment:*"}, asks=traits("age=9")),
    Case("a gift that is there", "", {"discount": GIFT}),
    Case("a gift that is not sold any more", "on_sale", {"discount": NO_GIFT}),
    Case("a gift that the shop does not have", "on_sale", {"discount": LOST_GIFT}),
    Case("products that the shop has", goods=(3, 4)),
    Case("products of which none is left", "on_sale", goods=()),
    Case("a share without a maximum, before there is a basket", "known_value", {"discount": SHARE}),
    Case("a share of a basket", "", {"discount": SHARE}, basket=((1, 9 * ONE),)),
    Case("a share with a maximum", "", {"discount": CAPPED}),
    Case("a delivery", "", {"discount": DELIVERY}),
    Case("as many as a user may have", "claims_per_user", {"max_claims_per_user": 2}, mine=2),
    Case("one fewer than a user may have", "", {"max_claims_per_user": 2}, mine=1),
    Case("no limit for a user", mine=99),
    Case("as many as there may be", "claims", {"max_claims": 100}, claims=(100, 0, 0)),
    Case("one fewer than there may be", "", {"max_claims": 100}, claims=(99, 0, 0)),
    Case("its own budget holds one more", "", {"budget": 10 * ONE}, claims=(4, 8 * ONE, 0)),
    Case(
        "its own budget lacks a micro", "budget", {"budget": 10 * ONE}, claims=(4, 8 * ONE + 1, 0)
    ),
    Case("the campaign's budget holds one more", campaigns=TIGHT, claims=(0, 0, 8 * ONE)),
    Case(
        "the campaign's budget lacks a micro",
        "campaign_budget",
        campaigns=TIGHT,
        claims=(0, 0, 8 * ONE + 1),
    ),
    Case(
        "a share of a basket counts against the budget",
        "budget",
        {"discount": SHARE, "budget": ONE},
        basket=((1, 20 * ONE),),
    ),
    Case(
        "another of its group is held",
        "stacking_group",
        {"stacking_group": "g"},
        (GROUPED,),
        held=(1,),
    ),
    Case("another of another group is held", "", {"stacking_group": "h"}, (GROUPED,), held=(1,)),
    Case("what has no group stacks with all", "", {}, (GROUPED,), held=(1,)),
    Case("itself is held", "", {"stacking_group": "g"}, (GROUPED,), held=(0,)),
    Case("alone, and another is held", "exclusive", {"exclusive": True}, (UNGROUPED,), held=(1,)),
    Case("alone, and nothing is held", "", {"exclusive": True}, (UNGROUPED,)),
    Case("one that stands alone is held", "exclusive", {}, (ALONE,), held=(1,)),
    Case("it stands alone and is held itself", "", {"exclusive": True}, (UNGROUPED,), held=(0,)),
    Case("the basket has what it is for", goods=(3,), basket=((3, 5 * ONE),)),
    Case("the basket has nothing of it", "basket_products", goods=(3,), basket=((4, 5 * ONE),)),
    Case("no basket is named", goods=(3,)),
    Case("an empty basket is none", "", {"minimum_basket": ONE}, basket=()),
    Case("a basket of the minimum", "", {"minimum_basket": 9 * ONE}, basket=((1, 9 * ONE),)),
    Case(
        "a micro below the minimum",
        "minimum_basket",
        {"minimum_basket": 9 * ONE},
        basket=((1, 9 * ONE - 1),),
    ),
    Case(
        "the whole basket makes the minimum",
        "",
        {"minimum_basket": 9 * ONE},
        goods=(1,),
        basket=((1, ONE), (2, 8 * ONE)),
    ),
    Case(
        "several at once",
        "end_time channel minimum_basket",
        {"end_time": NOW, "channels": ("app",), "minimum_basket": 9 * ONE},
        basket=((1, ONE),),
    ),
)


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
