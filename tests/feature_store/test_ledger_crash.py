"""The ledger in bad times: never overspent, no cap exceeded, no acknowledged claim lost.

Eight processes claim against one budget that holds a tenth of what they ask for, and are killed
again and again. Each is followed by one that, like a client, sends again what was not acknowledged.
"""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from feature_store.ledger import Ask, Charge, Claim, Ledger, Outcome, State, Verdict, open_ledger
from tests.feature_store.redis_server import server_port, url

__all__ = ["server_port", "url"]

SPAWN = multiprocessing.get_context("spawn")
NOW = 1_700_000_000_000_000
FOR_EVER = NOW + 10**15
CENT = 10_000
NUM_WORKERS = 8
COUPONS = 5
SETTLED_SHARE = 0.2
APART = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Plan:
    """How much is asked for. The budget holds a tenth of it; two of five coupons have caps."""

    num_claims: int
    num_kills: int

    @property
    def budget(self) -> int:
        return self.num_claims // 10 * 100 * CENT

    @property
    def caps(self) -> dict[str, int]:
        return {"c0": self.num_claims // 200, "c1": self.num_claims // 70}

    @property
    def num_users(self) -> int:
        return self.num_claims // 4

    def ask(self, number: int) -> Ask:
        """Claim number so and so, the same one whoever sends it."""
        item, user = f"c{number % COUPONS}", f"user-{number * 7919 % self.num_users}"
        charges = (
            Charge(item, max_claims=self.caps.get(item)),
            Charge("campaign", max_micros=self.budget),
            Charge(f"{item}/{user}", max_claims=1, is_shared=False),
        )
        micros = (50 + number * 104_729 % 101) * CENT
        return Ask(str(number), item, user, micros, charges, NOW + number, FOR_EVER)

    def settles(self, number: int) -> int | None:
        """What a granted claim is redeemed with; None: it stays open."""
        is_settled = random.Random(number).random() < SETTLED_SHARE
        return self.ask(number).micros // 2 if is_settled else None


def claim_one_by_one(address: str, plan: Plan, numbers: range, acknowledge: Connection) -> None:
    """A worker. It says what became of each claim, and only then goes on."""
    ledger = open_ledger(address)
    for number in numbers:
        verdict = ledger.claim(plan.ask(number)).verdict
        micros = plan.settles(number) if verdict is Verdict.GRANTED else None
        is_settled = micros is not None
        if micros is not None:
            redeemed = ledger.redeem(str(number), f"b{number}", micros, NOW + number)
            assert redeemed.outcome is Outcome.SETTLED
        acknowledge.send((number, verdict, is_settled))
    acknowledge.close()


@dataclass
class Crowd:
    """The workers, what each has left to do, and what was acknowledged."""

    address: str
    plan: Plan
    left: list[range] = field(default_factory=list)
    processes: list[BaseProcess | None] = field(default_factory=list)
    inboxes: list[Connection | None] = field(default_factory=list)
    acknowledged: dict[int, tuple[Verdict, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        share = self.plan.num_claims // NUM_WORKERS
        for worker in range(NUM_WORKERS):
            self.left.append(range(worker * share, (worker + 1) * share))
            self.processes.append(None)
            self.inboxes.append(None)
            self.start(worker)

    def start(self, worker: int) -> None:
        here, there = SPAWN.Pipe(duplex=False)
        arguments = (self.address, self.plan, self.left[worker], there)
        process = SPAWN.Process(target=claim_one_by_one, args=arguments)
        process.start()
        there.close()
        self.processes[worker], self.inboxes[worker] = process, here

    def kill(self, worker: int) -> bool:
        """Kill a worker without a word, and start another in its place; False: it had ended."""
        process = self.processes[worker]
        if process is None or self.inboxes[worker] is None:
            return False
        process.kill()
        process.join()
        while self.inboxes[worker] is not None:
            self.hear(worker)
        if self.left[worker]:
            self.start(worker)
        return True

    def hear(self, worker: int) -> None:
        inbox = self.inboxes[worker]
        assert inbox is not None
        try:
            number, verdict, is_settled = inbox.recv()
        except (EOFError, ConnectionResetError):
            inbox.close()
            self.inboxes[worker] = None
            return
        assert number == self.left[worker].start
        self.acknowledged[number] = (verdict, is_settled)
        self.left[worker] = self.left[worker][1:]

    def listen(self, until_s: float) -> bool:
        """Hear what is acknowledged for a while; False once all workers have ended."""
        while (left_s := until_s - time.monotonic()) > 0:
            open_ones = {box: worker for worker, box in enumerate(self.inboxes) if box is not None}
            if not open_ones:
                return False
            for box in wait(list(open_ones), timeout=left_s):
                self.hear(open_ones[box])  # type: ignore[index]  # these are all connections
        return True


def run_crowd(address: str, plan: Plan) -> Crowd:
    """Let all claim, with a kill whenever a share of the work is done."""
    dice = random.Random(17)
    crowd = Crowd(address, plan)
    deadline_s = time.monotonic() + 3_000
    num_killed = 0
    while crowd.listen(time.monotonic() + 0.02):
        assert time.monotonic() < deadline_s, "the crowd does not get done"
        share = len(crowd.acknowledged) / plan.num_claims
        if num_killed < min(plan.num_kills, 1 + share * plan.num_kills / 0.9):
            num_killed += crowd.kill(dice.randrange(NUM_WORKERS))
    assert num_killed == plan.num_kills
    return crowd


def claims_in(ledger: Ledger, plan: Plan) -> Iterator[Claim]:
    for number in range(plan.num_users):
        yield from ledger.claims_of(f"user-{number}")


def prove(address: str, plan: Plan) -> None:
    crowd = run_crowd(address, plan)
    assert len(crowd.acknowledged) == plan.num_claims
    ledger = open_ledger(address)
    claims = {int(claim.claim_id): claim for claim in claims_in(ledger, plan)}
    accounts = ledger.changes(0).accounts
    ledger.close()

    granted = {n for n, (verdict, _) in crowd.acknowledged.items() if verdict is Verdict.GRANTED}
    assert granted == set(claims), "an acknowledged claim is lost, or one is there unasked"
    for number, claim in claims.items():
        is_settled = crowd.acknowledged[number][1]
        assert claim.state is (State.SETTLED if is_settled else State.RESERVED)
        assert claim.reserved == plan.ask(number).micros
        assert claim.settled == (plan.settles(number) if is_settled else 0)

    reserved = sum(one.reserved for one in claims.values() if one.state is State.RESERVED)
    settled = sum(one.settled for one in claims.values())
    campaign = accounts["campaign"]
    assert (campaign.reserved, campaign.settled) == (reserved, settled)
    assert reserved + settled <= plan.budget, "overspent"
    assert plan.budget - reserved - settled < 150 * CENT, "the budget was there to be spent"
    by_coupon = Counter(one.item for one in claims.values())
    for item, cap in plan.caps.items():
        assert by_coupon[item] == accounts[item].claims == cap
    by_user = Counter((one.item, one.user) for one in claims.values())
    assert max(by_user.values()) == 1


def claim_one_for_each(address: str, item: str, num_users: int, everybody: Barrier) -> None:
    """A process that claims one of the coupons that do not go together, user after user."""
    ledger = open_ledger(address)
    others = tuple(other for other in APART if other != item)
    for number in range(num_users):
        everybody.wait(timeout=60)
        user = f"user-{number}"
        ledger.claim(Ask(f"{item}/{user}", item, user, CENT, (), NOW, FOR_EVER, barred=others))
    ledger.close()


def prove_apart(address: str, num_users: int) -> None:
    """All claim for the same user at the same time, so that no rule judged before could tell."""
    everybody = SPAWN.Barrier(len(APART))
    arguments = [(address, item, num_users, everybody) for item in APART]
    processes = [SPAWN.Process(target=claim_one_for_each, args=one) for one in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    ledger = open_ledger(address)
    held = [len(ledger.claims_of(f"user-{number}")) for number in range(num_users)]
    ledger.close()
    assert held == [1] * num_users


SMALL = Plan(num_claims=4_000, num_kills=10)
FULL = Plan(num_claims=100_000, num_kills=100)


def test_a_file_is_never_overspent(tmp_path: Path) -> None:
    prove(f"sqlite:{tmp_path / 'ledger.sqlite'}", SMALL)


def test_a_server_is_never_overspent(url: str) -> None:
    prove(url, SMALL)


def test_in_a_file_one_of_what_does_not_go_together_is_granted(tmp_path: Path) -> None:
    prove_apart(f"sqlite:{tmp_path / 'ledger.sqlite'}", 100)


def test_on_a_server_one_of_what_does_not_go_together_is_granted(url: str) -> None:
    prove_apart(url, 100)


@pytest.mark.prove
def test_a_file_is_never_overspent_by_a_hundred_thousand_claims(tmp_path: Path) -> None:
    prove(f"sqlite:{tmp_path / 'ledger.sqlite'}", FULL)


@pytest.mark.prove
def test_a_server_is_never_overspent_by_a_hundred_thousand_claims(url: str) -> None:
    prove(url, FULL)
