"""The ledger of claims: money and places that are reserved, settled or free again.

Whatever dies, is repeated or happens at once: of every account no more is reserved and settled
than its budget holds, no more claims count than its cap allows, and a claim that was acknowledged
is there. One small seam: SQLite for the processes of one machine, Redis for several.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from feature_store.errors import LedgerUrlError
from feature_store.ledger.claims import (
    MAX_MICROS,
    Account,
    Answer,
    Ask,
    Changes,
    Charge,
    Claim,
    Outcome,
    Redemption,
    State,
    Verdict,
)

__all__ = [
    "MAX_MICROS",
    "Account",
    "Answer",
    "Ask",
    "Changes",
    "Charge",
    "Claim",
    "Ledger",
    "Outcome",
    "Redemption",
    "State",
    "Verdict",
    "open_ledger",
]


class Ledger(Protocol):
    """Claims on accounts. Threads may share it; any method raises LedgerError when it fails.

    After an error of a method that writes it is not known whether it took effect: send it again,
    which is safe. `now_time` is the caller's clock; what is due by then is set free first.
    """

    def claim(self, ask: Ask) -> Answer:
        """Reserve on all accounts or none. The same claim id again gives the claim that is there.

        Of claims that bar each other one is granted, however many are asked for at once.

        When it returns, the claim outlives the death of any process; of the machine too, where
        the store is one file; with Redis that is the server's setting.
        """

    def redeem(self, claim_id: str, basket: str, micros: int, now_time: int) -> Redemption:
        """Settle a claim with what it really gave, and free the rest of what was reserved.

        The same claim and basket again change nothing.
        """

    def reserve_expected(
        self, expectation: str, charge: Charge, micros: int, now_time: int, expire_time: int
    ) -> bool:
        """Set money aside for claims that are expected, such as those of a mailing.

        A claim that names the expectation uses it up by its face value before it takes from what
        is free, so that an account never holds both. False, and nothing set aside, when
        the budget does not hold it. The same expectation again changes nothing. What is left at
        `expire_time` is free again.
        """

    def release_expected(self, expectation: str) -> None:
        """Free what is left of an expectation now."""

    def release_all_expected(self, prefix: str) -> int:
        """Free what is left of the expectations whose names begin so; how many there were."""

    def expire(self, now_time: int) -> int:
        """Free what is due; how many claims and expectations there were."""

    def changes(self, since_version: int) -> Changes:
        """The shared accounts that changed after a version; 0: all."""

    def claims_of(self, user: str) -> list[Claim]:
        """The claims of a user that count: reserved and settled ones, oldest first."""

    def claims_of_many(self, users: Sequence[str]) -> dict[str, list[Claim]]:
        """The same for each of some users, in one go."""

    def users(self) -> set[str]:
        """Everybody whom claims are under, those that do not count any more too."""

    def find(self, claim_id: str) -> Claim | None:
        """One claim."""

    def move(self, source: str, target: str) -> int:
        """Give a user's claims, with the caps they use, to another; how many there were."""

    def forget(self, user: str) -> int:
        """Take a user out of the ledger: sums stay, claims stay redeemable by who has their id.

        How many claims there were.
        """

    def shred(self) -> None:
        """Leave nothing of who was forgotten in the file; for a job, as it writes the file anew."""

    def close(self) -> None:
        """Let go of files and connections; twice does no harm."""


def open_ledger(url: str) -> Ledger:
    """The ledger at this address.

    `sqlite:FILE`             on this machine, made when absent
    `redis://HOST:PORT/DB`    Redis or Valkey; also rediss:// and unix://, with the options of
                              redis-py and `namespace=` in the query

    Raises LedgerUrlError for any other address, LedgerError when it cannot be opened.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        from feature_store.ledger.embedded import SqliteLedger

        return SqliteLedger(Path(rest))
    if scheme in ("redis", "rediss", "unix"):
        from feature_store.ledger.remote import RedisLedger

        return RedisLedger.from_url(url)
    raise LedgerUrlError(
        f"a ledger's address cannot start with {scheme!r}; use sqlite:FILE or redis://HOST:PORT/DB"
    )
