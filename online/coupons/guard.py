"""The guard against abuse: bursts of claims, and too many through one device or from one address.

It counts claims that were granted, in the store, so that all workers count together. Devices
and addresses are known by keyed hashes alone. Who is over a limit is told so, and when to come
back; nobody is turned away in silence. It knows no coupon and no rule.
"""

import hmac
import struct
from dataclasses import dataclass
from typing import Final

from feature_store.people import GUARD_PREFIX
from feature_store.store import OnlineStore

MINUTE: Final = 60_000_000
DAY: Final = 1_440 * MINUTE


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` claims within `span` microseconds."""

    name: str
    count: int
    span: int


BURST: Final = Limit("burst", 5, MINUTE)
PER_DEVICE: Final = Limit("device", 10, DAY)
PER_ADDRESS: Final = Limit("address", 20, DAY)
"""A household shares an address, and a few share a device."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why a claim is withheld, and from when on it may be tried again, microseconds UTC."""

    limit: str
    until_time: int


class Guard:
    """Counts claims. Threads and processes may share the store."""

    def __init__(self, store: OnlineStore, key: bytes) -> None:
        """`key` is the secret that makes pseudonyms."""
        self._store = store
        self._key = key

    def admit(self, name: str, device: str, address: str, now_time: int) -> Withheld | None:
        """Count one claim of who is called `name`, or say why it is not let through.

        `device` and `address` are as they came, "" where not known. Raises StoreError.
        """
        limits = self._limits(name, device, address)
        refused: list[Withheld] = []

        def change(values: list[bytes | None]) -> list[bytes | None]:
            refused.clear()
            after: list[bytes | None] = []
            for limit, value in zip(limits.values(), values, strict=True):
                times = [one for one in _decode(value) if one > now_time - limit.span]
                if len(times) >= limit.count:
                    refused.append(Withheld(limit.name, times[-limit.count] + limit.span))
                after.append(_encode([*times, now_time]))
            return list(values) if refused else after

        if limits:
            self._store.update_many(list(limits), change)
        return max(refused, key=lambda one: one.until_time) if refused else None

    def take_back(self, name: str, device: str, address: str, now_time: int) -> None:
        """Count a claim no more that was let through at `now_time` and not granted.

        Raises StoreError.
        """

        def change(values: list[bytes | None]) -> list[bytes | None]:
            return [_without(value, now_time) for value in values]

        if limits := self._limits(name, device, address):
            self._store.update_many(list(limits), change)

    def _limits(self, name: str, device: str, address: str) -> dict[bytes, Limit]:
        """What a claim counts against, by the record of each."""
        asked = ((BURST, name), (PER_DEVICE, device), (PER_ADDRESS, address))
        return {self._record(limit, raw): limit for limit, raw in asked if raw}

    def _record(self, limit: Limit, raw: str) -> bytes:
        text = f"{limit.name}\0{raw}".encode()
        return GUARD_PREFIX + hmac.digest(self._key, text, "sha256")


def _decode(value: bytes | None) -> tuple[int, ...]:
    return struct.unpack(f"<{len(value) // 8}q", value) if value else ()


def _without(value: bytes | None, time: int) -> bytes | None:
    times = list(_decode(value))
    if time in times:
        times.remove(time)
    return _encode(times) if times else None


def _encode(times: list[int]) -> bytes:
    return struct.pack(f"<{len(times)}q", *times)
