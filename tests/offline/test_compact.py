"""Compaction: what the logs hold is in the tables once, whoever logged it and whatever dies."""

import argparse
import fcntl
import multiprocessing
import random
import shutil
import time
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from feature_store.event_log import EventLog
from feature_store.events import Event, Exposure
from feature_store.schema import EVENTS, MICROSECONDS_PER_DAY
from offline.compact import add_arguments, compact, run
from offline.errors import TablesInUseError
from offline.exposures import EXPOSURES_SCHEMA, scan_exposures
from offline.ingest.tables import days, polars_schema, scan_events
from offline.logged import Compacted, event_table

SPAWN = multiprocessing.get_context("spawn")
NOON = 1_500_033_600_000_000  # 2017-07-14 12:00 UTC
HOUR = 3_600_000_000
USER = "0f" * 32


def event(number: int, **changed: object) -> Event:
    made = Event(event_id=f"e{number}", event_time=NOON + number, user=USER, kind="view", item="i")
    return replace(made, **changed)  # type: ignore[arg-type]


def exposure(number: int) -> Exposure:
    return Exposure(
        attribution_token=f"t{number}",
        request_time=NOON + number * MICROSECONDS_PER_DAY,
        user=USER,
        placement="home",
        items=("i1", "i2"),
        corpora=("product", "product"),
        propensities=(1.0, 0.25),
        model_version="7",
    )


def log_events(logs: Path, worker: int, *events: Event, received_time: int = NOON) -> None:
    log = EventLog(logs, worker)
    log.append(events, received_time)
    log.mark_applied(log.last_sequence)
    log.close()


def stored(tables: Path) -> Counter[str]:
    """How often each event id is in the tables."""
    return Counter(scan_events(tables).select("event_id").collect()["event_id"].to_list())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "event_log"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return tmp_path / "tables"


def test_events_become_canonical_rows(logs: Path, tables: Path) -> None:
    given = [
        event(1, kind="purchase", quantity=0.1, price=2.35, basket="b", query="热狗"),
        event(2, user="", session="a1" * 32, kind="search", item="", corpus="content"),
    ]
    log_events(logs, 0, *given)
    assert compact(logs, tables, NOON) == Compacted(2, 0, 0, 0)
    rows = scan_events(tables).collect()
    assert rows.schema == polars_schema(EVENTS)
    assert rows.equals(event_table(given))
    first, second = rows.to_dicts()
    assert (first["price"], first["session"], first["placement"]) == (
        pytest.approx(2.35),
        None,
        None,
    )
    assert (second["user"], second["item"], second["price"], second["quantity"]) == (
        None,
        None,
        None,
        1.0,
    )


def test_what_several_workers_logged_is_there_once(logs: Path, tables: Path) -> None:
    log_events(logs, 0, event(1), event(2))
    log_events(logs, 1, event(2), event(3))
    assert compact(logs, tables, NOON).num_events == 3
    log_events(logs, 2, event(1), event(4))
    assert compact(logs, tables, NOON).num_events == 1
    assert stored(tables) == Counter(["e1", "e2", "e3", "e4"])


def test_late_events_land_on_their_day(logs: Path, tables: Path) -> None:
    log_events(logs, 0, event(1))
    compact(logs, tables, NOON)
    log_events(logs, 0, event(2, event_time=NOON - 3 * MICROSECONDS_PER_DAY), event(0))
    compact(logs, tables, NOON)
    assert list(days(tables)) == [date(2017, 7, 11), date(2017, 7, 14)]
    assert scan_events(tables).collect()["event_id"].to_list() == ["e2", "e0", "e1"]


def test_again_with_nothing_new_changes_nothing(logs: Path, tables: Path) -> None:
    assert compact(logs, tables, NOON) == Compacted(0, 0, 0, 0)
    assert contents(tables) == {}
    log_events(logs, 0, event(1))
    compact(logs, tables, NOON)
    before = contents(tables)
    assert compact(logs, tables, NOON) == Compacted(0, 0, 0, 0)
    assert contents(tables) == before


