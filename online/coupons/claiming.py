"""Claims and redemptions: rules, guard and ledger in the order in which they may refuse.

A refusal is an outcome and names what refused. The claim's id is made from who asks and the
client's own id, so that sending again gives the same claim and nobody else's. Rules are judged by
the clock of the answers, reservations by the wall clock. It knows no messages.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from feature_store.coupons import expectation_names
from feature_store.ledger import Ask, Claim, Ledger, Redemption, Verdict
from feature_store.schema import Corpus
from feature_store.store import OnlineStore
from online.coupons.eligibility import Verdicts, judge
from online.coupons.findings import Finding, barred_by, findings
from online.coupons.guard import Guard, Withheld
from online.coupons.live import charges_of
from online.coupons.shelf import CouponShelf
from online.errors import RequestError
from online.known import Known, known_of, read_records, record_keys, user_name, visit_name
from online.snapshot import Snapshot
from online.types import CouponDetail, Request

CLAIM_ID_BYTES: Final = 16
_CAPS: Final = frozenset({"claims_per_user", "claims"})
_BUDGETS: Final = frozenset({"budget", "campaign_budget"})


class Ending(StrEnum):
    """How a claim can end."""

    GRANTED = "granted"
    UNKNOWN_COUPON = "unknown_coupon"
    NOT_ELIGIBLE = "not_eligible"
    CAP_REACHED = "cap_reached"
    BUDGET_SPENT = "budget_spent"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: a coupon under the client's own id, for who asks in `request`.

    `device` and `address` are as they came. `mailing` is that of the mail that brought the user
    here, whose expectations the claim uses first.
    """

    request: Request
    item: str
    request_id: str
    device: str = ""
    address: str = ""
    mailing: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """How a claim ended; `finding` is the rule that refused, `withheld` what the guard says."""

    ending: Ending
    claim: Claim | None = None
    finding: Finding | None = None
    withheld: Withheld | None = None
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """What the rules say of a coupon, and the offer; None: there is no such coupon."""

    findings: tuple[Finding, ...] = ()
    title: str = ""
    detail: CouponDetail | None = None


@dataclass(frozen=True, slots=True)
class Claiming:
    """What claims need. Threads may share it; methods raise LedgerError and StoreError."""

    store: OnlineStore
    ledger: Ledger
    guard: Guard
    reservation: int
    """How long a claim is held, microseconds."""

    def explain(self, snapshot: Snapshot, request: Request, item: str) -> Explained:
        """Why this coupon is eligible or not, rule by rule."""
        shelf, place = _place(snapshot, item)
        if shelf is None:
            return Explained()
        verdicts = self._judged(shelf, request, self._known(request))
        title = shelf.coupons.coupons[place].title
        return Explained(tuple(findings(verdicts, place)), title, shelf.detail(verdicts, place))

    def claim(self, snapshot: Snapshot, wish: Wish, now_time: int) -> Claimed:
        """Reserve the coupon's face value; `now_time` is the wall clock, microseconds UTC.

        Raises RequestError when the client's id was used for another coupon.
        """
        claim_id = _claim_id(wish)
        if (there := self.ledger.find(claim_id)) is not None:
            return _repeated(there, wish)
        shelf, place = _place(snapshot, wish.item)
        if shelf is None:
            return Claimed(Ending.UNKNOWN_COUPON)
        known = self._known(wish.request)
        verdicts = self._judged(shelf, wish.request, known)
        # What a mail's claims are expected to take counts as spent, but not against themselves.
        trusted = {"budget", "campaign_budget"} if wish.mailing else set()
        told = findings(verdicts, place)
        broken = [one for one in told if not one.met and one.rule not in trusted]
        if broken:
            return Claimed(_ending(broken[0].rule), finding=broken[0])
        counted = (known.name, wish.device, wish.address, now_time)
        if (withheld := self.guard.admit(*counted)) is not None:
            return Claimed(Ending.WITHHELD, withheld=withheld)
        is_new = False
        try:
            claimed = self._reserve(shelf, place, wish, known, claim_id, verdicts, now_time)
            is_new = claimed.ending is Ending.GRANTED and not claimed.is_repeated
        finally:
            if not is_new:
                self.guard.take_back(*counted)
        return claimed

    def redeem(self, claim_id: str, basket: str, micros: int, now_time: int) -> Redemption:
        """Settle a claim, see `Ledger.redeem`."""
        return self.ledger.redeem(claim_id, basket, micros, now_time)

    def _reserve(
        self,
        shelf: CouponShelf,
        place: int,
        wish: Wish,
        known: Known,
        claim_id: str,
        verdicts: Verdicts,
        now_time: int,
    ) -> Claimed:
        coupon = shelf.coupons.coupons[place]
        ends = [now_time + self.reservation]
        if coupon.end_time is not None and coupon.end_time > now_time:
            ends.append(coupon.end_time)
        ask = Ask(
            claim_id=claim_id,
            item=wish.item,
            user=known.name,
            micros=int(verdicts.judged.face_value[place]),
            charges=charges_of(shelf.coupons, place, known.name),
            now_time=now_time,
            expire_time=min(ends),
            expectations=expectation_names(wish.mailing, coupon) if wish.mailing else (),
            barred=shelf.coupons.apart_from(place),
        )
        answer = self.ledger.claim(ask)
        if answer.claim is not None:
            if answer.is_repeated:
                return _repeated(answer.claim, wish)
            self._keep_up(wish.request, known.name)
            return Claimed(Ending.GRANTED, answer.claim)
        if answer.verdict is Verdict.BARRED:
            return Claimed(
                Ending.NOT_ELIGIBLE, finding=barred_by(shelf.coupons, place, answer.held)
            )
        rule = "budget"
        if answer.verdict is Verdict.CAP_REACHED:
            is_own = answer.account.startswith(known.name)
            rule = "claims_per_user" if is_own else "claims"
        return Claimed(_ending(rule), finding=Finding(rule, met=False, parameters={}))

    def _keep_up(self, request: Request, name: str) -> None:
        """Give the claims to who is called otherwise since: a merge moves what it finds."""
        if (now := self._known(request).name) != name:
            self.ledger.move(name, now)

    def _known(self, request: Request) -> Known:
        return known_of(request, read_records(self.store, record_keys(request)))

    def _judged(self, shelf: CouponShelf, request: Request, known: Known) -> Verdicts:
        return judge(shelf.coupons, shelf.situation(request, known))


def _place(snapshot: Snapshot, item: str) -> tuple[CouponShelf, int] | tuple[None, int]:
    """The shelf that has this coupon and its place there."""
    shelf = snapshot.shelves.get(Corpus.COUPON)
    if not isinstance(shelf, CouponShelf):
        return None, -1
    place = shelf.coupons.index.get(item)
    return (None, -1) if place is None else (shelf, place)


def _ending(rule: str) -> Ending:
    if rule in _CAPS:
        return Ending.CAP_REACHED
    return Ending.BUDGET_SPENT if rule in _BUDGETS else Ending.NOT_ELIGIBLE


def _repeated(there: Claim, wish: Wish) -> Claimed:
    if there.item != wish.item:
        raise RequestError("request_id", "was used for another coupon; make a new one")
    return Claimed(Ending.GRANTED, there, is_repeated=True)


def _claim_id(wish: Wish) -> str:
    """Of who asks as the request names them: what a merge calls them changes no id."""
    request = wish.request
    name = user_name(request.user) if request.user else visit_name(request.session)
    digest = hashlib.blake2b(f"{name}\0{wish.request_id}".encode(), digest_size=CLAIM_ID_BYTES)
    return digest.hexdigest()
