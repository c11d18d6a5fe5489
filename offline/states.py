"""Chunks of users into the online store, each together with a note of how far the work is.

Because the note changes together with the states, a job that is killed knows what it has done.
Who was erased or allows no personalization gets no state; what was merged away stays so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from feature_store.features import EventBatch, update
from feature_store.people import Consent, Moved, consent_key
from feature_store.state import EMPTY, UserState, state_key
from feature_store.store import OnlineStore, Record, Values


class LaterEvents(Protocol):
    """What came since the chunks were cut."""

    def of(self, users: Sequence[bytes]) -> EventBatch | None:
        """The later events of these users, `owner` being the position in `users`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some users' pseudonyms and events, `events.owner` being the position in `users`."""

    users: Sequence[bytes]
    events: EventBatch


class _HasMovedError(Exception):
    """States turn out to have been merged: the user of each now, by the user before."""

    def __init__(self, targets: dict[bytes, bytes]) -> None:
        super().__init__()
        self.targets = targets


def nobody(_user: bytes) -> bool:
    """For where nobody was erased."""
    return False


def make_anew(
    store: OnlineStore,
    chunk: Chunk,
    note: Record | None = None,
    later: LaterEvents | None = None,
    is_erased: Callable[[bytes], bool] = nobody,
) -> None:
    """Put what the events make of nothing in the place of the users' states.

    `later` is asked while the states are held, so that nothing is lost that a server has
    applied to the states that were there.
    """
    made = update([EMPTY] * len(chunk.users), chunk.events)
    erased = [is_erased(user) for user in chunk.users]

    def change(before: Values, allowed: Sequence[bool]) -> Values:
        events = later.of(chunk.users) if later is not None else None
        states = made if events is None else update(made, events)
        return [
            _anew(old, state if may and not gone else None)
            for old, state, may, gone in zip(before, states, allowed, erased, strict=True)
        ]

    _change(store, chunk.users, note, change)


def change_states(
    store: OnlineStore,
    chunk: Chunk,
    note: Record | None = None,
    is_erased: Callable[[bytes], bool] = nobody,
) -> None:
    """Apply the events to the users' states.

    Raises StateFormatError for a state that cannot be read.
    """

    def change(before: Values, allowed: Sequence[bool]) -> Values:
        notes = zip(chunk.users, map(Moved.decode, before), strict=True)
        if targets := {user: moved.target for user, moved in notes if moved}:
            raise _HasMovedError(targets)
        states = [EMPTY if value is None else UserState.decode(value) for value in before]
        after = update(states, chunk.events)
        return [
            state.encode() if may and not is_erased(user) else old
            for user, old, state, may in zip(chunk.users, before, after, allowed, strict=True)
        ]

    while True:
        try:
            return _change(store, chunk.users, note, change)
        except _HasMovedError as moved:
            chunk = _redirected(chunk, moved.targets)


def _anew(old: bytes | None, state: UserState | None) -> bytes | None:
    if Moved.decode(old):
        return old
    return state.encode() if state else None


def _change(
    store: OnlineStore,
    users: Sequence[bytes],
    note: Record | None,
    change: Callable[[Values, Sequence[bool]], Values],
) -> None:
    """Change states, given what was there and who allows it, together with the note."""
    num = len(users)
    keys = [*map(state_key, users), *map(consent_key, users)]
    notes = [] if note is None else [note]

    def everything(values: Values) -> Values:
        consents = values[num : 2 * num]
        allowed = [Consent.decode(value).personalization for value in consents]
        return [*change(values[:num], allowed), *consents, *(value for _, value in notes)]

    store.update_many([*keys, *(key for key, _ in notes)], everything)


def _redirected(chunk: Chunk, targets: dict[bytes, bytes]) -> Chunk:
    """The chunk with the events of those who have become others given to these."""
    now = [targets.get(user, user) for user in chunk.users]
    users = list(dict.fromkeys(now))
    place = {user: number for number, user in enumerate(users)}
    number = np.array([place[user] for user in now])
    return Chunk(users, replace(chunk.events, owner=number[chunk.events.owner]))
