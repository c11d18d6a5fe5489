"""What is used of the coupons right now, and the prices of what is left: the ledger and the store.

One per bundle that is served. The ledger is asked for what changed since the last time, so that an
answer never shows what has just been used up. Prices are kept in the store, one record a budget
with what they were made from, and made anew by `online.coupons.pacing` as visitors come and the
budget is spent; whichever worker is due makes them, and adds what its own visitors asked for.
"""

import threading
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from feature_store.coupon_demand import LADDER
from feature_store.coupons import Campaign, Coupon, campaign_account, coupon_account, own_account
from feature_store.ids import hash64
from feature_store.ledger import Account, Charge, Ledger, State
from feature_store.store import OnlineStore
from online.coupons.asking import asked_of_budgets, earned_per_unit
from online.coupons.columns import UNLIMITED, Coupons
from online.coupons.pacing import (
    MIN_STEP,
    Pace,
    Plan,
    noted,
    repriced,
    start,
)
from online.coupons.usage import Holdings, Usage
from online.coupons.usual import NOTHING_USUAL, Usual
from online.coupons.valuing import Floats, account_of
from online.types import Mask

REPRICE_MICROSECONDS: Final = 60_000_000
"""How often a worker looks whether prices are to be moved."""

NOTED_EACH: Final = 8
"""One answer of so many is noted, and stands for all: it costs up to 1 us a coupon."""

PRICE_PREFIX: Final = b"w3/"
NUM_TERMS: Final = 4
NUM_FIXED: Final = 5
"""A record: budget, start, end and scale that it was made for; price, used, elapsed, spent,
expected; then demand seen, usual and fresh."""


Terms = tuple[float, float, float, float]


def charges_of(coupons: Coupons, place: int, name: str) -> tuple[Charge, ...]:
    """What a claim of a coupon uses, and the limits of each."""
    coupon = coupons.coupons[place]
    campaign = coupons.campaigns[coupons.campaign[place]]
    return (
        Charge(
            own_account(coupon.item, name),
            max_claims=coupon.max_claims_per_user or None,
            is_shared=False,
        ),
        Charge(coupon_account(coupon.item), coupon.budget, coupon.max_claims or None),
        Charge(campaign_account(campaign.campaign), campaign.budget),
    )


