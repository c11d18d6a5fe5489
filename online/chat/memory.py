"""Conversations in the online store, each until it has been silent for a while.

A value holds the instant until which it counts; what has expired is deleted now and then. A
conversation is known by the keyed digest of its id, and belongs to who began it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from feature_store.errors import StoreError
from feature_store.store import OnlineStore
from online.chat.dialogue import Kept, decode, encode, expired, owner_of

logger = logging.getLogger(__name__)

PREFIX: Final = b"d1/"
KEPT_MICROSECONDS: Final = 2 * 3_600 * 1_000_000
"""How long a conversation is kept after its last turn."""

SWEEP_EVERY: Final = 1_000
"""After so many turns of this process what has expired is deleted."""


@dataclass(slots=True)
class Memory:
    """The conversations of a store. Raises StoreError when it is away."""

    store: OnlineStore
    _num_kept: int = field(default=0)

    def recall(self, conversation: bytes, owner: bytes, now_time: int) -> Kept:
        """What is kept of a conversation; an empty one where it is another's."""
        kept = decode(self.store.get_many([PREFIX + conversation])[0], now_time)
        if kept is None or (kept.owner and kept.owner != owner):
            return Kept(owner=owner)
        return kept

    def keep(self, conversation: bytes, kept: Kept, now_time: int) -> None:
        """Keep a conversation from now on for its time."""
        value = encode(kept, now_time + KEPT_MICROSECONDS)
        self.store.update_many([PREFIX + conversation], lambda _: [value])
        self._num_kept += 1
        if self._num_kept % SWEEP_EVERY == 0:
            self.sweep(now_time)

    def sweep(self, now_time: int) -> int:
        """Delete what has expired; how many conversations that were."""
        return self._delete(
            [key for key, value in self.store.scan(PREFIX) if expired(value, now_time)]
        )

    def forget(self, owners: Sequence[bytes]) -> int:
        """Delete all conversations of these pseudonyms; how many they were."""
        gone = set(owners) - {b""}
        return self._delete(
            [key for key, value in self.store.scan(PREFIX) if owner_of(value) in gone]
        )

    def _delete(self, keys: Sequence[bytes]) -> int:
        for key in keys:
            try:
                self.store.update_many([key], lambda _: [None])
            except StoreError as error:
                logger.error("a conversation that has ended stays for now: %s", error)
        return len(keys)
