"""The event log in JetStream: what the spool promises, on a real server."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from feature_store.errors import EventLogError
from feature_store.event_log import Outcome
from feature_store.event_log.connection import Connection
from feature_store.event_log.stream import StreamLog
from feature_store.events import Event, Exposure, Merge, Source
from feature_store.state import UserState, state_key
from feature_store.store import MemoryStore
from offline.compact_stream import compact_stream
from offline.exposures import scan_exposures
from offline.ingest.tables import scan_events
from offline.people import read_merges
from online.feedback.intake import Feedback
from tests.streams import nats_server, own_stream

NOW = 1_700_000_000_000_000
USER, OTHER, SESSION = "0f" * 32, "1e" * 32, "a1" * 32


def event(number: int, **changed: object) -> Event:
    made = Event(event_id=f"e{number}", event_time=NOW + number, user=USER, kind="view", item="i")
    return replace(made, **changed)  # type: ignore[arg-type]


def exposure(number: int, user: str = USER) -> Exposure:
    return Exposure(
        attribution_token=f"t{number}",
        request_time=NOW,
        user=user,
        placement="home",
        items=("i1", "商品 2"),
        corpora=("product", "content"),
        propensities=(1.0, 0.5),
        model_version="7",
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield address


@pytest.fixture
def url(server: str) -> Iterator[str]:
    with own_stream(server) as address:
        yield address


@pytest.fixture
def log(url: str) -> Iterator[StreamLog]:
    opened = StreamLog(url, "w0")
    yield opened
    opened.close()


def numbers(log: StreamLog, after: int = 0) -> list[str]:
    return [logged.event.event_id for logged in log.read(after)]


def test_what_is_appended_is_read_in_order(log: StreamLog) -> None:
    given = [
        event(3),
        event(1, price=2.35, query="热狗 ' \" \0 ;"),
        event(2, user="", session=SESSION),
    ]
    assert log.append(given, NOW) == [Outcome.ACCEPTED] * 3
    logged = log.read()
    assert [one.event for one in logged] == given
    assert {one.received_time for one in logged} == {NOW}
    assert logged[-1].sequence == log.last_sequence
    assert numbers(log, logged[0].sequence) == ["e1", "e2"]


def test_an_event_id_is_accepted_once_by_all_workers(url: str, log: StreamLog) -> None:
    other = StreamLog(url, "w1")
    assert log.append([event(1), event(1)], NOW) == [Outcome.ACCEPTED, Outcome.DUPLICATE]
    assert other.append([event(1), event(2)], NOW) == [Outcome.DUPLICATE, Outcome.ACCEPTED]
    assert (numbers(log), numbers(other)) == (["e1"], ["e2"])
    other.close()


def test_nothing_is_a_batch_too(log: StreamLog) -> None:
    assert log.append([], NOW) == []
    with pytest.raises(ValueError, match="needs an id"):
        log.append([event(1, event_id="")], NOW)


def test_a_large_batch_is_taken(log: StreamLog) -> None:
    given = [event(number) for number in range(2_500)]
    assert log.append(given, NOW) == [Outcome.ACCEPTED] * len(given)
    assert log.append(given, NOW) == [Outcome.DUPLICATE] * len(given)


def test_what_is_not_marked_as_applied_is_found_at_the_next_start(url: str, log: StreamLog) -> None:
    log.append([event(1), event(2)], NOW)
    log.mark_applied(log.read()[0].sequence)
    again = StreamLog(url, "w0")
    assert [one.event.event_id for one in again.unapplied()] == ["e2"]
    again.mark_applied(again.unapplied()[-1].sequence)
    again.mark_applied(1)
    assert again.unapplied() == []
    again.close()


def test_merges_come_back_once(log: StreamLog) -> None:
    merge = Merge(kind=Source.SESSION, source=SESSION, target=USER, merge_time=NOW)
    place = log.append_merge(merge)
    assert log.append_merge(merge) == place
    assert [(one.sequence, one.merge) for one in log.unapplied_merges()] == [(place, merge)]
    log.mark_merged(place)
    assert log.unapplied_merges() == []
    log.drop_merge(place)
    log.drop_merge(place)


def test_an_erased_user_is_in_no_message(url: str, log: StreamLog) -> None:
    other = StreamLog(url, "w1")
    log.append([event(1), event(2, user=OTHER)], NOW)
    other.append([event(3, user="", session=USER), event(4, user=OTHER)], NOW)
    other.append_exposures([exposure(1), exposure(2, OTHER)])
    log.quarantine([(event(5), "why"), (event(6, user=OTHER), "why")], NOW)
    assert log.erase(USER) == (2, 1, 1)
    assert not [one for one in log.connection.messages(">", 0) if USER.encode() in one.data]
    assert (numbers(log), numbers(other)) == (["e2"], ["e4"])
    other.close()


def test_compaction_moves_everything_once(url: str, log: StreamLog, tmp_path: Path) -> None:
    given = [event(number) for number in range(20)]
    log.append(given, NOW)
    log.append_exposures([exposure(1)])
    log.quarantine([(event(99, kind="stare"), "kind: is none")], NOW)
    log.append_merge(Merge(kind=Source.SESSION, source=SESSION, target=USER, merge_time=NOW))
    log.mark_applied(log.last_sequence)
    done = compact_stream(url, tmp_path)
    assert (done.num_events, done.num_exposures, done.num_refused) == (20, 1, 1)
    assert done.num_trimmed == 22
    assert [len(log.unapplied_merges()), len(log.read())] == [1, 0]  # not applied yet: it stays
    assert scan_events(tmp_path).collect()["event_id"].to_list() == [x.event_id for x in given]
    assert scan_exposures(tmp_path).collect()["items"].to_list() == [["i1", "商品 2"]]
    assert read_merges(tmp_path)["target"].to_list() == [USER]
    assert len(pl.read_parquet(tmp_path / "quarantine" / "events.parquet")) == 1
    log.append([event(7), event(20)], NOW)
    assert compact_stream(url, tmp_path).num_events == 1


def test_what_was_not_acknowledged_is_compacted_again(
    url: str, log: StreamLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: Connection, messages: object) -> None:
        raise EventLogError("the machine stopped")

    log.append([event(1)], NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "acknowledge", die)
        patch.setattr("feature_store.event_log.connection.ACK_WAIT_S", 1.0)
        with pytest.raises(EventLogError):
            compact_stream(url, tmp_path)
    time.sleep(1.5)
    assert compact_stream(url, tmp_path).num_events == 0
    assert scan_events(tmp_path).collect()["event_id"].to_list() == ["e1"]


def test_feedback_writes_to_it(log: StreamLog) -> None:
    store = MemoryStore()
    feedback = Feedback(log, store)
    assert feedback.write([event(1), event(1)], [], NOW).result() == ["accepted", "duplicate"]
    feedback.close()
    (value,) = store.get_many([state_key(bytes.fromhex(USER))])
    assert value is not None
    assert UserState.decode(value).totals["num_events"][0] == 1
    assert log.unapplied() == []


def test_a_server_that_is_away_is_named() -> None:
    with pytest.raises(EventLogError, match="NATS"):
        StreamLog("nats://127.0.0.1:1/x", "w0")


def test_a_closed_log_says_so(url: str) -> None:
    log = StreamLog(url, "w0")
    log.close()
    log.close()
    with pytest.raises(EventLogError, match="closed"):
        log.append([event(1)], NOW)
