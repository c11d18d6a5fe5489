"""What was shown waits while it cannot be kept, is kept once, and what is lost is counted."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from feature_store.errors import EventLogError
from feature_store.event_log import EventLog
from feature_store.events import Exposure
from feature_store.state import UserState, state_key
from feature_store.tombstones import Tombstones
from online.feedback import showing as showing_module
from online.feedback.intake import Feedback
from online.feedback.showing import Showing
from tests.online.test_feedback import USER, FlakyStore
from tests.worlds import HORIZON_TIME, KEY


class FlakyLog(EventLog):
    """A log whose disk can be full, or whose code can be wrong."""

    error: Exception | None = None
    num_appended = 0

    def append_exposures(self, exposures: Sequence[Exposure]) -> None:
        if self.error is not None:
            raise self.error
        self.num_appended += len(exposures)
        super().append_exposures(exposures)


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FlakyLog]:
    opened = FlakyLog(tmp_path / "log", 0)
    yield opened
    opened.close()


@pytest.fixture
def showing(
    tmp_path: Path, log: FlakyLog, store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Showing]:
    monkeypatch.setattr(showing_module, "WAIT_S", 0.01)
    monkeypatch.setattr(showing_module, "RETRY_S", 0.02)
    feedback = Feedback(log, store)
    running = Showing(feedback, log, store, Tombstones(tmp_path, KEY * 2))
    yield running
    running.close()
    feedback.close()


def exposure(token: str) -> Exposure:
    return Exposure(
        attribution_token=token,
        request_time=HORIZON_TIME,
        user=USER.hex(),
        placement="cart",
        items=("p01", "p02"),
        corpora=("product", "product"),
        propensities=(1.0, 1.0),
        model_version="m",
    )


def tokens(log: FlakyLog) -> list[str]:
    return [one.exposure.attribution_token for one in log.read_exposures()]


def num_shown(store: FlakyStore) -> int:
    (value,) = store.get_many([state_key(USER)])
    return 0 if value is None else len(UserState.decode(value).shown)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_exposures_wait_for_the_log(showing: Showing, log: FlakyLog, store: FlakyStore) -> None:
    log.error = EventLogError("the disk is full")
    showing.note(exposure("a"), tires=True)
    showing.note(exposure("b"), tires=False)
    time.sleep(0.1)
    assert not tokens(log)
    log.error = None
    wait_until(lambda: len(tokens(log)) == 2)
    assert tokens(log) == ["a", "b"]
    wait_until(lambda: num_shown(store) == 2)
    assert showing.num_dropped == 0


def test_only_what_is_left_is_tried_again(
    showing: Showing, log: FlakyLog, store: FlakyStore
) -> None:
    store.is_away = True
    showing.note(exposure("a"), tires=True)
    showing.note(exposure("b"), tires=False)
    wait_until(lambda: len(tokens(log)) == 2)
    time.sleep(0.1)
    assert num_shown(store) == 0
    store.is_away = False
    wait_until(lambda: num_shown(store) == 2)
    assert log.num_appended == 2
    assert showing.num_dropped == 0


def test_what_does_not_fit_is_counted(
    showing: Showing, log: FlakyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing_module, "MAX_WAITING", 3)
    log.error = EventLogError("the disk is full")
    for number in range(5):
        showing.note(exposure(f"{number}"), tires=False)
        time.sleep(0.03)
    wait_until(lambda: showing.num_dropped == 2)
    log.error = None
    wait_until(lambda: len(tokens(log)) == 3)
    assert tokens(log) == ["0", "1", "2"]


def test_an_unforeseen_error_loses_one_batch_and_not_the_thread(
    showing: Showing, log: FlakyLog
) -> None:
    log.error = ValueError("a mistake")
    showing.note(exposure("a"), tires=False)
    wait_until(lambda: showing.num_dropped == 1)
    log.error = None
    showing.note(exposure("b"), tires=False)
    wait_until(lambda: tokens(log) == ["b"])


def test_what_waits_at_the_end_is_counted(tmp_path: Path, log: FlakyLog, store: FlakyStore) -> None:
    feedback = Feedback(log, store)
    showing = Showing(feedback, log, store, Tombstones(tmp_path, KEY * 2))
    log.error = EventLogError("the disk is full")
    showing.note(exposure("a"), tires=False)
    showing.close()
    feedback.close()
    assert showing.num_dropped == 1
