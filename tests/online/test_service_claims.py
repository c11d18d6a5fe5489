"""Claims over gRPC, on a real ledger: reserved, used, refused, withheld, moved, forgotten."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest

from aisle.v1 import (
    context_pb2,
    corpus_pb2,
    coupon_pb2,
    money_pb2,
    recommendation_pb2,
)
from feature_store.coupons import campaign_account, expectation_name
from feature_store.ids import Pseudonymizer
from feature_store.ledger import Answer, Ask, Charge
from feature_store.schema import Corpus
from online.coupons.claiming import Ending, Wish
from online.coupons.guard import BURST, PER_DEVICE
from online.known import user_name
from online.process import coupons
from online.process.server import Parts, read_wall_clock
from online.types import Request
from tests.online.coupon_shop import (
    ONE,
    Outcome,
    Redeemed,
    basket,
    broken,
    caller,
    claim,
    coupon_world,
    event_log,
    explain,
    pseudonym,
    quarantined,
    redeem,
    served,
    show,
    usd,
    world,
)
from tests.online.serving import (
    Caller,
    degraded,
    refused,
    serving,
    settings_of,
)
from tests.worlds import KEY, World

__all__ = ["caller", "coupon_world", "served", "world"]


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


def test_of_a_stacking_group_one_is_claimed_however_they_are_asked_for(
    served: tuple[Caller, Parts],
) -> None:
    caller, parts = served
    users = [f"u{number:02}" for number in range(6)]
    pairs = [(coupon, user) for user in users for coupon in ("big-5", "gift-p04")]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda pair: claim(caller, pair[0], pair[0], pair[1]), pairs))
    outcomes = [answer.outcome for answer in found]
    assert Counter(outcomes) == {Outcome.OUTCOME_GRANTED: 6, Outcome.OUTCOME_NOT_ELIGIBLE: 6}
    refused_ones = [answer for answer in found if answer.outcome == Outcome.OUTCOME_NOT_ELIGIBLE]
    assert len({answer.text for answer in refused_ones}) <= 2
    held = [parts.claiming.ledger.claims_of(user_name(pseudonym(user))) for user in users]
    assert [len(claims) for claims in held] == [1] * 6


def test_a_budget_that_is_full_of_claims_is_free_again_when_they_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coupons, "EXPIRE_EACH_S", 0.1)
    charge = Charge(campaign_account("spring"), 5 * ONE)
    with serving(settings_of(world, currency="USD")) as (caller, parts):
        now = read_wall_clock()
        ask = Ask("a", "spring-2", "user/x", 5 * ONE, (charge,), now, now + 1_000_000)
        assert parts.claiming.ledger.claim(ask).claim is not None
        assert claim(caller, "spring-2", "r1").outcome == Outcome.OUTCOME_BUDGET_SPENT
        deadline = time.monotonic() + 10
        while "spring-2" not in show(caller, "u01"):
            assert time.monotonic() < deadline, "nothing is free again"
            time.sleep(0.1)
        assert claim(caller, "spring-2", "r2").outcome == Outcome.OUTCOME_GRANTED


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


def test_of_two_coupons_under_one_request_id_at_once_one_is_granted(
    served: tuple[Caller, Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, parts = served
    monkeypatch.setattr(parts.claiming.ledger, "find", lambda _: None)  # as if not there yet
    assert claim(caller, "spring-2", "r").outcome == Outcome.OUTCOME_GRANTED
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        claim(caller, "gift-p04", "r")
    (kept,) = parts.claiming.ledger.claims_of(user_name(pseudonym("u01")))
    assert kept.item == "spring-2"


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


def test_what_the_ledger_refuses_or_has_already_counts_for_no_burst(
    served: tuple[Caller, Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, parts = served
    ledger, reserve = parts.claiming.ledger, parts.claiming.ledger.claim

    def refuse(ask: Ask) -> Answer:
        return reserve(replace(ask, charges=(Charge("full", max_claims=0),)))

    monkeypatch.setattr(ledger, "claim", refuse)  # as when others took the last one just before
    for number in range(BURST.count + 1):
        full = claim(caller, "gift-p04", f"f{number}")
        assert full.outcome == Outcome.OUTCOME_CAP_REACHED
    monkeypatch.setattr(ledger, "claim", reserve)
    monkeypatch.setattr(ledger, "find", lambda _: None)  # as when both are asked for at once
    for _ in range(BURST.count + 1):
        assert claim(caller, "gift-p04", "g").outcome == Outcome.OUTCOME_GRANTED


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
    far = 2**52
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


def test_a_claim_that_is_sent_again_after_login_is_the_same(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    before = claim(caller, "spring-2", "r1", "", session_id="s1")
    before_user = claim(caller, "spring-2", "r1", "u07")
    caller.merge("u01", source_session_id="s1")
    caller.merge("u01", source_user_id="u07")
    assert claim(caller, "spring-2", "r1", "", session_id="s1") == before
    assert claim(caller, "spring-2", "r1", "u07") == before_user
    held = parts.claiming.ledger.claims_of(user_name(pseudonym("u01")))
    assert {one.claim_id for one in held} == {before.claim.claim_id, before_user.claim.claim_id}


def test_who_logs_in_during_a_claim_has_it(
    served: tuple[Caller, Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, parts = served
    ledger, reserve = parts.claiming.ledger, parts.claiming.ledger.claim

    def late(ask: Ask) -> Answer:
        caller.merge("u01", source_session_id="s1")
        return reserve(ask)

    monkeypatch.setattr(ledger, "claim", late)
    granted = claim(caller, "spring-2", "r1", "", session_id="s1")
    assert [one.claim_id for one in ledger.claims_of(user_name(pseudonym("u01")))] == [
        granted.claim.claim_id
    ]


def test_a_claim_outlives_its_coupon_and_the_key(world: World) -> None:
    settings = settings_of(world, currency="USD")
    with serving(settings) as (caller, parts):
        before = claim(caller, "spring-2", "r1")
        wish = Wish(Request(0, user=pseudonym("u01")), "spring-2", "r1")
        shelves = {**parts.engine.snapshot.shelves}
        del shelves[Corpus.COUPON]
        without = replace(parts.engine.snapshot, shelves=shelves)
        assert parts.claiming.claim(without, wish, 0).is_repeated
        assert parts.claiming.claim(without, replace(wish, request_id="r2"), 0).ending is (
            Ending.UNKNOWN_COUPON
        )
    new = bytes(reversed(KEY))
    rotated = replace(settings, pseudonym_key=new, pseudonym_key_previous=KEY)
    with serving(rotated) as (caller, parts):
        assert show(caller, "u01")["spring-2"].coupon.claim_id == before.claim.claim_id
        name = user_name(Pseudonymizer(new).digest("u01"))
        assert [one.item for one in parts.claiming.ledger.claims_of(name)] == ["spring-2"]
        assert claim(caller, "spring-2", "r2").outcome == Outcome.OUTCOME_GRANTED
        assert claim(caller, "spring-2", "r3").outcome == Outcome.OUTCOME_CAP_REACHED


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


def test_a_shop_without_coupons_knows_none(read_only_server: Caller) -> None:
    assert claim(read_only_server, "c", "r").outcome == Outcome.OUTCOME_UNKNOWN_COUPON
    quota = recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=2)
    response = read_only_server.recommend("u00", corpora=[quota])
    assert degraded(response) == {"shelf.coupon": "unavailable"}