def test_exposures_and_refused_events_move_and_leave_the_log(logs: Path, tables: Path) -> None:
    log = EventLog(logs, 0)
    log.append_exposures([exposure(1), exposure(2)])
    log.quarantine([(event(1, kind="stare", price=None), "kind: is none")], NOON)
    assert compact(logs, tables, NOON) == Compacted(0, 2, 1, 0)
    assert log.read_exposures() == []
    assert log.read_refused() == []
    shown = scan_exposures(tables).collect()
    assert shown.schema == EXPOSURES_SCHEMA
    assert shown["attribution_token"].to_list() == ["t1", "t2"]
    assert shown["propensities"].to_list() == [[1.0, 0.25]] * 2
    assert shown["session"].to_list() == [None, None]
    refused = pl.read_parquet(tables / "quarantine" / "events.parquet").to_dicts()
    assert [(x["reason"], x["kind"], x["price"]) for x in refused] == [
        ("kind: is none", "stare", "")
    ]
    log.close()


def test_old_events_leave_the_log_once_they_are_moved_and_applied(logs: Path, tables: Path) -> None:
    log_events(logs, 0, event(1), received_time=NOON)
    log_events(logs, 0, event(2), received_time=NOON + HOUR)
    log = EventLog(logs, 0)
    log.append([event(3)], NOON)
    assert compact(logs, tables, NOON + 2 * HOUR, keep_hours=2).num_trimmed == 0
    assert compact(logs, tables, NOON + 3 * HOUR, keep_hours=2).num_trimmed == 1
    assert [x.event.event_id for x in log.read()] == ["e2", "e3"]
    log.close()
    assert stored(tables) == Counter(["e1", "e2", "e3"])


def test_a_crash_before_the_log_is_marked_doubles_nothing(
    logs: Path, tables: Path, tmp_path: Path
) -> None:
    log = EventLog(logs, 0)
    log.append([event(1), event(2)], NOON)
    log.append_exposures([exposure(1)])
    log.quarantine([(event(3), "why")], NOON)
    log.close()
    shutil.copytree(logs, tmp_path / "before")
    compact(logs, tables, NOON)
    shutil.rmtree(logs)
    shutil.copytree(tmp_path / "before", logs)
    log_events(logs, 0, event(4))
    assert compact(logs, tables, NOON) == Compacted(1, 0, 1, 0)
    assert stored(tables) == Counter(["e1", "e2", "e4"])
    assert len(scan_exposures(tables).collect()) == 1
    assert len(pl.read_parquet(tables / "quarantine" / "events.parquet")) == 1


def test_nobody_else_may_write_the_tables_meanwhile(logs: Path, tables: Path) -> None:
    tables.mkdir()
    with (tables / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TablesInUseError):
            compact(logs, tables, NOON)


def test_the_command_says_what_moved(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_events(logs, 0, event(1))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(["--home", str(tmp_path)])) == 0
    assert "1 events, 0 exposures and 0 refused events joined" in capsys.readouterr().out


def compact_for_ever(logs: Path, tables: Path) -> None:
    """A process that compacts again and again, keeping nothing in the logs."""
    while True:
        compact(logs, tables, NOON + HOUR, keep_hours=0)


def prove_kills(logs: Path, tables: Path, num_kills: int) -> None:
    """Kill compaction at random moments while two workers log, some events twice."""
    dice = random.Random(5)
    writers = [EventLog(logs, worker) for worker in range(2)]
    number = 0
    for _ in range(num_kills):
        process = SPAWN.Process(target=compact_for_ever, args=(logs, tables))
        process.start()
        deadline = time.monotonic() + 2.0 + dice.uniform(0, 0.3)
        while time.monotonic() < deadline:
            batch = [
                event(number + i, event_time=NOON + number // 10 % 5 * HOUR) for i in range(10)
            ]
            for writer in writers[: dice.randint(1, 2)]:
                writer.append(batch, NOON)
                writer.mark_applied(writer.last_sequence)
            number += len(batch)
            time.sleep(0.01)
        process.kill()
        process.join()
    assert all(writer.compacted_sequence for writer in writers), "it was killed too early"
    compact(logs, tables, NOON + HOUR, keep_hours=0)
    assert stored(tables) == Counter(f"e{i}" for i in range(number))
    for writer in writers:
        assert writer.read() == []
        writer.close()


def test_a_killed_compaction_loses_and_doubles_nothing(logs: Path, tables: Path) -> None:
    prove_kills(logs, tables, num_kills=2)


@pytest.mark.prove
def test_a_compaction_killed_again_and_again_loses_and_doubles_nothing(
    logs: Path, tables: Path
) -> None:
    prove_kills(logs, tables, num_kills=40)
