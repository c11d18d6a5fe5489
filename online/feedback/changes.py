"""What events and merges change in the online store, each as one step that is whole or absent.

A state that was merged leaves a note behind of where it went; whoever changes it follows. A mark
of an erasure is looked at in the same step that would write, so that nothing comes back that
another worker has just erased. It knows the layout of what is kept, and no log.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store import features
from feature_store.errors import StateFormatError
from feature_store.events import Event, Merge, Source
from feature_store.features import EventBatch, update, was_seen
from feature_store.ids import hash64_many
from feature_store.people import (
    EVERYTHING,
    Consent,
    Moved,
    consent_key,
    decode_sources,
    encode_sources,
    session_key,
    sources_key,
)
from feature_store.schema import CORPORA, EVENT_KIND_CODE, EventKind
from feature_store.state import EMPTY, STATE_PREFIX, UserState, state_key
from feature_store.store import Change, OnlineStore, Values
from feature_store.tombstones import Marker, mark_key
from online.errors import MergedElsewhereError

logger = logging.getLogger(__name__)

_CORPUS_CODE: Final = {corpus.value: code for code, corpus in enumerate(CORPORA)}

ELSEWHERE: Final = "it was merged into another user before; that user has the history"

Record = dict[bytes, bytes | None]
"""What the store holds under each of some keys."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of each event, shape (events,).

    `was_seen`: its state knew it. `was_erased`: it names somebody who was erased, so that it
    changed nothing and must not be kept anywhere. `erased`: the pseudonyms that were erased.
    """

    was_seen: NDArray[np.bool_]
    was_erased: NDArray[np.bool_]
    erased: set[str]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did: how many events the user got, when (microseconds UTC), now or before."""

    num_events: int
    merge_time: int
    was_merged: bool


class _HasMovedError(Exception):
    """States turn out to have been merged: the key of each now, by its key before."""

    def __init__(self, targets: dict[bytes, bytes]) -> None:
        super().__init__()
        self.targets = targets


class _HasChangedError(Exception):
    """What was read to choose the keys is not so any more."""


def apply(events: Sequence[Event], store: OnlineStore, marker: Marker | None = None) -> Applied:
    """Change the states and consents of the events' users, all or none.

    `marker` None: nobody was ever erased. What a user did who allows no personalization changes
    no state. Raises StoreError; applying the same events again changes nothing.
    """
    owners = [owner_key(event) for event in events]
    marks = _marks(events, marker)
    applied = Applied(np.zeros(len(events), bool), np.zeros(len(events), bool), set())
    while events:
        keys = _keys_of(owners, marks)
        try:
            store.update_many(keys, _applying(keys, events, owners, marks, applied))
            break
        except _HasMovedError as moved:
            owners = [moved.targets.get(owner, owner) for owner in owners]
    return applied


def merge(merge: Merge, store: OnlineStore) -> Merged:
    """Give the source's state to the target, once.

    Raises MergedElsewhereError when another user has it, or when source and target are one by
    earlier merges; StoreError.
    """
    source, target = source_key(merge), state_key(bytes.fromhex(merge.target))
    while True:
        inherited = _inherited(store, source)
        done: list[Merged] = []
        keys = list(dict.fromkeys([*_person(source), *_person(target), *inherited]))

        def change(values: Values) -> Values:
            found = dict(zip(keys, values, strict=True))  # noqa: B023  # run before the next turn
            done[:] = [_merge(found, merge, source, target, inherited)]  # noqa: B023
            return list(found.values())

        try:
            store.update_many(keys, change)
            return done[0]
        except _HasMovedError as moved:
            target = moved.targets[target]
        except _HasChangedError:
            continue
        if target == source:
            raise MergedElsewhereError(ELSEWHERE)


def find_merge(merge: Merge, store: OnlineStore) -> Merged | None:
    """What an earlier call of the same merge did, None when there was none.

    Raises MergedElsewhereError when another user has the source; StoreError.
    """
    source, target = source_key(merge), state_key(bytes.fromhex(merge.target))
    given, taken = map(Moved.decode, store.get_many([source, target]))
    if taken and taken.key == source:
        raise MergedElsewhereError(ELSEWHERE)
    if given is None:
        return None
    if given.key != (taken.key if taken else target):
        raise MergedElsewhereError(ELSEWHERE)
    return Merged(given.num_events, given.merge_time, was_merged=True)


def owner_key(event: Event) -> bytes:
    """The store's key of the state that an event changes: the user's, else the session's."""
    if event.user:
        return state_key(bytes.fromhex(event.user))
    return session_key(bytes.fromhex(event.session))


def source_key(merge: Merge) -> bytes:
    """The store's key of the state that a merge gives away."""
    key = state_key if merge.kind == Source.USER else session_key
    return key(bytes.fromhex(merge.source))


def pseudonym_of(key: bytes) -> bytes:
    """The pseudonym in a state's key."""
    return key[len(STATE_PREFIX) :]


def is_user(key: bytes) -> bool:
    """Whether a state's key is a user's, not a session's."""
    return key.startswith(STATE_PREFIX)


def _marks(events: Sequence[Event], marker: Marker | None) -> dict[str, bytes]:
    """By each pseudonym, the store's key that is there when it was erased."""
    if marker is None:
        return {}
    names = {name for event in events for name in (event.user, event.session) if name}
    return {name: mark_key(marker.of_pseudonym(bytes.fromhex(name))) for name in names}


def _keys_of(owners: Sequence[bytes], marks: Mapping[str, bytes]) -> list[bytes]:
    distinct = list(dict.fromkeys(owners))
    consents = [consent_key(pseudonym_of(owner)) for owner in distinct if is_user(owner)]
    return [*distinct, *consents, *marks.values()]


