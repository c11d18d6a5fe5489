"""A served shop with coupons: the checkerboard with six offers, and what asks for them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisle.v1 import (
    context_pb2,
    corpus_pb2,
    coupon_pb2,
    coupon_pb2_grpc,
    money_pb2,
    recommendation_pb2,
    slate_pb2,
)
from feature_store.event_log import EventLog
from feature_store.ids import Pseudonymizer
from feature_store.people import encode_traits, traits_key
from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, Table
from offline.coupons.dataset import CouponData
from offline.ingest.tables import polars_schema
from online.process.server import EVENT_LOG, Parts
from tests.online.serving import (
    TIMEOUT_S,
    Caller,
    degraded,
    serving,
    settings_of,
)
from tests.worlds import HORIZON_TIME, KEY, World, build_world, user_id

HORIZON = datetime.fromtimestamp(HORIZON_TIME / 1e6, UTC)
Outcome = coupon_pb2.ClaimCouponResponse
Redeemed = coupon_pb2.RedeemCouponResponse
ONE = 1_000_000


def table(given: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    named = [{name: row.get(name) for name in given.names} for row in rows]
    return pl.DataFrame(named, schema=polars_schema(given))


def offer(item: str, campaign: str, **fields: Any) -> dict[str, Any]:
    fixed = {"item": item, "campaign": campaign, "title": f"Title of {item}", "discount": "amount"}
    return {**fixed, "value": 2.0, **fields}


COUPON_DATA = CouponData(
    campaigns=table(
        CAMPAIGNS,
        {"campaign": "spring", "budget": 5.0, "start_time": HORIZON - timedelta(days=5),
         "end_time": HORIZON + timedelta(days=5)},
        *({"campaign": name} for name in ("loyal", "open", "big", "late", "gift")),
    ),
    coupons=table(
        COUPONS,
        offer("spring-2", "spring", terms="2.00 off.", max_claims_per_user=2),
        offer("loyal-p02", "loyal", products=["p02"], value=1.0, audience="segment = loyal"),
        offer("open-10", "open", discount="percent", value=10.0, maximum=3.0, max_claims=2),
        offer("big-5", "big", value=5.0, minimum_basket=40.0, stacking_group="g"),
        offer("late-1", "late", start_time=HORIZON + timedelta(days=1)),
        offer("gift-p04", "gift", discount="gift", gift_item="p04", maximum=2.0, value=None,
              stacking_group="g"),
    ),
    audiences=table(AUDIENCES),
)  # fmt: skip


@pytest.fixture(scope="module")
def coupon_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("coupons") / "home", COUPON_DATA)


@pytest.fixture
def world(coupon_world: World, tmp_path: Path) -> World:
    return coupon_world.copy(tmp_path / "home")


@pytest.fixture
def served(world: World) -> Iterator[tuple[Caller, Parts]]:
    with serving(settings_of(world, currency="USD")) as (caller, parts):
        users = {traits_key(pseudonym(user_id(0))): encode_traits(["segment=loyal", "age=9"])}
        parts.store.put_many(users.items())
        yield caller, parts


@pytest.fixture
def caller(served: tuple[Caller, Parts]) -> Caller:
    return served[0]


def pseudonym(raw: str) -> bytes:
    return Pseudonymizer(KEY).digest(raw)


def stub(caller: Caller) -> coupon_pb2_grpc.CouponServiceStub:
    return coupon_pb2_grpc.CouponServiceStub(caller.channel)


def usd(units: int, cents: int = 0) -> money_pb2.Money:
    return money_pb2.Money(currency_code="USD", units=units, nanos=cents * 10_000_000)


def basket(*lines: tuple[str, int], **fields: Any) -> context_pb2.Context:
    """A cart of products and what each line costs, in cents."""
    context = context_pb2.Context(**fields)
    for item, cents in lines:
        context.basket.add(item_id=item, amount=usd(*divmod(cents, 100)))
    return context


def show(caller: Caller, user: str = "u00", num: int = 5, **fields: Any) -> dict[str, Any]:
    """The coupons that are shown, in full, by id and in their order."""
    quota = recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=num)
    response = caller.recommend(user, corpora=[quota], view=slate_pb2.ITEM_VIEW_FULL, **fields)
    assert degraded(response) == {}
    assert {item.corpus for item in response.items} <= {corpus_pb2.CORPUS_COUPON}
    return {item.item_id: item for item in response.items}


def claim(
    caller: Caller, coupon: str, request: str, user: str = "u01", **fields: Any
) -> coupon_pb2.ClaimCouponResponse:
    given = {"coupon_id": coupon, "request_id": request, "user_id": user, **fields}
    return stub(caller).ClaimCoupon(coupon_pb2.ClaimCouponRequest(**given), timeout=TIMEOUT_S)


def redeem(
    caller: Caller, claim_id: str, discount: money_pb2.Money, order: str = "o1"
) -> coupon_pb2.RedeemCouponResponse:
    request = coupon_pb2.RedeemCouponRequest(claim_id=claim_id, basket_id=order, discount=discount)
    return stub(caller).RedeemCoupon(request, timeout=TIMEOUT_S)


def explain(caller: Caller, coupon: str, **fields: Any) -> coupon_pb2.ExplainCouponResponse:
    request = coupon_pb2.ExplainCouponRequest(coupon_id=coupon, **fields)
    return stub(caller).ExplainCoupon(request, timeout=TIMEOUT_S)


def broken(response: coupon_pb2.ExplainCouponResponse) -> set[str]:
    return {rule.rule for rule in response.rules if not rule.met}


def event_log(parts: Parts) -> EventLog:
    return parts.feedback._log  # type: ignore[return-value]  # spools of one machine


def quarantined(parts: Parts) -> bytes:
    """All bytes of the spool, in which the quarantine lies."""
    folder = parts.settings.home / EVENT_LOG
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
