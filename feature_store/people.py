"""What is kept of people besides their features: consent, traits, and who became whom.

Small records of the online store, read together with the state. It knows their layout, not
who writes them.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from feature_store.errors import StateFormatError
from feature_store.state import STATE_LAYOUT, state_key

PSEUDONYM_BYTES: Final = 32

_NO_PERSONALIZATION: Final = 1
_NO_EMAIL: Final = 2
_MOVED: Final = struct.Struct(f"<H{PSEUDONYM_BYTES}sqq")
_MOVED_VERSION: Final = 0xFFFF
"""Where a state has the version of its layout; no layout will have this one."""

CONSENT_PREFIX: Final = b"c1/"
SOURCES_PREFIX: Final = b"m1/"
TRAITS_PREFIX: Final = b"a1/"
GUARD_PREFIX: Final = b"g1/"
"""Instants of claims, int64 and oldest first, under keyed hashes of who claimed, and how."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What a user allows. Who is not known allows both."""

    personalization: bool = True
    email: bool = True

    def encode(self) -> bytes | None:
        """The stored value; None, no record, for somebody who allows everything."""
        refused = _NO_PERSONALIZATION * (not self.personalization) + _NO_EMAIL * (not self.email)
        return bytes((refused,)) if refused else None

    @staticmethod
    def decode(value: bytes | None) -> "Consent":
        """What a stored value says. Raises StateFormatError when it is none of ours."""
        if value is None:
            return EVERYTHING
        if len(value) != 1:
            raise StateFormatError(
                "a consent is damaged; run `python -m offline materialize` again"
            )
        return Consent(not value[0] & _NO_PERSONALIZATION, not value[0] & _NO_EMAIL)

    def both(self, other: "Consent") -> "Consent":
        """What both allow."""
        return Consent(self.personalization and other.personalization, self.email and other.email)


EVERYTHING: Final = Consent()


@dataclass(frozen=True, slots=True)
class Moved:
    """Stands where a state was that has been merged into that of a user.

    `target` is the user's 32-byte pseudonym, `num_events` what they got, `merge_time` in
    microseconds UTC.
    """

    target: bytes
    merge_time: int
    num_events: int

    @property
    def key(self) -> bytes:
        """The store's key of the state that has it all now."""
        return state_key(self.target)

    def encode(self) -> bytes:
        """The stored value."""
        return _MOVED.pack(_MOVED_VERSION, self.target, self.merge_time, self.num_events)

    @staticmethod
    def decode(value: bytes | None) -> "Moved | None":
        """What stands there if it is not a state."""
        if value is None or len(value) != _MOVED.size:
            return None
        version, target, merge_time, num_events = _MOVED.unpack(value)
        return Moved(target, merge_time, num_events) if version == _MOVED_VERSION else None


def session_key(session: bytes) -> bytes:
    """The store's key for the state of a session, `session` being the 32-byte pseudonym.

    It differs from every user's: a shop may number its sessions as it numbers its users.
    """
    return b"s%08x/" % STATE_LAYOUT + session


def consent_key(user: bytes) -> bytes:
    """The store's key for what a user allows, `user` being the 32-byte pseudonym."""
    return CONSENT_PREFIX + user


def traits_key(user: bytes) -> bytes:
    """The store's key for what the shop says of a user, `user` being the 32-byte pseudonym."""
    return TRAITS_PREFIX + user


def encode_traits(traits: Iterable[str]) -> bytes:
    """The stored traits, each `field=value` as an audience names it."""
    return "\n".join(sorted(set(traits))).encode()


def decode_traits(value: bytes | None) -> frozenset[str]:
    """What a stored value says."""
    return frozenset(value.decode().split("\n")) if value else frozenset()


def sources_key(user: bytes) -> bytes:
    """The store's key for the list of what was merged into a user."""
    return SOURCES_PREFIX + user


def encode_sources(state_keys: list[bytes]) -> bytes | None:
    """The stored list of the states that were merged; None for none."""
    return b"".join(dict.fromkeys(state_keys)) or None


def decode_sources(value: bytes | None) -> list[bytes]:
    """The store's keys of the states that were merged into a user."""
    size = len(state_key(b"")) + PSEUDONYM_BYTES
    text = value or b""
    return [text[start : start + size] for start in range(0, len(text), size)]
