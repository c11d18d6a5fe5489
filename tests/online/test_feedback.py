"""The way in for events: durable, applied, acknowledged, in this order, whatever fails."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from feature_store.errors import EventLogError, StoreUnavailableError
from feature_store.event_log import EventLog, Outcome
from feature_store.events import Event
from feature_store.ids import Pseudonymizer
from feature_store.people import session_key
from feature_store.schema import EventKind
from feature_store.state import UserState, state_key
from feature_store.store import MemoryStore
from feature_store.store.records import Change
from online.feedback import intake as feedback_module
from online.feedback.changes import apply, owner_key
from online.feedback.intake import Feedback
from tests.worlds import HORIZON_TIME, KEY

PSEUDONYMS = Pseudonymizer(KEY)
USER = PSEUDONYMS.digest("u")


class FlakyStore(MemoryStore):
    """A store whose server can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.num_updates = 0

    def update_many(self, keys: Sequence[bytes], change: Change) -> None:
        if self.is_away:
            raise StoreUnavailableError("the store is away")
        self.num_updates += 1
        super().update_many(keys, change)


def purchase(event_id: str, item: str = "p01", user: str = "u") -> Event:
    return Event(
        event_id=event_id,
        event_time=HORIZON_TIME,
        user=PSEUDONYMS.hexdigest(user),
        kind=EventKind.PURCHASE,
        item=item,
    )


def count(store: MemoryStore, user: bytes = USER) -> float:
    """How many purchases the user's state holds."""
    (value,) = store.get_many([state_key(user)])
    return 0.0 if value is None else float(UserState.decode(value).totals["num_purchases"][0])


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = EventLog(tmp_path, 0)
    yield opened
    opened.close()


@pytest.fixture
def feedback(log: EventLog, store: FlakyStore) -> Iterator[Feedback]:
    running = Feedback(log, store)
    yield running
    running.close()


def test_what_is_acknowledged_is_logged_and_applied(
    feedback: Feedback, log: EventLog, store: FlakyStore
) -> None:
    outcomes = feedback.write([purchase("a"), purchase("b"), purchase("a")], [], 1).result(5)
    assert outcomes == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.DUPLICATE]
    assert [one.event.event_id for one in log.read()] == ["a", "b"]
    assert count(store) == 2
    assert not log.unapplied()


def test_waiting_calls_share_a_transaction(feedback: Feedback, store: FlakyStore) -> None:
    pending = [feedback.write([purchase(f"{n}")], [], 1) for n in range(500)]
    assert all(one.result(5) == [Outcome.ACCEPTED] for one in pending)
    assert count(store) == 500
    assert store.num_updates < 250


def test_the_store_away_means_no_acknowledgement(
    feedback: Feedback, log: EventLog, store: FlakyStore
) -> None:
    store.is_away = True
    with pytest.raises(StoreUnavailableError):
        feedback.write([purchase("a")], [], 1).result(5)
    assert [one.event.event_id for one in log.unapplied()] == ["a"]
    store.is_away = False
    assert feedback.write([purchase("a")], [], 1).result(5) == [Outcome.DUPLICATE]
    assert count(store) == 1


def test_what_is_left_over_is_applied_without_a_new_call(
    monkeypatch: pytest.MonkeyPatch, log: EventLog, store: FlakyStore
) -> None:
    monkeypatch.setattr(feedback_module, "RETRY_S", 0.05)
    feedback = Feedback(log, store)
    store.is_away = True
    with pytest.raises(StoreUnavailableError):
        feedback.write([purchase("a")], [], 1).result(5)
    store.is_away = False
    deadline = time.monotonic() + 5
    while log.unapplied() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert count(store) == 1
    feedback.close()


def test_what_was_logged_before_a_crash_is_applied_at_start(
    log: EventLog, store: FlakyStore
) -> None:
    log.append([purchase(f"{n}") for n in range(2_500)], 1)
    apply([purchase("0")], store)  # this one reached the store, but was not marked
    Feedback(log, store).close()
    assert count(store) == 2_500
    assert not log.unapplied()


def test_what_another_worker_took_is_a_duplicate(
    feedback: Feedback, store: FlakyStore, tmp_path: Path
) -> None:
    other_log = EventLog(tmp_path, 1)
    other = Feedback(other_log, store)
    assert feedback.write([purchase("a")], [], 1).result(5) == [Outcome.ACCEPTED]
    both = other.write([purchase("a"), purchase("b")], [], 1).result(5)
    assert both == [Outcome.DUPLICATE, Outcome.ACCEPTED]
    assert count(store) == 2
    other.close()
    other_log.close()


def test_nobody_waits_for_a_log_that_cannot_be_written(log: EventLog, store: FlakyStore) -> None:
    feedback = Feedback(log, store)
    log.close()
    with pytest.raises(EventLogError):
        feedback.write([purchase("a")], [], 1).result(5)
    feedback.close()
    assert count(store) == 0


def test_a_caller_who_has_gone_disturbs_nobody(feedback: Feedback, store: FlakyStore) -> None:
    pending = [feedback.write([purchase(f"{n}")], [], 1) for n in range(50)]
    gone = [one for one in pending[::2] if one.cancel()]
    assert all(one.result(5) == [Outcome.ACCEPTED] for one in pending if one not in gone)
    assert count(store) == 50 - len(gone)


def test_closing_finishes_what_was_taken_in(log: EventLog, store: FlakyStore) -> None:
    feedback = Feedback(log, store)
    pending = [feedback.write([purchase(f"{n}")], [], 1) for n in range(100)]
    feedback.close()
    assert all(one.done() for one in pending)
    assert count(store) == 100


def test_a_damaged_state_starts_anew(feedback: Feedback, store: FlakyStore) -> None:
    store.put_many([(state_key(USER), b"\x01\x00 not a state")])
    assert feedback.write([purchase("a")], [], 1).result(5) == [Outcome.ACCEPTED]
    assert count(store) == 1


def test_a_session_has_a_state_of_its_own() -> None:
    anonymous = Event(
        event_id="a", event_time=1, session=PSEUDONYMS.hexdigest("u"), kind="view", item="p01"
    )
    assert owner_key(anonymous) == session_key(USER) != state_key(USER)
    assert owner_key(purchase("b")) == state_key(USER)
