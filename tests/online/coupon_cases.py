"""The table of rule cases: one coupon, who asks for it in which situation, and what refuses."""

from dataclasses import dataclass, field
from typing import Any

from feature_store.coupons import Campaign, Coupon, Discount, DiscountKind, is_held_out
from feature_store.people import Consent
from tests.online.coupons import DAY, ONE, coupon
from tests.worlds import HORIZON_TIME, UNAVAILABLE

NOW = HORIZON_TIME
SHARE = Discount(DiscountKind.PERCENT, basis_points=1_000)
CAPPED = Discount(DiscountKind.PERCENT, basis_points=1_000, maximum=3 * ONE)
GIFT = Discount(DiscountKind.GIFT, gift_item="p02", maximum=ONE)
NO_GIFT = Discount(DiscountKind.GIFT, gift_item=UNAVAILABLE, maximum=ONE)
LOST_GIFT = Discount(DiscountKind.GIFT, gift_item="nowhere", maximum=ONE)
DELIVERY = Discount(DiscountKind.FREE_DELIVERY, maximum=5 * ONE)
TIGHT = (Campaign("spring", budget=10 * ONE),)
HALVED = (Campaign("spring", hold_out=0.5),)
OTHER_HALVED = (Campaign("spring"), Campaign("autumn", hold_out=0.999))
SPARED, DRAWN = sorted(("user/0", "user/3"), key=lambda name: is_held_out(name, "spring", 0.5))
"""The first is not held out of half, the second is."""


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
    Case("held out by lot", "hold_out", campaigns=HALVED, asks={"name": DRAWN}),
    Case("not drawn", campaigns=HALVED, asks={"name": SPARED}),
    Case("drawn for another campaign", campaigns=OTHER_HALVED, asks={"name": DRAWN}),
    Case("visits are not drawn", campaigns=HALVED, asks={"name": DRAWN.replace("user", "visit")}),
    Case(
        "who is not looked at is not drawn",
        campaigns=HALVED,
        asks={"name": DRAWN, "consent": Consent(personalization=False)},
    ),
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
    Case(
        "itself is held before another of its group",
        "stacking_group",
        {"stacking_group": "g"},
        (GROUPED,),
        held=(0, 1),
    ),
    Case(
        "itself is held after another of its group",
        "stacking_group",
        {"stacking_group": "g"},
        (GROUPED,),
        held=(1, 0),
    ),
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
