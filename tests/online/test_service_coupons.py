"""Coupons over gRPC, on a real server with a real ledger: why, shown, claimed, used, withheld."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
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
from feature_store.coupons import campaign_account, expectation_name
from feature_store.event_log import EventLog
from feature_store.ids import Pseudonymizer
from feature_store.ledger import Charge
from feature_store.people import Consent, consent_key, encode_traits, traits_key
from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, Table
from offline.coupons.dataset import CouponData
from offline.ingest.tables import polars_schema
from online.coupons.guard import BURST, PER_DEVICE
from online.process.server import EVENT_LOG, Parts
from tests.online.serving import (
    TIMEOUT_S,
    Caller,
    degraded,
    ids,
    refused,
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


def test_coupons_are_shown_with_what_they_save(caller: Caller) -> None:
    context = basket(("p02", 600), ("p03", 1_400))
    shown = show(caller, context=context)
    assert set(shown) == {"spring-2", "loyal-p02", "open-10", "gift-p04"}
    share = shown["open-10"]
    assert share.display.title == "Title of open-10"
    assert share.coupon.saving == usd(2)
    assert share.coupon.discount.basis_points == 1_000
    assert share.coupon.discount.maximum == usd(3)
    assert share.reason.code == "coupon_saves"
    assert share.reason.text == "Saves 2.00 on this basket"
    assert shown["loyal-p02"].coupon.saving == usd(1)
    assert shown["gift-p04"].coupon.saving == usd(2)  # p04 costs 2.00
    assert shown["spring-2"].coupon.terms == "2.00 off."
    assert all(0 < item.score < 1 for item in shown.values())


def test_the_same_in_chinese(caller: Caller) -> None:
    shown = show(caller, context=basket(("p03", 2_000), locale="zh-CN"))
    assert shown["open-10"].reason.text == "此购物车可省2.00"


def test_one_coupon_of_a_stacking_group_is_shown(caller: Caller) -> None:
    shown = show(caller, context=basket(("p03", 5_000)))
    assert len(shown.keys() & {"big-5", "gift-p04"}) == 1


def test_what_the_basket_lacks_is_said(caller: Caller) -> None:
    claim(caller, "big-5", "r1", "u00")
    shown = show(caller, context=basket(("p03", 1_500)))
    assert shown["big-5"].coupon.missing_amount == usd(25)
    assert not shown["big-5"].coupon.HasField("saving")
    assert shown["big-5"].coupon.claim_id, "what is claimed is shown"
    assert "gift-p04" not in shown, "it cannot be combined with what is held"


def test_who_is_not_in_the_audience_does_not_see_it(caller: Caller) -> None:
    assert "loyal-p02" not in show(caller, "u01")
    assert "loyal-p02" in show(caller, "u00")
    assert "loyal-p02" not in show(caller, "")


def test_products_and_coupons_share_a_slate(caller: Caller) -> None:
    quotas = [
        recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_PRODUCT, count=4),
        recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=2),
    ]
    response = caller.recommend("u00", corpora=quotas)
    corpora = [item.corpus for item in response.items]
    assert corpora.count(corpus_pb2.CORPUS_COUPON) == 2
    assert corpora.count(corpus_pb2.CORPUS_PRODUCT) == 4


def test_without_being_asked_for_no_coupon_is_shown(caller: Caller) -> None:
    assert all(one.startswith("p") for one in ids(caller.recommend("u00")))


def test_every_rule_is_explained(caller: Caller) -> None:
    response = explain(caller, "big-5", user_id="u00", context=basket(("p03", 1_500)))
    assert not response.eligible
    assert broken(response) == {"minimum_basket"}
    (finding,) = (rule for rule in response.rules if not rule.met)
    assert dict(finding.parameters) == {"minimum": "40.00", "basket": "15.00"}
    assert finding.text == "It needs a basket of 40.00; this one is 15.00."
    assert len(response.rules) == 16
    assert all(rule.text and "{" not in rule.text for rule in response.rules)
    assert response.coupon.missing_amount == usd(25)
    assert explain(caller, "big-5", context=basket(("p03", 4_000))).eligible
    assert explain(caller, "nowhere").missing_ids == ["nowhere"]


def test_the_words_of_a_rule_are_in_the_language_asked_for(caller: Caller) -> None:
    context = context_pb2.Context(locale="zh")
    response = explain(caller, "late-1", user_id="u00", context=context)
    assert broken(response) == {"start_time"}
    (text,) = (rule.text for rule in response.rules if not rule.met)
    assert text.startswith("优惠将于2024-")


def test_a_claim_reserves_and_a_redemption_settles(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    answer = claim(caller, "spring-2", "r1")
    assert answer.outcome == Outcome.OUTCOME_GRANTED
    assert answer.claim.reserved == usd(2)
    assert answer.claim.state == coupon_pb2.Claim.STATE_RESERVED
    again = claim(caller, "spring-2", "r1")
    assert again == answer
    account = parts.claiming.ledger.changes(0).accounts[campaign_account("spring")]
    assert (account.claims, account.reserved) == (1, 2 * ONE)
    done = redeem(caller, answer.claim.claim_id, usd(1, 50))
    assert done.outcome == Redeemed.OUTCOME_SETTLED
    assert done.claim.settled == usd(1, 50)
    assert redeem(caller, answer.claim.claim_id, usd(1, 50)) == done
    assert redeem(caller, answer.claim.claim_id, usd(1), "o2").outcome == (
        Redeemed.OUTCOME_ALREADY_USED
    )
    account = parts.claiming.ledger.changes(0).accounts[campaign_account("spring")]
    assert (account.reserved, account.settled) == (0, 1_500_000)


def test_budgets_and_caps_are_kept_and_what_is_used_up_is_not_shown(caller: Caller) -> None:
    for number in range(2):
        assert claim(caller, "spring-2", f"r{number}").outcome == Outcome.OUTCOME_GRANTED
    third = claim(caller, "spring-2", "r3")
    assert third.outcome == Outcome.OUTCOME_CAP_REACHED
    assert third.text == "You have claimed it as often as you may."
    other = claim(caller, "spring-2", "r1", "u02")
    assert other.outcome == Outcome.OUTCOME_BUDGET_SPENT  # 4 of 5 are reserved, 2 more do not fit
    assert "spring-2" not in show(caller, "u02")
    for user in ("u03", "u04"):
        assert claim(caller, "open-10", "r1", user).outcome == Outcome.OUTCOME_GRANTED
    assert claim(caller, "open-10", "r1", "u05").outcome == Outcome.OUTCOME_CAP_REACHED
    assert "open-10" not in show(caller, "u05")
    assert broken(explain(caller, "open-10", user_id="u05")) == {"claims"}


def test_a_refusal_is_an_outcome_that_says_why(caller: Caller) -> None:
    assert claim(caller, "nowhere", "r").outcome == Outcome.OUTCOME_UNKNOWN_COUPON
    late = claim(caller, "late-1", "r")
    assert (late.outcome, late.HasField("claim")) == (Outcome.OUTCOME_NOT_ELIGIBLE, False)
    assert late.text.startswith("It begins at 2024-")
    assert claim(caller, "big-5", "r", context=basket(("p03", 100))).outcome == (
        Outcome.OUTCOME_NOT_ELIGIBLE
    )
    assert redeem(caller, "nothing", usd(1)).outcome == Redeemed.OUTCOME_UNKNOWN_CLAIM


def test_no_more_is_redeemed_than_was_reserved(caller: Caller) -> None:
    claimed = claim(caller, "spring-2", "r1").claim
    too_much = redeem(caller, claimed.claim_id, usd(2, 1))
    assert too_much.outcome == Redeemed.OUTCOME_EXCEEDS_RESERVATION


def test_money_is_exact_or_refused(caller: Caller) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as caught:
        redeem(caller, "c", money_pb2.Money(currency_code="EUR", units=1))
    assert "discount.currency_code" in str(caught.value)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        redeem(caller, "c", money_pb2.Money(units=1, nanos=1))


def test_a_request_id_belongs_to_one_coupon_and_one_user(caller: Caller) -> None:
    mine = claim(caller, "spring-2", "r1", "u01").claim
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        claim(caller, "open-10", "r1", "u01")
    theirs = claim(caller, "spring-2", "r1", "u02").claim
    assert mine.claim_id != theirs.claim_id


def test_too_many_from_a_device_are_withheld_with_a_reason_and_kept_out(
    served: tuple[Caller, Parts],
) -> None:
    caller, parts = served

    def visit(number: int, device: str) -> coupon_pb2.ClaimCouponResponse:
        session = f"s{number}"
        return claim(caller, "gift-p04", "v", "", session_id=session, device_id=device)

    found = [visit(number, "tablet-4711") for number in range(PER_DEVICE.count + 1)]
    assert [one.outcome for one in found[:-1]] == [Outcome.OUTCOME_GRANTED] * PER_DEVICE.count
    assert found[-1].outcome == Outcome.OUTCOME_WITHHELD
    assert found[-1].text.startswith("Too many claims from this device; try again in ")
    assert visit(99, "another").outcome == Outcome.OUTCOME_GRANTED
    assert visit(0, "tablet-4711").claim == found[0].claim, "a claim sent again is none more"
    events = [one.event.kind for one in event_log(parts).read(limit=100)]
    assert events == ["coupon_claim"] * (PER_DEVICE.count + 1)
    assert b"withheld by the guard against abuse: device" in quarantined(parts)
    everything = b"".join(key + value for key, value in parts.store.scan(b"")) + quarantined(parts)
    assert b"tablet-4711" not in everything, "devices are known by hashes alone"


def test_a_burst_of_one_user_is_withheld(caller: Caller) -> None:
    found = [claim(caller, "gift-p04", f"r{number}") for number in range(BURST.count + 1)]
    assert [one.outcome for one in found[:-1]] == [Outcome.OUTCOME_GRANTED] * BURST.count
    assert found[-1].outcome == Outcome.OUTCOME_WITHHELD
    assert found[-1].text == "Too many claims in a short time; try again in 1 min."


def event_log(parts: Parts) -> EventLog:
    return parts.feedback._log  # type: ignore[return-value]  # spools of one machine


def quarantined(parts: Parts) -> bytes:
    """All bytes of the spool, in which the quarantine lies."""
    folder = parts.settings.home / EVENT_LOG
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


def test_a_claim_and_its_use_are_events(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    claimed = claim(caller, "spring-2", "r1").claim
    claim(caller, "spring-2", "r1")
    redeem(caller, claimed.claim_id, usd(1))
    redeem(caller, claimed.claim_id, usd(1))
    events = [one.event for one in event_log(parts).read(limit=100)]
    assert [(one.kind, one.item, one.price) for one in events] == [
        ("coupon_claim", "spring-2", None),
        ("coupon_redeem", "spring-2", 1.0),
    ]
    assert {one.user for one in events} == {pseudonym("u01").hex()}


def test_claims_of_a_mail_use_what_was_expected(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    ledger, budget = parts.claiming.ledger, 5 * ONE
    charge = Charge(campaign_account("spring"), budget)
    far = 2**50
    name = expectation_name("may-mail", "spring")
    assert ledger.reserve_expected(name, charge, 4 * ONE, 0, far)
    assert claim(caller, "spring-2", "r", "u01").outcome == Outcome.OUTCOME_BUDGET_SPENT
    mailed = context_pb2.Context(campaign="may-mail")
    for user in ("u02", "u03"):
        answer = claim(caller, "spring-2", "r", user, context=mailed)
        assert answer.outcome == Outcome.OUTCOME_GRANTED
    account = ledger.changes(0).accounts[campaign_account("spring")]
    assert (account.reserved, account.expected) == (4 * ONE, 0)
    assert claim(caller, "spring-2", "r", "u04", context=mailed).outcome == (
        Outcome.OUTCOME_BUDGET_SPENT
    )


def test_a_visit_that_logs_in_takes_its_claims_along(caller: Caller) -> None:
    for number in range(2):
        claim(caller, "spring-2", f"r{number}", "", session_id="s1")
    caller.merge("u01", source_session_id="s1")
    assert claim(caller, "spring-2", "r9", "u01").outcome == Outcome.OUTCOME_CAP_REACHED
    shown = show(caller, "u01")
    assert shown["spring-2"].coupon.claim_id


def test_who_is_erased_is_in_no_claim(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    claimed = claim(caller, "spring-2", "r1", "u01").claim
    places = {place.name: place.num_records for place in caller.erase(user_id="u01").places}
    assert places["ledger"] == 1
    kept = parts.claiming.ledger.find(claimed.claim_id)
    assert kept is not None
    assert kept.user == ""
    assert redeem(caller, claimed.claim_id, usd(1)).outcome == Redeemed.OUTCOME_SETTLED
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        claim(caller, "spring-2", "r2", "u01")
    kinds = [one.event.kind for one in event_log(parts).read(limit=10)]
    assert "coupon_redeem" not in kinds, "of nobody there is no event"


def test_who_allows_no_personalization_gets_what_is_for_everybody(
    served: tuple[Caller, Parts],
) -> None:
    caller, parts = served
    refusal = Consent(personalization=False).encode()
    assert refusal is not None
    parts.store.put_many([(consent_key(pseudonym("u00")), refusal)])
    shown = show(caller)
    assert "loyal-p02" not in shown
    assert "open-10" in shown


def test_without_a_ledger_no_coupon_is_shown_and_products_are(
    served: tuple[Caller, Parts],
) -> None:
    caller, parts = served
    parts.claiming.ledger.close()
    quotas = [recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=2),
              recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_PRODUCT)]  # fmt: skip
    response = caller.recommend("u00", corpora=quotas, page_size=8)
    assert list(degraded(response)) == ["shelf.coupon"]
    assert len(response.items) > 0
    with refused(grpc.StatusCode.UNAVAILABLE):
        claim(caller, "spring-2", "r1")


def test_a_shop_without_coupons_knows_none(read_only_server: Caller) -> None:
    assert claim(read_only_server, "c", "r").outcome == Outcome.OUTCOME_UNKNOWN_COUPON
    quota = recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=2)
    response = read_only_server.recommend("u00", corpora=[quota])
    assert degraded(response) == {"shelf.coupon": "unavailable"}