@dataclass(slots=True)
class LiveCoupons:
    """The ledger and the store, as the coupons of one bundle see them. Threads may share it."""

    coupons: Coupons
    ledger: Ledger
    store: OnlineStore
    first_prices: Floats
    usual: Usual = NOTHING_USUAL
    _accounts: dict[str, Account] = field(default_factory=dict)
    _version: int = 0
    _usage: Usage | None = None
    _prices: Floats | None = None
    _priced_time: int = 0
    _num_answers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _budgets: tuple[Campaign | Coupon, ...] = field(init=False)
    _scale: Floats = field(init=False)
    _demand: Floats = field(init=False)
    _plans: dict[int, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A unit of a budget buys what its coupons earn on it."""
        self._budgets = self.coupons.budgets
        self._scale = earned_per_unit(self.coupons)
        self._demand = self._no_demand()

    def usage(self) -> Usage:
        """What is used up by now. Raises LedgerError."""
        with self._lock:
            changes = self.ledger.changes(self._version)
            if changes.accounts or self._usage is None:
                self._accounts.update(changes.accounts)
                self._version = changes.version
                self._usage = self._columns()
            return self._usage

    def holdings(self, name: str, now_time: int) -> Holdings:
        """What this user or visit has claimed. Raises LedgerError.

        `name` is as in `Known.name`. A reservation that has ended by `now_time` counts
        no more.
        """
        claims = np.zeros(len(self.coupons), np.int64)
        open_claims: dict[int, str] = {}
        for claim in self.ledger.claims_of(name) if name else ():
            place = self.coupons.index.get(claim.item)
            is_open = claim.state is State.RESERVED
            if place is None or (is_open and claim.expire_time <= now_time):
                continue
            claims[place] += 1
            if is_open:
                open_claims[place] = claim.claim_id
        return Holdings(claims, open_claims)

    def prices(self, now_time: int) -> Floats:
        """The shadow prices, see `Use.prices`. Raises StoreError, LedgerError."""
        with self._lock:
            is_due = abs(now_time - self._priced_time) >= REPRICE_MICROSECONDS
            if self._prices is not None and not is_due:
                return self._prices
        self.usage()
        prices = self._repriced(now_time)
        with self._lock:
            self._prices, self._priced_time = prices, now_time
        return prices

    def prices_without_trace(self, now_time: int) -> Floats:
        """The prices that an answer at `now_time` would go by, the records left as they are.

        For who asks what will be at an instant: it is no visit. Raises StoreError, LedgerError.
        """
        self.usage()
        prices = self.first_prices.copy()
        paced, keys = self._paced(now_time)
        for place, value in zip(paced, self.store.get_many(keys), strict=True):
            moved = self._moved(place, value, self._no_demand(), now_time)
            prices[place] = moved.price[0]
        return prices

    def note(self, value: Floats, cost: Floats, shown: Mask) -> None:
        """Remember what a visitor could be shown, until prices are made anew.

        `value` and `cost` of each coupon, shape (coupons,): what showing it is worth if budgets
        cost nothing, and what it is expected to use.
        """
        with self._lock:
            self._num_answers += 1
            if self._num_answers % NOTED_EACH != 1:
                return
            prices = self.first_prices if self._prices is None else self._prices
        demand = asked_of_budgets(self.coupons, value, cost, shown, prices)
        with self._lock:
            self._demand += NOTED_EACH * demand

    def _no_demand(self) -> Floats:
        return np.zeros((len(LADDER), len(self.coupons.budgets)))

    def _taken_demand(self) -> Floats:
        with self._lock:
            taken, self._demand = self._demand, self._no_demand()
        return taken

    def _columns(self) -> Usage:
        nothing = Account()
        accounts = self._accounts
        by_coupon = [accounts.get(coupon_account(one.item)) for one in self.coupons.coupons]
        of_coupons = [one or nothing for one in by_coupon]
        of_campaigns = [
            accounts.get(campaign_account(one.campaign), nothing) for one in self.coupons.campaigns
        ]
        return Usage(
            np.array([one.claims for one in of_coupons], np.int64),
            np.array([one.spent for one in of_coupons], np.int64),
            np.array([one.spent for one in of_campaigns], np.int64),
        )

    def _repriced(self, now_time: int) -> Floats:
        """The prices in the store, made anew where due; those of no pace as they began.

        What has no budget or no dates has no pace: nothing says what is due.
        """
        prices = self.first_prices.copy()
        paced, keys = self._paced(now_time)
        demand = self._taken_demand()
        found: list[float] = []

        def change(values: list[bytes | None]) -> list[bytes | None]:
            moved = [
                self._moved(place, value, demand, now_time)
                for place, value in zip(paced, values, strict=True)
            ]
            found[:] = [float(pace.price[0]) for pace in moved]
            pairs = zip(paced, moved, strict=True)
            return [_encode(self._terms(place), pace) for place, pace in pairs]

        if keys:
            self.store.update_many(keys, change)
            prices[paced] = found
        return prices

    def _paced(self, now_time: int) -> tuple[list[int], list[bytes]]:
        """The budgets that have a pace, and the keys of their records."""
        paced = [
            place for place in range(len(self.first_prices)) if self._is_paced(place, now_time)
        ]
        return paced, [_price_key(account_of(self._budgets[place])) for place in paced]

    def _is_paced(self, place: int, now_time: int) -> bool:
        one = self._budgets[place]
        if one.budget is None or one.start_time is None or one.end_time is None:
            return False
        return one.start_time <= now_time < one.end_time

    def _moved(self, place: int, value: bytes | None, demand: Floats, now_time: int) -> Pace:
        """The pace in a record, moved on; anew where its terms are others, or time went back."""
        terms = self._terms(place)
        _, first, end, _ = terms
        elapsed = (now_time - first) / (end - first)
        plan, account = self._plan(place), self._account(self._budgets[place])
        used = np.array([float(account.reserved + account.settled)])
        pace = None if value is None else _decode(value, terms)
        if pace is None or elapsed < pace.elapsed - MIN_STEP:
            pace = start(plan, used, elapsed)
        fresh = noted(pace, demand[:, place : place + 1])
        return repriced(plan, fresh, used, elapsed, float(account.expected))

    def _terms(self, place: int) -> Terms:
        one = self._budgets[place]
        first, end = one.start_time or 0, one.end_time or UNLIMITED
        return float(one.budget or 0), float(first), float(end), float(self._scale[place])

    def _account(self, one: Campaign | Coupon) -> Account:
        if isinstance(one, Campaign):
            return self._accounts.get(campaign_account(one.campaign), Account())
        return self._accounts.get(coupon_account(one.item), Account())

    def _plan(self, place: int) -> Plan:
        if place not in self._plans:
            price, scale = float(self.first_prices[place]), float(self._scale[place])
            one = self._budgets[place]
            self._plans[place] = self.usual.plan(one, account_of(one), price, scale)
        return self._plans[place]


def _price_key(account: str) -> bytes:
    return PRICE_PREFIX + hash64(account).to_bytes(8, "big")


def _encode(terms: Terms, pace: Pace) -> bytes:
    fixed = [*terms, *pace.price, *pace.used, pace.elapsed, *pace.spent, *pace.expected]
    demand = [pace.seen[:, 0], pace.usual[:, 0], pace.fresh[:, 0]]
    return np.concatenate([fixed, *demand]).astype("<f8").tobytes()


def _decode(value: bytes, terms: Terms) -> Pace | None:
    """The pace in a record; None: it was made for other terms."""
    made_for, numbers = np.split(np.frombuffer(value, "<f8"), [NUM_TERMS])
    if tuple(made_for.tolist()) != terms:
        return None
    price, used, elapsed, spent, expected = numbers[:NUM_FIXED, None]
    seen, usual, fresh = numbers[NUM_FIXED:].reshape(3, len(LADDER), 1)
    return Pace(price, used, float(elapsed[0]), seen, usual, spent, expected, fresh)