def _applying(
    keys: Sequence[bytes],
    events: Sequence[Event],
    owners: Sequence[bytes],
    marks: Mapping[str, bytes],
    applied: Applied,
) -> Change:
    def change(values: Values) -> Values:
        found = dict(zip(keys, values, strict=True))
        _follow(found, owners)
        erased = {name for name, key in marks.items() if found[key] is not None}
        applied.erased.update(erased)
        applied.was_erased[:] = [bool(erased & {one.user, one.session}) for one in events]
        applied.was_seen[:] = False
        left = np.flatnonzero(~applied.was_erased).tolist()
        _note_consents([events[i] for i in left], [owners[i] for i in left], found)
        personal = [i for i in left if _consent(found, owners[i]).personalization]
        if personal:
            rows = np.array(personal)
            applied.was_seen[rows] = _change_states(
                [events[i] for i in personal], [owners[i] for i in personal], found
            )
        return list(found.values())

    return change


def _follow(found: Record, keys: Sequence[bytes]) -> None:
    """Raises _HasMovedError when a state is elsewhere by now."""
    moved = {key: note.key for key in keys if (note := Moved.decode(found[key]))}
    if moved:
        raise _HasMovedError(moved)


def _change_states(events: Sequence[Event], owners: Sequence[bytes], found: Record) -> list[bool]:
    """Put the states after the events in the place of those before; which events were known."""
    distinct = list(dict.fromkeys(owners))
    position = {key: number for number, key in enumerate(distinct)}
    batch = _columns(events, [position[key] for key in owners])
    states = [_decoded(found[key]) for key in distinct]
    after = update(states, batch)
    found.update(zip(distinct, (state.encode() for state in after), strict=True))
    known: list[bool] = was_seen(states, batch).tolist()
    return known


def _note_consents(events: Sequence[Event], owners: Sequence[bytes], found: Record) -> None:
    """Who unsubscribes gets no more mails."""
    for event, owner in zip(events, owners, strict=True):
        if event.kind == EventKind.UNSUBSCRIBE and is_user(owner):
            consent = _consent(found, owner).both(Consent(email=False))
            found[consent_key(pseudonym_of(owner))] = consent.encode()


def _consent(found: Record, owner: bytes) -> Consent:
    """What the owner of a state allows; a session nobody has logged in to allows everything."""
    if not is_user(owner):
        return EVERYTHING
    return Consent.decode(found[consent_key(pseudonym_of(owner))])


def _inherited(store: OnlineStore, source: bytes) -> list[bytes]:
    """The states that were merged into the source before."""
    if not is_user(source):
        return []
    return decode_sources(store.get_many([sources_key(pseudonym_of(source))])[0])


def _person(key: bytes) -> list[bytes]:
    """All keys that a state's owner may have."""
    if not is_user(key):
        return [key]
    pseudonym = pseudonym_of(key)
    return [key, consent_key(pseudonym), sources_key(pseudonym)]


def _merge(
    found: Record, merge: Merge, source: bytes, target: bytes, inherited: Sequence[bytes]
) -> Merged:
    if earlier := Moved.decode(found[source]):
        if earlier.key != target:
            _follow(found, [target])
            raise MergedElsewhereError(ELSEWHERE)
        return Merged(earlier.num_events, earlier.merge_time, was_merged=True)
    _follow(found, [target])
    if is_user(source):
        _take_over(found, source, target, inherited)
    before = _decoded(found[source])
    num_events = int(before.totals["num_events"][0])
    if _consent(found, target).personalization:
        found[target] = features.merge([before, _decoded(found[target])]).encode()
    note = Moved(pseudonym_of(target), merge.merge_time, num_events)
    found[source] = note.encode()
    sources = sources_key(pseudonym_of(target))
    found[sources] = encode_sources([*decode_sources(found[sources]), source])
    return Merged(num_events, merge.merge_time, was_merged=False)


def _take_over(found: Record, source: bytes, target: bytes, inherited: Sequence[bytes]) -> None:
    """What was merged into the source is the target's too; the strictest consent counts."""
    names = sources_key(pseudonym_of(source))
    if decode_sources(found[names]) != list(inherited):
        raise _HasChangedError
    for key in inherited:
        if note := Moved.decode(found[key]):
            moved = Moved(pseudonym_of(target), note.merge_time, note.num_events)
            found[key] = moved.encode()
    sources = sources_key(pseudonym_of(target))
    found[sources] = encode_sources([*decode_sources(found[sources]), *inherited])
    consent = _consent(found, source).both(_consent(found, target))
    found[consent_key(pseudonym_of(target))] = consent.encode()
    found[consent_key(pseudonym_of(source))] = found[names] = None


def _decoded(value: bytes | None) -> UserState:
    try:
        return EMPTY if value is None else UserState.decode(value)
    except StateFormatError as error:
        logger.error("a user's state is unreadable and starts anew: %s", error)
        return EMPTY


def _columns(events: Sequence[Event], owners: Sequence[int]) -> EventBatch:
    return EventBatch(
        owner=np.array(owners, np.int64),
        time=np.array([event.event_time for event in events], np.int64),
        event=hash64_many(event.event_id for event in events),
        item=_keys([event.item for event in events]),
        kind=np.array([EVENT_KIND_CODE[event.kind] for event in events], np.int16),
        corpus=np.array([_CORPUS_CODE[event.corpus] for event in events], np.int16),
        quantity=np.array([event.quantity for event in events], np.float32),
        price=np.array([event.price or 0.0 for event in events], np.float32),
        basket=_keys([event.basket for event in events]),
    )


def _keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    """The key of each id, 0 where there is none."""
    return np.where([bool(one) for one in ids], hash64_many(ids), np.uint64(0))
