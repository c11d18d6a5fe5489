"""What is known of who asks: the state of the user and that of the running session.

A session without a user is somebody too: its state then stands for the user's. A state that was
merged into a user's is looked up there, except for another user: what a visit gave away is not
shown to whoever visits next. Of a user who allows no personalization nothing is known. It knows
the layout of what is kept, and no bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.coupons import USER_NAMES
from feature_store.people import (
    EVERYTHING,
    Consent,
    Moved,
    consent_key,
    decode_traits,
    session_key,
    traits_key,
)
from feature_store.schema import EVENT_KINDS, MICROSECONDS_PER_DAY, EventKind
from feature_store.state import EMPTY, Rows, UserState, state_key
from feature_store.store import OnlineStore
from online.types import Request

SESSION_MICROSECONDS: Final = MICROSECONDS_PER_DAY
"""What happened within a day before the request belongs to the running visit."""

INTERESTED_KINDS: Final = frozenset(
    {
        EventKind.VIEW,
        EventKind.CLICK,
        EventKind.CART_ADD,
        EventKind.CONTENT_READ,
        EventKind.COUPON_CLAIM,
        EventKind.MAIL_CLICK,
        EventKind.LIKE,
    }
)
"""Kinds that speak for an item without being a purchase."""

_REGION: Final = "region="

INTERESTED: Final = np.array([kind in INTERESTED_KINDS for kind in EVENT_KINDS])
"""Whether each kind of event is one of them, by its code."""


@dataclass(frozen=True, slots=True)
class Known:
    """The states of the user and of the session, empty for what is not known.

    `traits` are what the shop says of the user, `name` is what claims are under: the user, after
    merges, else the visit, "" for nobody.
    """

    user: UserState = EMPTY
    session: UserState = EMPTY
    consent: Consent = EVERYTHING
    traits: frozenset[str] = frozenset()
    name: str = ""

    @property
    def region(self) -> str:
        """Where the user lives, as far as the shop says; "" where it does not."""
        named = (trait.partition(_REGION) for trait in self.traits)
        return next((region for before, found, region in named if found and not before), "")

    def recent_keys(self, time: int) -> NDArray[np.uint64]:
        """Keys of the items that the visit at `time` showed interest in, shape (n,)."""
        states = (self.user, self.session)
        parts = [_recent_keys(state.recent, time) for state in states if len(state.recent)]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def user_name(user: bytes) -> str:
    """What claims of a user are under, `user` being the 32-byte pseudonym."""
    return f"{USER_NAMES}{user.hex()}"


def is_user(name: str) -> bool:
    """Whether a name of claims is that of a user, and not of a visit or of nobody."""
    return name.startswith(USER_NAMES)


def visit_name(session: bytes) -> str:
    """What claims of a visit are under: a shop may number visits as it numbers users."""
    return f"visit/{session.hex()}" if session else ""


def record_keys(request: Request) -> list[bytes]:
    """The store's keys of all that is kept of who asks, for one batched read."""
    name = request.user
    user = [state_key(name), consent_key(name), traits_key(name)] if name else []
    return [*user, session_key(request.session)] if request.session else user


def read_records(store: OnlineStore, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """What is there, and what there is where it moved to. Raises StoreError.

    One round trip; a second one only if something has moved.
    """
    found = dict(zip(keys, store.get_many(keys), strict=True))
    notes = [note for value in found.values() if (note := Moved.decode(value))]
    more = dict.fromkeys(
        key
        for note in notes
        for key in (note.key, consent_key(note.target), traits_key(note.target))
    )
    if missing := [key for key in more if key not in found]:
        found.update(zip(missing, store.get_many(missing), strict=True))
    return found


def known_of(request: Request, found: Mapping[bytes, bytes | None]) -> Known:
    """What the records say of who asks. Raises StateFormatError when one is damaged."""
    user = request.user
    session = found.get(session_key(request.session)) if request.session else None
    moved = Moved.decode(session)
    if user:
        session = None if moved else session
        if note := Moved.decode(found[state_key(user)]):
            user = note.target
    elif moved:
        user, session = moved.target, None
    if not user:
        return Known(session=_state(session), name=visit_name(request.session))
    consent = Consent.decode(found[consent_key(user)])
    if not consent.personalization:
        return Known(consent=consent, name=user_name(user))
    state = _state(found[state_key(user)])
    traits = decode_traits(found.get(traits_key(user)))
    if request.user:
        return Known(state, _state(session), consent, traits, user_name(user))
    return Known(session=state, consent=consent, traits=traits, name=user_name(user))


def _state(value: bytes | None) -> UserState:
    return EMPTY if value is None else UserState.decode(value)


def _recent_keys(recent: Rows, time: int) -> NDArray[np.uint64]:
    of_visit = recent["time"] > time - SESSION_MICROSECONDS
    keys: NDArray[np.uint64] = recent["key"][of_visit & INTERESTED[recent["kind"]]]
    return keys
