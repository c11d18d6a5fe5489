"""What is used of the coupons right now, and the prices of what is left: the ledger and the store.

One per bundle that is served. The ledger is asked for what changed since the last time, so that an
answer never shows what has just been used up. Prices are kept in the store, one record a campaign,
and moved by `online.coupons.pacing` as the budget is spent; whichever worker is due moves them.
"""

import struct
import threading
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from feature_store.coupons import campaign_account, coupon_account, own_account
from feature_store.ids import hash64
from feature_store.ledger import Account, Charge, Ledger, State
from feature_store.store import OnlineStore
from online.coupons.columns import UNLIMITED, Coupons
from online.coupons.pacing import Pace, Plan, repriced, start, straight
from online.coupons.usage import Holdings, Usage
from online.coupons.valuing import Floats

REPRICE_MICROSECONDS: Final = 60_000_000
"""How often a worker looks whether prices are to be moved."""

PRICE_PREFIX: Final = b"w1/"
_PRICE: Final = struct.Struct("<ddd")


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
    _accounts: dict[str, Account] = field(default_factory=dict)
    _version: int = 0
    _usage: Usage | None = None
    _prices: Floats | None = None
    _priced_time: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
        """The shadow price of each campaign's money. Raises StoreError, LedgerError."""
        with self._lock:
            is_due = abs(now_time - self._priced_time) >= REPRICE_MICROSECONDS
            if self._prices is not None and not is_due:
                return self._prices
        usage = self.usage()
        prices = self._repriced(usage, now_time)
        with self._lock:
            self._prices, self._priced_time = prices, now_time
        return prices

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

    def _repriced(self, usage: Usage, now_time: int) -> Floats:
        """The prices in the store, moved by what was spent since; those of no pace as they began.

        A campaign without a budget or without dates has no pace: nothing says what is due.
        """
        prices = self.first_prices.copy()
        paced = [place for place in range(len(prices)) if self._is_paced(place, now_time)]
        keys = [_price_key(self.coupons.campaigns[place].campaign) for place in paced]
        found: list[float] = []

        def change(values: list[bytes | None]) -> list[bytes | None]:
            moved = [
                self._moved(place, value, usage, now_time)
                for place, value in zip(paced, values, strict=True)
            ]
            found[:] = [float(pace.price[0]) for pace in moved]
            return [_encode(pace) for pace in moved]

        if keys:
            self.store.update_many(keys, change)
            prices[paced] = found
        return prices

    def _is_paced(self, place: int, now_time: int) -> bool:
        campaign = self.coupons.campaigns[place]
        if campaign.budget is None or campaign.start_time is None or campaign.end_time is None:
            return False
        return campaign.start_time <= now_time < campaign.end_time

    def _moved(self, place: int, value: bytes | None, usage: Usage, now_time: int) -> Pace:
        campaign = self.coupons.campaigns[place]
        first, end = campaign.start_time or 0, campaign.end_time or UNLIMITED
        elapsed = (now_time - first) / (end - first)
        plan = self._plan(place, campaign.budget or 0)
        used = usage.campaign_spent[place : place + 1].astype(np.float64)
        if value is None:
            return start(plan, used, elapsed)
        return repriced(plan, _decode(value), used, elapsed)

    def _plan(self, place: int, budget: int) -> Plan:
        """The budget, spent evenly; a unit of it buys what the campaign's coupons earn on it."""
        mine = self.coupons.campaign == place
        face = np.maximum(self.coupons.face_value[mine], 1)
        scale = float((self.coupons.margin[mine] / face).mean()) if mine.any() else 1.0
        return Plan(
            limit=np.array([float(budget)]),
            price=self.first_prices[place : place + 1],
            scale=np.array([max(scale, 1e-9)]),
            curve=straight(1),
        )


def _price_key(campaign: str) -> bytes:
    return PRICE_PREFIX + hash64(campaign).to_bytes(8, "big")


def _encode(pace: Pace) -> bytes:
    return _PRICE.pack(float(pace.price[0]), float(pace.used[0]), pace.elapsed)


def _decode(value: bytes) -> Pace:
    price, used, elapsed = _PRICE.unpack(value)
    return Pace(np.array([price]), np.array([used]), elapsed)
