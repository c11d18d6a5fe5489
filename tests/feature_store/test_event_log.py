"""The event log in peaceful times: what is appended is read again, once."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.errors import EventLogError, EventLogFormatError
from feature_store.event_log import EventLog, Outcome, spool_workers
from feature_store.events import Event, Exposure
from feature_store.schema import EVENT_KINDS

NOW = 1_700_000_000_000_000
USER = "0f" * 32
OTHER = "1e" * 32
SESSION = "a1" * 32

ACCEPTED, DUPLICATE = Outcome.ACCEPTED, Outcome.DUPLICATE


def event(number: int, **changed: object) -> Event:
    kind = EVENT_KINDS[number % len(EVENT_KINDS)]
    made = Event(event_id=f"e{number}", event_time=NOW + number, user=USER, kind=kind, item="i")
    return replace(made, **changed)  # type: ignore[arg-type]


def exposure(number: int, **changed: object) -> Exposure:
    made = Exposure(
        attribution_token=f"t{number}",
        request_time=NOW + number,
        user=USER,
        placement="home",
        items=("i1", "商品 2"),
        corpora=("product", "content"),
        propensities=(1.0, 0.1),
        model_version="7",
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def numbers(log: EventLog) -> list[str]:
    return [logged.event.event_id for logged in log.read()]


def trace(directory: Path, text: str) -> list[str]:
    """The files that hold a text."""
    return [path.name for path in directory.iterdir() if text.encode() in path.read_bytes()]


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path, 0)


def test_what_is_appended_is_read_in_order(log: EventLog) -> None:
    given = [
        event(3),
        event(1, quantity=0.1, price=2.35, query="热狗 ' \" \0 ;", session=SESSION),
        event(2, user="", session=SESSION, price=None, corpus="content"),
    ]
    assert log.append(given, NOW) == [ACCEPTED] * 3
    read = log.read()
    assert [logged.event for logged in read] == given
    assert [logged.sequence for logged in read] == [1, 2, 3]
    assert log.last_sequence == 3


def test_an_event_id_is_accepted_once(log: EventLog) -> None:
    assert log.append([event(1), event(2), event(1)], NOW) == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert log.append([event(2, item="other"), event(3)], NOW) == [DUPLICATE, ACCEPTED]
    assert numbers(log) == ["e1", "e2", "e3"]
    assert log.append([event(1)], NOW) == [DUPLICATE]
    assert log.last_sequence == log.read()[-1].sequence


def test_nothing_is_a_batch_too(log: EventLog) -> None:
    assert log.append([], NOW) == []
    log.append_exposures([])
    log.quarantine([], NOW)
    assert (log.read(), log.unapplied(), log.last_sequence) == ([], [], 0)


def test_an_event_without_an_id_is_refused_with_its_batch(log: EventLog) -> None:
    with pytest.raises(ValueError, match="needs an id"):
        log.append([event(1), event(2, event_id="")], NOW)
    assert log.read() == []


def test_a_batch_is_accepted_whole_or_not_at_all(log: EventLog) -> None:
    with pytest.raises(OverflowError):
        log.append([event(1), event(2, event_time=2**70)], NOW)
    assert log.read() == []
    assert log.append([event(1)], NOW) == [ACCEPTED]


def test_reading_goes_on_after_a_place(log: EventLog) -> None:
    log.append([event(number) for number in range(10)], NOW)
    first = log.read(limit=4)
    assert [x.event.event_id for x in first] == ["e0", "e1", "e2", "e3"]
    assert [x.event.event_id for x in log.read(first[-1].sequence, 2)] == ["e4", "e5"]
    assert log.read(log.last_sequence) == []


def test_what_is_not_marked_as_applied_is_found_at_the_next_start(tmp_path: Path) -> None:
    log = EventLog(tmp_path, 3)
    log.append([event(1), event(2), event(3)], NOW)
    log.mark_applied(2)
    log.mark_applied(1)
    again = EventLog(tmp_path, 3)
    assert [x.event.event_id for x in again.unapplied()] == ["e3"]
    again.mark_applied(again.last_sequence)
    assert again.unapplied() == []


def test_each_worker_has_a_spool(tmp_path: Path) -> None:
    assert spool_workers(tmp_path) == []
    for worker in (0, 12, 1000):
        log = EventLog(tmp_path, worker)
        assert log.append([event(1)], NOW) == [ACCEPTED]
        log.close()
    assert spool_workers(tmp_path) == [0, 12, 1000]


def test_exposures_come_back_once(log: EventLog) -> None:
    given = [exposure(1), exposure(2, items=(), corpora=(), propensities=(), arm="b")]
    log.append_exposures(given)
    log.append_exposures([exposure(1, arm="twice")])
    assert [logged.exposure for logged in log.read_exposures()] == given
    assert log.discard_exposures(1) == 1
    assert [logged.exposure for logged in log.read_exposures()] == given[1:]


def test_refused_events_are_kept_with_their_reason(log: EventLog) -> None:
    bad = event(1, event_time=0, kind="stare")
    log.quarantine([(bad, "kind: is none of the event kinds"), (bad, "again")], NOW + 5)
    refused = log.read_refused()
    assert [(x.received_time, x.reason, x.event) for x in refused] == [
        (NOW + 5, "kind: is none of the event kinds", bad),
        (NOW + 5, "again", bad),
    ]
    assert log.read() == []
    assert log.discard_refused(refused[-1].sequence) == 2


def test_only_old_events_that_are_done_with_are_trimmed(log: EventLog) -> None:
    log.append([event(1)], NOW)
    log.append([event(2)], NOW + 1)
    log.append([event(3)], NOW + 2)
    assert log.trim(NOW + 9) == 0
    log.mark_compacted(3)
    assert log.trim(NOW + 9) == 0
    log.mark_applied(2)
    assert log.trim(NOW + 1) == 1
    assert log.trim(NOW + 9) == 1
    assert numbers(log) == ["e3"]
    assert log.compacted_sequence == 3


def test_places_are_not_used_again(tmp_path: Path) -> None:
    log = EventLog(tmp_path, 0)
    log.append([event(1), event(2)], NOW)
    log.mark_applied(2)
    log.mark_compacted(2)
    log.trim(NOW + 1)
    log.close()
    again = EventLog(tmp_path, 0)
    assert again.last_sequence == 2
    again.append([event(3)], NOW)
    assert [x.sequence for x in again.unapplied()] == [3]


def test_an_erased_user_leaves_no_trace(tmp_path: Path) -> None:
    log = EventLog(tmp_path, 0)
    for start in range(0, 3_000, 100):
        batch = range(start, start + 100)
        log.append([event(n, user=USER if n % 7 else OTHER, session=SESSION) for n in batch], NOW)
    log.append_exposures([exposure(1), exposure(2, user=OTHER)])
    log.quarantine([(event(1), "why"), (event(2, user=OTHER), "why")], NOW)
    assert trace(tmp_path, USER) != []
    erased = log.erase(USER)
    assert erased == (3_000 - 429, 1, 1)
    assert trace(tmp_path, USER) == []
    assert trace(tmp_path, OTHER) != []
    assert len(log.read(limit=10_000)) == 429
    assert log.erase("2d" * 32, SESSION).num_events == 429
    assert trace(tmp_path, SESSION) == []


def test_erasure_says_when_a_reader_is_in_the_way(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([event(1)], NOW)
    monkeypatch.setattr("feature_store.event_log.spool.BUSY_SECONDS", 0.1)
    impatient = EventLog(tmp_path, 0)
    reader = sqlite3.connect(tmp_path / "worker-000.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    with pytest.raises(EventLogError, match="run it again"):
        impatient.erase(USER)
    reader.close()
    impatient.erase(USER)
    assert trace(tmp_path, USER) == []


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "worker-000.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(EventLogFormatError, match="no event log"):
        EventLog(tmp_path, 0)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(EventLogFormatError, match="no event log of format 1"):
        EventLog(tmp_path, 0)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EventLogError, match="cannot be made"):
        EventLog(tmp_path / "file", 0)


def test_a_closed_log_says_so(log: EventLog) -> None:
    log.close()
    log.close()
    with pytest.raises(EventLogError, match="closed"):
        log.append([event(1)], NOW)


def test_an_older_file_gets_the_columns_that_have_joined(tmp_path: Path) -> None:
    log = EventLog(tmp_path, 0)
    log.append([event(1, query="x")], NOW)
    log.close()
    with sqlite3.connect(tmp_path / "worker-000.sqlite") as older:
        older.execute("ALTER TABLE events DROP COLUMN query")
        older.execute("ALTER TABLE events DROP COLUMN price")
    older.close()
    again = EventLog(tmp_path, 0)
    again.append([event(2, query="y", price=1.5)], NOW)
    assert [x.event for x in again.read()] == [event(1), event(2, query="y", price=1.5)]


def test_a_full_disk_accepts_nothing(log: EventLog) -> None:
    log.append([event(0)], NOW)
    ((pages,),) = log._spool.rows("PRAGMA page_count")
    log._spool.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(EventLogError, match="full"):
        log.append([event(number) for number in range(1, 2_000)], NOW)
    assert numbers(log) == ["e0"]
