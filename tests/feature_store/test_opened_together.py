"""Processes that open the same new files at the same moment all succeed."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from feature_store.catalog_log.embedded import EmbeddedLog
from feature_store.event_log.spool import Spool
from feature_store.ledger.database import Database

NUM_PROCESSES = 4
NUM_TIMES = 15

OPENERS: dict[str, Callable[[Path], object]] = {
    "catalog log": EmbeddedLog,
    "event log": lambda directory: Spool(directory / "spool.sqlite"),
    "ledger": lambda directory: Database(directory / "ledger.sqlite"),
}


def _open_often(name: str, directory: Path, together: Barrier) -> None:
    opened = []
    for number in range(NUM_TIMES):
        together.wait(timeout=60)
        opened.append(OPENERS[name](directory / str(number)))


@pytest.mark.parametrize("name", OPENERS)
def test_processes_make_the_same_file_at_once(name: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(NUM_PROCESSES)
    processes = [
        context.Process(target=_open_often, args=(name, tmp_path, together))
        for _ in range(NUM_PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
