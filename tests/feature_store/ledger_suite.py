"""What every ledger does, whatever it keeps its claims in. Subclasses give a `ledger`."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from feature_store.errors import LedgerError
from feature_store.ledger import (
    MAX_MICROS,
    Account,
    Ask,
    Charge,
    Ledger,
    Outcome,
    State,
    Verdict,
)

NOW = 1_700_000_000_000_000
HOUR = 3_600_000_000
ONE = 1_000_000
USER = "0f" * 32
OTHER = "1e" * 32


def ask(claim_id: str, micros: int = ONE, *charges: Charge, **fields: Any) -> Ask:
    fixed: dict[str, Any] = {"item": "c", "user": USER, "now_time": NOW}
    fixed |= {"expire_time": fields.get("now_time", NOW) + HOUR, **fields}
    return Ask(claim_id, micros=micros, charges=charges or (campaign(),), **fixed)


def campaign(budget: int | None = None, max_claims: int | None = None) -> Charge:
    return Charge("campaign", budget, max_claims)


def of_user(user: str, limit: int | None = None) -> Charge:
    return Charge(f"c/{user}", max_claims=limit, is_shared=False)


def account(ledger: Ledger, name: str = "campaign") -> Account:
    return ledger.changes(0).accounts.get(name, Account())


def verdicts(ledger: Ledger, asks: Sequence[Ask]) -> list[Verdict]:
    return [ledger.claim(one).verdict for one in asks]


class LedgerSuite:
    """Inherit, and give a fixture `ledger` that is empty."""

    def test_a_claim_reserves_its_face_value(self, ledger: Ledger) -> None:
        answer = ledger.claim(ask("1", 2_500_000, campaign(5 * ONE)))
        assert (answer.verdict, answer.is_repeated) == (Verdict.GRANTED, False)
        claim = answer.claim
        assert claim is not None
        assert (claim.state, claim.reserved, claim.settled) == (State.RESERVED, 2_500_000, 0)
        assert (claim.claim_time, claim.expire_time) == (NOW, NOW + HOUR)
        assert account(ledger) == Account(claims=1, reserved=2_500_000)
        assert ledger.find("1") == claim
        assert ledger.find("2") is None

    def test_the_same_id_again_gives_the_same_claim(self, ledger: Ledger) -> None:
        first = ledger.claim(ask("1"))
        again = ledger.claim(ask("1", 3 * ONE, now_time=NOW + 5))
        assert again.is_repeated
        assert again.claim == first.claim
        assert account(ledger) == Account(claims=1, reserved=ONE)

    def test_a_budget_is_filled_to_the_last_micro_and_not_beyond(self, ledger: Ledger) -> None:
        budget = campaign(3 * ONE)
        asks = [ask(str(n), ONE, budget) for n in range(2)]
        assert verdicts(ledger, asks) == [Verdict.GRANTED] * 2
        refused = ledger.claim(ask("3", ONE + 1, budget))
        assert (refused.verdict, refused.account) == (Verdict.BUDGET_SPENT, "campaign")
        assert refused.claim is None
        assert ledger.claim(ask("4", ONE, budget)).verdict is Verdict.GRANTED
        assert ledger.claim(ask("5", 1, budget)).verdict is Verdict.BUDGET_SPENT
        assert ledger.claim(ask("6", 0, budget)).verdict is Verdict.GRANTED
        assert account(ledger).spent == 3 * ONE

    def test_caps_are_exact(self, ledger: Ledger) -> None:
        capped = campaign(max_claims=2)
        found = verdicts(ledger, [ask(str(n), ONE, capped) for n in range(4)])
        assert found == [Verdict.GRANTED] * 2 + [Verdict.CAP_REACHED] * 2

    def test_all_accounts_or_none(self, ledger: Ledger) -> None:
        charges = (Charge("coupon", max_claims=9), campaign(ONE), of_user(USER, 9))
        assert ledger.claim(ask("1", ONE, *charges)).verdict is Verdict.GRANTED
        refused = ledger.claim(ask("2", ONE, *charges))
        assert (refused.verdict, refused.account) == (Verdict.BUDGET_SPENT, "campaign")
        assert account(ledger, "coupon") == Account(claims=1, reserved=ONE)

    def test_a_user_has_a_cap_of_their_own(self, ledger: Ledger) -> None:
        mine = [ask(f"m{n}", ONE, campaign(), of_user(USER, 1)) for n in range(2)]
        theirs = ask("t", ONE, campaign(), of_user(OTHER, 1), user=OTHER)
        found = verdicts(ledger, [*mine, theirs])
        assert found == [Verdict.GRANTED, Verdict.CAP_REACHED, Verdict.GRANTED]
        assert list(ledger.changes(0).accounts) == ["campaign"], "users' own are not shared"

    def test_what_bars_a_claim_is_held_open_by_the_same_user(self, ledger: Ledger) -> None:
        assert ledger.claim(ask("1", item="a")).verdict is Verdict.GRANTED
        refused = ledger.claim(ask("2", item="b", barred=("x", "a")))
        assert (refused.verdict, refused.claim, refused.held) == (Verdict.BARRED, None, "a")
        assert account(ledger) == Account(claims=1, reserved=ONE)
        others = [
            ask("3", item="b", barred=("x",)),
            ask("4", item="b", barred=("a",), user=OTHER),
            ask("5", item="b", barred=("a", "b"), now_time=NOW + HOUR),
        ]
        assert verdicts(ledger, others) == [Verdict.GRANTED] * 3
        assert ledger.claim(ask("6", item="a", barred=("b",), now_time=NOW + HOUR)).held == "b"
        ledger.redeem("5", "basket", ONE, NOW + HOUR)
        used = ask("7", item="a", barred=("b",), now_time=NOW + HOUR)
        assert ledger.claim(used).verdict is Verdict.GRANTED, "what was used bars nothing"

    def test_nobody_bars_nobody(self, ledger: Ledger) -> None:
        asks = [ask(item, item=item, user="", barred=("a", "b")) for item in ("a", "b")]
        assert verdicts(ledger, asks) == [Verdict.GRANTED] * 2

    def test_it_knows_whom_claims_are_under(self, ledger: Ledger) -> None:
        assert ledger.users() == set()
        ledger.claim(ask("1", item="a"))
        ledger.claim(ask("2", item="b", user=OTHER))
        ledger.claim(ask("3", item="b", user=""))
        ledger.expire(NOW + HOUR)
        assert ledger.users() == {USER, OTHER}
        ledger.forget(USER)
        assert ledger.users() == {OTHER}

    def test_redeeming_settles_and_frees_the_rest(self, ledger: Ledger) -> None:
        ledger.claim(ask("1", ONE, campaign(ONE)))
        redemption = ledger.redeem("1", "b1", 300_000, NOW + 1)
        assert redemption.outcome is Outcome.SETTLED
        assert redemption.claim == ledger.find("1")
        claim = redemption.claim
        assert claim is not None
        assert (claim.state, claim.settled, claim.basket) == (State.SETTLED, 300_000, "b1")
        assert claim.settle_time == NOW + 1
        assert account(ledger) == Account(claims=1, settled=300_000)
        assert ledger.claim(ask("2", 700_001, campaign(ONE))).verdict is Verdict.BUDGET_SPENT
        assert ledger.claim(ask("3", 700_000, campaign(ONE))).verdict is Verdict.GRANTED

    def test_redeeming_again_changes_nothing(self, ledger: Ledger) -> None:
        ledger.claim(ask("1"))
        first = ledger.redeem("1", "b1", 300_000, NOW + 1)
        assert ledger.redeem("1", "b1", 300_000, NOW + 9 * HOUR) == first
        other = ledger.redeem("1", "b2", 100_000, NOW + 2)
        assert (other.outcome, other.claim) == (Outcome.ALREADY_USED, first.claim)
        assert account(ledger).settled == 300_000

    def test_no_more_is_redeemed_than_was_reserved(self, ledger: Ledger) -> None:
        ledger.claim(ask("1"))
        too_much = ledger.redeem("1", "b1", ONE + 1, NOW + 1)
        assert too_much.outcome is Outcome.EXCEEDS_RESERVATION
        assert ledger.redeem("1", "b1", ONE, NOW + 1).outcome is Outcome.SETTLED
        assert ledger.redeem("none", "b1", 1, NOW).outcome is Outcome.UNKNOWN

    def test_what_is_not_used_in_time_is_free_again(self, ledger: Ledger) -> None:
        charges = (campaign(ONE, 1), of_user(USER, 1))
        first = ask("1", ONE, *charges)
        assert ledger.claim(first).verdict is Verdict.GRANTED
        just_before = ask("2", ONE, *charges, now_time=NOW + HOUR - 1)
        assert ledger.claim(just_before).verdict is Verdict.CAP_REACHED
        on_time = ask("2", ONE, *charges, now_time=NOW + HOUR)
        assert ledger.claim(on_time).verdict is Verdict.GRANTED
        late = ledger.redeem("1", "b", 1, NOW + HOUR)
        assert late.outcome is Outcome.EXPIRED
        assert late.claim is not None
        assert late.claim.state is State.EXPIRED
        again = ledger.claim(first)
        assert (again.is_repeated, again.claim) == (True, late.claim)
        assert account(ledger) == Account(claims=1, reserved=ONE)

    def test_what_is_due_can_be_freed_at_any_time(self, ledger: Ledger) -> None:
        for number in range(1_100):
            ledger.claim(ask(str(number)))
        ledger.redeem("7", "b", ONE, NOW)
        assert ledger.expire(NOW + HOUR - 1) == 0
        assert ledger.expire(NOW + HOUR) == 1_099
        assert ledger.expire(NOW + HOUR) == 0
        assert account(ledger) == Account(claims=1, settled=ONE)

    def test_an_expectation_holds_money_for_its_claims(self, ledger: Ledger) -> None:
        budget = campaign(10 * ONE)
        assert ledger.reserve_expected("mail-1", budget, 6 * ONE, NOW, NOW + 9 * HOUR)
        assert account(ledger) == Account(expected=6 * ONE)
        assert ledger.claim(ask("w1", 4 * ONE, budget)).verdict is Verdict.GRANTED
        assert ledger.claim(ask("w2", ONE, budget)).verdict is Verdict.BUDGET_SPENT
        mailed = [ask(f"m{n}", 4 * ONE, budget, expectations=("mail-1",)) for n in range(2)]
        assert ledger.claim(mailed[0]).verdict is Verdict.GRANTED
        assert account(ledger) == Account(claims=2, reserved=8 * ONE, expected=2 * ONE)
        assert ledger.claim(mailed[1]).verdict is Verdict.BUDGET_SPENT, "2 of its 4 are held"
        smaller = ask("m3", 2 * ONE, budget, expectations=("mail-1",))
        assert ledger.claim(smaller).verdict is Verdict.GRANTED
        assert account(ledger) == Account(claims=3, reserved=10 * ONE)

    def test_a_claim_uses_what_is_expected_of_each_of_its_accounts(self, ledger: Ledger) -> None:
        first, second = campaign(9 * ONE), Charge("coupon/c", 3 * ONE)
        assert ledger.reserve_expected("m/1", first, 6 * ONE, NOW, NOW + HOUR)
        assert ledger.reserve_expected("m/2", second, 3 * ONE, NOW, NOW + HOUR)
        assert ledger.claim(ask("p", ONE, first, second)).verdict is Verdict.BUDGET_SPENT
        mailed = ask("m", 2 * ONE, first, second, expectations=("m/1", "m/2"))
        assert ledger.claim(mailed).verdict is Verdict.GRANTED
        assert ledger.claim(mailed).is_repeated
        found = ledger.changes(0).accounts
        assert found[first.account] == Account(1, reserved=2 * ONE, expected=4 * ONE)
        assert found[second.account] == Account(1, reserved=2 * ONE, expected=ONE)
        ledger.expire(NOW + HOUR)
        assert ledger.changes(0).accounts[second.account].expected == 0

    def test_an_expectation_is_made_once_and_only_if_it_fits(self, ledger: Ledger) -> None:
        budget = campaign(5 * ONE)
        assert not ledger.reserve_expected("m", budget, 5 * ONE + 1, NOW, NOW + HOUR)
        assert ledger.reserve_expected("m", budget, 3 * ONE, NOW, NOW + HOUR)
        assert ledger.reserve_expected("m", budget, 3 * ONE, NOW, NOW + HOUR)
        assert account(ledger).spent == 3 * ONE

    def test_what_is_left_of_an_expectation_ends_with_it(self, ledger: Ledger) -> None:
        budget = campaign(5 * ONE)
        ledger.reserve_expected("m", budget, 3 * ONE, NOW, NOW + HOUR)
        ledger.claim(ask("1", ONE, budget, expectations=("m",), expire_time=NOW + 9 * HOUR))
        assert ledger.expire(NOW + HOUR) == 1
        assert account(ledger) == Account(claims=1, reserved=ONE)
        ledger.reserve_expected("n", budget, 4 * ONE, NOW + HOUR, NOW + 9 * HOUR)
        ledger.release_expected("n")
        ledger.release_expected("n")
        assert account(ledger).spent == ONE

    @pytest.mark.parametrize("micros", [0, ONE])
    def test_an_expectation_of_which_nothing_is_left_ends_too(
        self, ledger: Ledger, micros: int
    ) -> None:
        assert ledger.reserve_expected("m", campaign(ONE), micros, NOW, NOW + HOUR)
        late = NOW + 9 * HOUR
        first = ask("1", micros, campaign(ONE), expectations=("m",), expire_time=late)
        assert ledger.claim(first).verdict is Verdict.GRANTED
        assert account(ledger) == Account(claims=1, reserved=micros)
        assert ledger.expire(NOW + HOUR) == 1
        assert ledger.expire(NOW + HOUR) == 0
        assert account(ledger) == Account(claims=1, reserved=micros)

    def test_an_empty_expectation_can_be_released(self, ledger: Ledger) -> None:
        assert ledger.reserve_expected("m", campaign(ONE), 0, NOW, NOW + HOUR)
        ledger.release_expected("m")
        assert ledger.claim(ask("1", ONE, campaign(ONE))).verdict is Verdict.GRANTED

    def test_expectations_are_released_by_how_their_names_begin(self, ledger: Ledger) -> None:
        for name in ("a*.1/x", "a*.1/y", "a*.11/x", "ab.1/x"):
            assert ledger.reserve_expected(name, campaign(), ONE, NOW, NOW + HOUR)
        assert ledger.release_all_expected("a*.1/") == 2
        assert account(ledger).expected == 2 * ONE
        assert ledger.release_all_expected("a*.1/") == 0

    def test_a_claim_of_nothing_is_a_claim(self, ledger: Ledger) -> None:
        ledger.reserve_expected("m", campaign(ONE), ONE, NOW, NOW + 9 * HOUR)
        for number, named in enumerate(("", "m")):
            nothing = ask(str(number), 0, campaign(ONE), of_user(USER), expectations=(named,))
            assert ledger.claim(nothing).verdict is Verdict.GRANTED
        assert ledger.redeem("0", "b", 0, NOW).outcome is Outcome.SETTLED
        assert account(ledger) == Account(claims=2, expected=ONE)
        assert ledger.expire(NOW + HOUR) == 1
        assert account(ledger) == Account(claims=1, expected=ONE)

    def test_another_account_uses_no_expectation(self, ledger: Ledger) -> None:
        ledger.reserve_expected("m", campaign(), 3 * ONE, NOW, NOW + HOUR)
        ledger.claim(ask("1", ONE, Charge("other"), expectations=("m",)))
        ledger.claim(ask("2", ONE, campaign(), expectations=("unknown",)))
        assert account(ledger) == Account(1, reserved=ONE, expected=3 * ONE)

    def test_changes_tell_what_changed_since(self, ledger: Ledger) -> None:
        assert ledger.changes(0).accounts == {}
        for number in range(3):
            ledger.claim(ask(str(number), ONE, Charge(f"k{number}")))
        before = ledger.changes(0)
        assert set(before.accounts) == {"k0", "k1", "k2"}
        assert ledger.changes(before.version) == type(before)(before.version, {})
        ledger.redeem("1", "b", 5, NOW)
        after = ledger.changes(before.version)
        assert after.accounts == {"k1": Account(claims=1, settled=5)}
        assert after.version > before.version

    def test_a_users_claims_are_those_that_count(self, ledger: Ledger) -> None:
        for number in range(3):
            ledger.claim(ask(str(number), now_time=NOW + number))
        ledger.claim(ask("x", user=OTHER))
        ledger.redeem("1", "b", 1, NOW + 3)
        ledger.expire(NOW + HOUR)
        found = ledger.claims_of(USER)
        assert [(one.claim_id, one.state) for one in found] == [
            ("1", State.SETTLED),
            ("2", State.RESERVED),
        ]
        together = ledger.claims_of_many([OTHER, USER, "nobody"])
        assert together == {OTHER: [], USER: found, "nobody": []}

    def test_who_becomes_another_takes_claims_and_caps_along(self, ledger: Ledger) -> None:
        ledger.claim(ask("1", ONE, campaign(), of_user(USER, 1)))
        assert ledger.move(USER, OTHER) == 1
        assert ledger.move(USER, OTHER) == 0
        assert [one.claim_id for one in ledger.claims_of(OTHER)] == ["1"]
        more = ask("2", ONE, campaign(), of_user(OTHER, 1), user=OTHER)
        assert ledger.claim(more).verdict is Verdict.CAP_REACHED
        assert ledger.redeem("1", "b", ONE, NOW).outcome is Outcome.SETTLED
        assert account(ledger) == Account(claims=1, settled=ONE)

    def test_who_is_forgotten_is_nowhere_and_the_sums_stay(self, ledger: Ledger) -> None:
        ledger.claim(ask("1", ONE, campaign(), of_user(USER, 1)))
        ledger.claim(ask("2", ONE, campaign(), of_user(OTHER, 1), user=OTHER))
        assert ledger.forget(USER) == 1
        assert ledger.claims_of(USER) == []
        assert len(ledger.claims_of(OTHER)) == 1
        claim = ledger.redeem("1", "b", 5, NOW).claim
        assert claim is not None
        assert claim.user == ""
        assert account(ledger) == Account(claims=2, reserved=ONE, settled=5)
        assert ledger.forget(USER) == 0

    def test_large_amounts_are_exact(self, ledger: Ledger) -> None:
        almost = MAX_MICROS - 1
        ledger.claim(ask("1", almost, campaign(MAX_MICROS)))
        assert account(ledger).reserved == almost
        assert ledger.claim(ask("2", 2, campaign(MAX_MICROS))).verdict is Verdict.BUDGET_SPENT
        assert ledger.claim(ask("3", 1, campaign(MAX_MICROS))).verdict is Verdict.GRANTED
        assert account(ledger).spent == MAX_MICROS

    @pytest.mark.parametrize("micros", [-1, MAX_MICROS + 1])
    def test_what_cannot_be_added_up_is_refused(self, ledger: Ledger, micros: int) -> None:
        with pytest.raises(ValueError, match="micros"):
            ask("1", micros)
        with pytest.raises(ValueError, match="micros"):
            ledger.redeem("1", "b", micros, NOW)

    def test_threads_share_it(self, ledger: Ledger) -> None:
        budget = campaign(50 * ONE)
        with ThreadPoolExecutor(4) as threads:
            found = list(
                threads.map(lambda n: ledger.claim(ask(str(n), ONE, budget)).verdict, range(80))
            )
        assert found.count(Verdict.GRANTED) == 50
        assert account(ledger) == Account(claims=50, reserved=50 * ONE)

    def test_it_agrees_with_plain_arithmetic(self, ledger: Ledger) -> None:
        """Drawn steps, against sums over a list of claims."""
        dice = random.Random(3)
        limit, cap = 40 * ONE, 30
        live: dict[str, list[int]] = {}  # claim: expire time, reserved, settled (-1: open)
        now = NOW
        for number in range(400):
            now += dice.randrange(HOUR // 8)
            live = {k: v for k, v in live.items() if v[2] >= 0 or v[0] > now}
            spent = sum(v[1] if v[2] < 0 else v[2] for v in live.values())
            if dice.random() < 0.6:
                micros = dice.randrange(4 * ONE)
                got = ledger.claim(ask(str(number), micros, campaign(limit, cap), now_time=now))
                fits = spent + micros <= limit and len(live) < cap
                assert (got.verdict is Verdict.GRANTED) is fits
                if fits:
                    live[str(number)] = [now + HOUR, micros, -1]
            elif open_ones := [k for k, v in live.items() if v[2] < 0]:
                chosen = dice.choice(open_ones)
                settled = dice.randrange(live[chosen][1] + 1)
                assert ledger.redeem(chosen, "b", settled, now).outcome is Outcome.SETTLED
                live[chosen][2] = settled
        ledger.expire(now)
        settled = sum(v[2] for v in live.values() if v[2] >= 0)
        reserved = sum(v[1] for v in live.values() if v[2] < 0)
        assert account(ledger) == Account(len(live), reserved, settled)

    def test_a_closed_ledger_says_so(self, ledger: Ledger) -> None:
        ledger.close()
        ledger.close()
        with pytest.raises(LedgerError):
            ledger.claim(ask("1"))
