"""What is used of the coupons when a campaign is planned: the same for all parts, however late.

The page asks the ledger for each answer. An export must end up the same whenever it is gone on
with, so it asks once, when it is planned: what is used and what money is worth is in a file of the
folder, what each person has claimed is in the plan, and goes with them when they are erased.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from feature_store.ledger import Claim, Ledger, State
from feature_store.schema import Corpus
from feature_store.store import OnlineStore
from online.coupons.columns import Coupons
from online.coupons.live import LiveCoupons
from online.coupons.shelf import CouponShelf
from online.coupons.usage import Holdings, Usage, holds_nothing
from online.coupons.valuing import Floats
from online.known import user_name
from online.snapshot import Snapshot
from online.types import Mask

USERS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class FrozenUse:
    """An `online.coupons.usage.Use` that stays as it was; `held` is that of some people."""

    coupons: Coupons
    used: Usage
    worth: Floats
    nothing: Holdings
    held: dict[str, Holdings] = field(default_factory=dict)

    def usage(self) -> Usage:
        """What was used up when the campaign was planned."""
        return self.used

    def holdings(self, name: str, _now_time: int) -> Holdings:
        """What somebody had claimed, one of whom `hold` was told last."""
        return self.held.get(name, self.nothing)

    def prices(self, _now_time: int) -> Floats:
        """What money was worth."""
        return self.worth

    def note(self, value: Floats, cost: Floats, shown: Mask) -> None:
        """Nobody visits here, so there is nothing to remember."""

    def hold(self, people: Sequence[dict[str, Any]]) -> None:
        """The next questions are of these people: `pseudonym`, and `claims` that count.

        A claim is an `item` and a `claim_id`, which is empty where it is not open any more.
        """
        self.held.clear()
        for person in people:
            if person["claims"]:
                name = user_name(bytes.fromhex(person["pseudonym"]))
                self.held[name] = self._holdings(person["claims"])

    def follow(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with coupons that know what is used."""
        shelf = snapshot.shelves.get(Corpus.COUPON)
        if not isinstance(shelf, CouponShelf) or shelf.live is not None:
            return snapshot
        shelves = {**snapshot.shelves, Corpus.COUPON: shelf.with_live(self)}
        return replace(snapshot, shelves=shelves)

    def _holdings(self, claims: Sequence[dict[str, str]]) -> Holdings:
        found = holds_nothing(self.coupons)
        for claim in claims:
            place = self.coupons.index.get(claim["item"])
            if place is not None:
                found.claims[place] += 1
                if claim["claim_id"]:
                    found.open_claims[place] = claim["claim_id"]
        return found


def read_use(snapshot: Snapshot, ledger: Ledger, store: OnlineStore, time: int) -> dict[str, Any]:
    """What is used now, and the prices that the page would go by at `time`, as JSON.

    Nothing for a bundle without coupons. Raises LedgerError and StoreError.
    """
    shelf = snapshot.shelves.get(Corpus.COUPON)
    if not isinstance(shelf, CouponShelf):
        return {}
    models = shelf.models
    live = LiveCoupons(shelf.coupons, ledger, store, models.prices, models.usual)
    usage = live.usage()
    return {
        "claims": usage.claims.tolist(),
        "spent": usage.spent.tolist(),
        "campaign_spent": usage.campaign_spent.tolist(),
        "prices": live.prices_without_trace(time).tolist(),
    }


def frozen_use(snapshot: Snapshot, content: dict[str, Any]) -> FrozenUse | None:
    """What `read_use` has read, for the same bundle; None for one without coupons."""
    shelf = snapshot.shelves.get(Corpus.COUPON)
    if not isinstance(shelf, CouponShelf) or not content:
        return None
    columns = (np.array(content[name], np.int64) for name in ("claims", "spent", "campaign_spent"))
    prices = np.zeros(len(shelf.coupons.budgets))
    prices[: len(content["prices"])] = content["prices"]  # older ones know campaigns alone
    return FrozenUse(shelf.coupons, Usage(*columns), prices, holds_nothing(shelf.coupons))


def claims_by_person(
    ledger: Ledger, pseudonyms: Collection[str], time: int
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Who of these has claims that count at `time`, and which, as `hold` takes them.

    Raises LedgerError.
    """
    people = {user_name(bytes.fromhex(name)): name for name in pseudonyms}
    claimants = sorted(people.keys() & ledger.users())
    for start in range(0, len(claimants), USERS_AT_ONCE):
        found = ledger.claims_of_many(claimants[start : start + USERS_AT_ONCE])
        for name, claims in found.items():
            yield (
                people[name],
                [
                    {"item": one.item, "claim_id": one.claim_id if _is_open(one) else ""}
                    for one in claims
                    if not _is_open(one) or one.expire_time > time
                ],
            )


def _is_open(claim: Claim) -> bool:
    return claim.state is State.RESERVED
