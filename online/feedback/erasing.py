"""Forgetting a person online: at once, once and for all, with a record that proves it.

The mark that keeps the person out is on the disk before anything is deleted, so that a crash
half way is mended by asking again. What lies in files that are written anew as a whole is left
to the job `python -m offline erase`; until then the mark bars it from use. The record holds no
personal data: its name is a keyed hash, so that only who asks for an id can find it.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from feature_store.audit import (
    ERASED,
    EVENT_SPOOL,
    LEDGER,
    OFFLINE_PLACES,
    ONLINE_STORE,
    SCHEDULED,
    Audit,
)
from feature_store.errors import EventLogError
from feature_store.event_log import EventLog, spool_workers
from feature_store.event_log.seam import WorkerLog
from feature_store.ledger import Ledger
from feature_store.people import (
    Moved,
    consent_key,
    decode_sources,
    encode_sources,
    session_key,
    sources_key,
    traits_key,
)
from feature_store.state import state_key
from feature_store.store import OnlineStore
from feature_store.tombstones import Tombstones, mark_key
from online.chat.memory import Memory
from online.feedback.changes import is_user, pseudonym_of
from online.known import user_name, visit_name


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is to be forgotten: a raw id, and the pseudonyms that it has or had."""

    is_user: bool
    raw: str
    pseudonyms: tuple[bytes, ...]

    @property
    def state_keys(self) -> list[bytes]:
        """The store's keys of the states."""
        key = state_key if self.is_user else session_key
        return [key(pseudonym) for pseudonym in self.pseudonyms]


@dataclass(frozen=True, slots=True)
class Eraser:
    """What forgetting needs: where things are kept. Used by the thread that writes events.

    `worker` is the number of the spool that `own_log` is; None when it is none.
    """

    home: Path
    event_log: Path
    own_log: WorkerLog
    worker: int | None
    store: OnlineStore
    tombstones: Tombstones
    ledger: Ledger

    def erase(self, subject: Subject, now_time: int) -> Audit:
        """Forget; asking again is safe and gives the same record, with `erase_time` of the first.

        Raises StoreError, LedgerError or EventLogError when something cannot be reached; ask again
        then. The ledger keeps its sums, and what was claimed can still be used.
        """
        marker = self.tombstones.marker
        audit_id = marker.audit_id("user" if subject.is_user else "session", subject.raw)
        path = Audit.path(self.home, audit_id)
        audit = Audit.read(path) if path.exists() else Audit(audit_id, now_time)
        states = _closure(self.store, subject.state_keys)
        names = [pseudonym_of(key) for key in states]
        marks = [marker.of_id(subject.raw), *map(marker.of_pseudonym, names)]
        self.tombstones.add(marks)
        for name in (ONLINE_STORE, EVENT_SPOOL, *OFFLINE_PLACES):
            audit.found(name, 0, SCHEDULED)
        audit.complete_time = None
        audit.write(self.home)
        is_left = not subject.is_user and _take_back(self.store, states)
        num_records = forget(self.store, states, marks) + Memory(self.store).forget(names)
        audit.found(ONLINE_STORE, num_records, SCHEDULED if is_left else ERASED)
        audit.found(LEDGER, sum(self.ledger.forget(claimant(key)) for key in states), ERASED)
        audit.found(EVENT_SPOOL, *self._erase_spools([name.hex() for name in names]))
        audit.write(self.home)
        return audit

    def _erase_spools(self, names: Sequence[str]) -> tuple[int, str]:
        """The rows that were found, and whether no file holds a trace of them."""
        num_rows, state = sum(self.own_log.erase(*names)), ERASED
        for worker in set(spool_workers(self.event_log)) - {self.worker}:
            try:
                with closing(EventLog(self.event_log, worker)) as log:
                    num_rows += sum(log.erase(*names))
            except EventLogError:
                state = SCHEDULED
        return num_rows, state


def claimant(state: bytes) -> str:
    """What claims of a state's owner are under."""
    name = pseudonym_of(state)
    return user_name(name) if is_user(state) else visit_name(name)


def forget(store: OnlineStore, states: Sequence[bytes], marks: Iterable[bytes]) -> int:
    """Delete all that the store holds under these states' keys, and set marks; how many it held.

    In one step, so that nobody can write between the mark and the deletion.
    """
    keys = list(dict.fromkeys(key for state in states for key in _records(state)))
    marked = [mark_key(mark) for mark in dict.fromkeys(marks)]
    num_records = [0]

    def change(values: list[bytes | None]) -> list[bytes | None]:
        num_records[0] = sum(value is not None for value in values[: len(keys)])
        return [None] * len(keys) + [b"1"] * len(marked)

    store.update_many([*keys, *marked], change)
    return num_records[0]


def _closure(store: OnlineStore, states: Sequence[bytes]) -> list[bytes]:
    """These states, what was merged into them, and the users whom these accounts became."""
    known: dict[bytes, None] = {}
    waiting = list(states)
    while waiting:
        key = waiting.pop()
        if key in known:
            continue
        known[key] = None
        if is_user(key):
            value, sources = store.get_many([key, sources_key(pseudonym_of(key))])
            waiting += decode_sources(sources)
            if moved := Moved.decode(value):
                waiting.append(moved.key)
    return list(known)


def _take_back(store: OnlineStore, visits: Sequence[bytes]) -> bool:
    """Have users forget that these visits were theirs; whether any was.

    What was done there stays in the user's state until `python -m offline materialize`.
    """
    notes = [note for value in store.get_many(visits) if (note := Moved.decode(value))]
    lists = list(dict.fromkeys(sources_key(note.target) for note in notes))

    def change(values: list[bytes | None]) -> list[bytes | None]:
        kept = [[key for key in decode_sources(value) if key not in visits] for value in values]
        return [encode_sources(keys) for keys in kept]

    if lists:
        store.update_many(lists, change)
    return bool(lists)


def _records(state: bytes) -> list[bytes]:
    name = pseudonym_of(state)
    others = [consent_key(name), sources_key(name), traits_key(name)]
    return [state, *others] if is_user(state) else [state]
