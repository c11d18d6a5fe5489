"""The catalogue's log of one machine."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from feature_store.catalog_log import CatalogLog, Change, Outcome
from feature_store.catalog_log.embedded import FILE, VERSION_FILE, EmbeddedLog
from feature_store.errors import CatalogLogError
from tests.feature_store.catalog_log_suite import NOW, CatalogLogSuite, Opener, nobody_knows

SPAWN = multiprocessing.get_context("spawn")


class TestEmbeddedLog(CatalogLogSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Iterator[Opener]:
        with ExitStack() as stack:

            def open_log() -> CatalogLog:
                return stack.enter_context(closing(EmbeddedLog(tmp_path / "catalog")))

            yield open_log


def write_until_killed(directory: Path) -> None:
    """Append products and say on a pipe which ones are acknowledged, for ever."""
    log = EmbeddedLog(directory)
    number = 0
    while True:
        log.append([Change(f"p{number}", {"title": "x"})], NOW, nobody_knows)
        (directory / "acknowledged").write_text(str(number))
        number += 1


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    directory = tmp_path / "catalog"
    for _ in range(3):
        writer = SPAWN.Process(target=write_until_killed, args=(directory,))
        writer.start()
        writer.join(4.0)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        text = (directory / "acknowledged").read_text()
        with closing(EmbeddedLog(directory)) as log:
            kept = {row.item for row in log.read()}
            assert {f"p{n}" for n in range(int(text or "0") + 1)} <= kept


def test_a_lost_version_is_raised_again(tmp_path: Path) -> None:
    with closing(EmbeddedLog(tmp_path)) as log:
        log.append([Change("tea", {"title": "Tea"})], NOW, nobody_knows)
        version = log.version
    (tmp_path / VERSION_FILE).unlink()
    with closing(EmbeddedLog(tmp_path)) as log:
        assert log.version == version > 0


def test_nothing_of_a_failed_batch_is_kept(tmp_path: Path) -> None:
    def fails_on_milk(item: str) -> bool:
        if item == "milk":
            raise sqlite3.OperationalError("disk I/O error")
        return False

    with closing(EmbeddedLog(tmp_path)) as log:
        changes = [Change("tea", {"title": "Tea"}), Change("milk", {"title": "Milk"})]
        with pytest.raises(CatalogLogError, match="disk I/O"):
            log.append(changes, NOW, fails_on_milk)
        assert log.read() == []
        assert log.append(changes, NOW, nobody_knows) == [Outcome.CREATED] * 2


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(CatalogLogError, match="move it away"):
        EmbeddedLog(tmp_path)
