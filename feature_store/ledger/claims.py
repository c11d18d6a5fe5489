"""What a ledger is asked and what it answers: charges on accounts, claims and their life.

Money is integer micros, instants are microseconds UTC, ids are opaque text. An account is
something with a budget or a cap, such as a campaign, a coupon, or a coupon of one user. Limits
come with each call, since they belong to the catalogue; the ledger keeps what is used. It knows no
coupon and no rule.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_MICROS: Final = 2**53 - 1
"""The largest amount, nine thousand million units: what every store of a ledger adds up exactly."""


class State(StrEnum):
    """The life of a claim. The order is the storage code."""

    RESERVED = "reserved"
    SETTLED = "settled"
    EXPIRED = "expired"


STATES: Final = tuple(State)


class Verdict(StrEnum):
    """What became of an ask."""

    GRANTED = "granted"
    CAP_REACHED = "cap_reached"
    BUDGET_SPENT = "budget_spent"
    BARRED = "barred"


class Outcome(StrEnum):
    """What became of a redemption."""

    SETTLED = "settled"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    ALREADY_USED = "already_used"
    EXCEEDS_RESERVATION = "exceeds_reservation"


@dataclass(frozen=True, slots=True)
class Charge:
    """One account that a claim uses, and its limits; None: unlimited.

    `is_shared`: the account is of many users, so that `Ledger.changes` tells of it.
    """

    account: str
    max_micros: int | None = None
    max_claims: int | None = None
    is_shared: bool = True


@dataclass(frozen=True, slots=True)
class Ask:
    """A claim that is asked for: all its charges are met, or none is made.

    `micros` is the face value, reserved on every account. `expectations` name money that
    `reserve_expected` set aside for this claim, at most one of an account; what is left of it is
    used first. `barred` are the items of which the user must hold no open claim: what this one does
    not go together with.
    """

    claim_id: str
    item: str
    user: str
    micros: int
    charges: tuple[Charge, ...]
    now_time: int
    expire_time: int
    expectations: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for what no ledger could add up."""
        require_amount(self.micros)
        if len({charge.account for charge in self.charges}) != len(self.charges):
            raise ValueError("the accounts of a claim must be distinct")


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it is kept. `settled`, `settle_time` and `basket` are 0 and "" until then."""

    claim_id: str
    item: str
    user: str
    state: State
    reserved: int
    settled: int
    claim_time: int
    expire_time: int
    settle_time: int
    basket: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an ask; `account` is the one that refused it.

    `held` is the item of the open claim that bars it. `is_repeated`: the claim was there before, by
    an earlier ask of the same id.
    """

    verdict: Verdict
    claim: Claim | None = None
    account: str = ""
    is_repeated: bool = False
    held: str = ""


@dataclass(frozen=True, slots=True)
class Redemption:
    """What became of a redemption, and the claim as it is now; None: there is none."""

    outcome: Outcome
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Account:
    """What of an account is used: claims that count, and micros by what they are for."""

    claims: int = 0
    reserved: int = 0
    settled: int = 0
    expected: int = 0

    @property
    def spent(self) -> int:
        """What a budget must hold."""
        return self.reserved + self.settled + self.expected


@dataclass(frozen=True, slots=True)
class Changes:
    """The shared accounts that changed, as they are, and the version to ask from next."""

    version: int
    accounts: dict[str, Account]


def require_amount(micros: int) -> None:
    """Raises ValueError for a negative amount, and one that is too large to be added exactly."""
    if not 0 <= micros <= MAX_MICROS:
        raise ValueError(f"an amount must be from 0 to {MAX_MICROS} micros, not {micros}")


def refusal(charge: Charge, claims: int, spent: int) -> Verdict | None:
    """Why an account that would have so many claims and micros is too full; None: it is not."""
    if charge.max_claims is not None and claims > charge.max_claims:
        return Verdict.CAP_REACHED
    if charge.max_micros is not None and spent > charge.max_micros:
        return Verdict.BUDGET_SPENT
    return None
