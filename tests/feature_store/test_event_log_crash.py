"""The event log in bad times: what was acknowledged is there once, whatever dies and when."""

import multiprocessing
import random
import shutil
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from feature_store.event_log import EventLog, Outcome
from feature_store.events import Event
from tests.feature_store import synced_disk

SPAWN = multiprocessing.get_context("spawn")
NOW = 1_700_000_000_000_000
BATCH_EVENTS = 20


def batch(number: int) -> list[Event]:
    """The events of a batch; a batch sent again has the same."""
    ids = [f"{number}-{i}" for i in range(BATCH_EVENTS)]
    return [Event(event_id=i, event_time=NOW, user="0f" * 32, kind="view", item="i") for i in ids]


def stored(directory: Path) -> Counter[str]:
    """How often each event id is in the log of worker 0."""
    log = EventLog(directory, 0)
    ids = Counter(logged.event.event_id for logged in log.read(limit=1_000_000))
    log.close()
    return ids


def ids(numbers: range) -> set[str]:
    return {event.event_id for number in numbers for event in batch(number)}


def write_for_ever(directory: Path, first: int, acknowledge: Connection) -> None:
    """A worker that appends one batch after the other, and says so after each."""
    log = EventLog(directory, 0)
    number = first
    while True:
        log.append(batch(number), NOW)
        acknowledge.send(number)
        log.mark_applied(log.last_sequence)
        number += 1


def write_and_die(directory: Path, first: int, life_seconds: float) -> int:
    """Kill a worker some time after its first batch; returns the number of the next batch.

    Like a client, the next worker sends again the batch that was not acknowledged.
    """
    here, there = SPAWN.Pipe(duplex=False)
    worker = SPAWN.Process(target=write_for_ever, args=(directory, first, there))
    worker.start()
    there.close()
    next_number = int(here.recv()) + 1
    time.sleep(life_seconds)
    worker.kill()
    worker.join()
    try:
        while True:
            next_number = int(here.recv()) + 1
    except EOFError:
        return next_number


def prove_kills(directory: Path, num_kills: int) -> None:
    dice = random.Random(11)
    next_number = 0
    for _ in range(num_kills):
        next_number = write_and_die(directory, next_number, dice.uniform(0, 0.05))
        found = stored(directory)
        assert ids(range(next_number)) <= set(found), "an acknowledged event is lost"
        assert set(found) <= ids(range(next_number + 1)), "more than one batch came unasked"
        assert set(found.values()) == {1}, "an event is there twice"
    log = EventLog(directory, 0)
    assert len(log.unapplied()) <= 2 * BATCH_EVENTS
    log.close()


def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path) -> None:
    prove_kills(tmp_path, num_kills=4)


@pytest.mark.prove
def test_a_worker_killed_a_hundred_times_loses_and_doubles_nothing(tmp_path: Path) -> None:
    prove_kills(tmp_path, num_kills=100)


def write_with_power_cuts(directory: Path, synchronous: str, num_batches: int) -> None:
    """Append batches; after each acknowledgement keep what a power cut would leave of it."""
    disk = directory / "disk"
    disk.mkdir()
    synced_disk.record_syncs(disk)
    log = EventLog(directory / "live", 0)
    log._spool._durable.execute(f"PRAGMA synchronous = {synchronous}")
    for number in range(num_batches):
        assert log.append(batch(number), NOW) == [Outcome.ACCEPTED] * BATCH_EVENTS
        shutil.copytree(disk, directory / f"cut{number}")
        log.mark_applied(log.last_sequence)
        if number == num_batches // 2:
            log._spool._durable.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def survivors(directory: Path, synchronous: str, num_batches: int) -> list[Counter[str]]:
    """What is in the log after a power cut right behind each acknowledgement."""
    if synced_disk.library() is None:
        pytest.skip("this Python hides its SQLite, so its syncs cannot be seen")
    writer = SPAWN.Process(target=write_with_power_cuts, args=(directory, synchronous, num_batches))
    writer.start()
    writer.join(60)
    assert writer.exitcode == 0
    return [stored(directory / f"cut{number}") for number in range(num_batches)]


def test_what_is_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    for number, found in enumerate(survivors(tmp_path, "FULL", num_batches=12)):
        assert found == Counter(ids(range(number + 1)))


def test_that_test_notices_a_log_that_does_not_sync(tmp_path: Path) -> None:
    assert not survivors(tmp_path, "NORMAL", num_batches=2)[1]


def test_the_connection_syncs_each_commit(tmp_path: Path) -> None:
    log = EventLog(tmp_path, 0)
    assert log._spool.rows("PRAGMA journal_mode") == [("wal",)]
    assert log._spool.rows("PRAGMA synchronous") == [(2,)]
    log.close()
