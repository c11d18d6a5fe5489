"""The catalogue's log of several machines, on a real Redis."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from threading import Thread

import pytest

from feature_store.catalog_log import CatalogLog, Change, Outcome
from feature_store.catalog_log.shared import SharedLog
from feature_store.store import OnlineStore, open_store
from tests.feature_store.catalog_log_suite import NOW, CatalogLogSuite, Opener, nobody_knows
from tests.feature_store.redis_server import DATABASE, server_port

__all__ = ["server_port"]


class TestSharedLog(CatalogLogSuite):
    @pytest.fixture
    def store(self, server_port: int) -> Iterator[OnlineStore]:
        name = f"test-{uuid.uuid4().hex}:"
        url = f"redis://127.0.0.1:{server_port}/{DATABASE}?namespace={name}"
        with closing(open_store(url)) as store:
            yield store
            for key, _ in list(store.scan(b"")):
                store.update_many([key], lambda values: [None for _ in values])

    @pytest.fixture
    def opener(self, store: OnlineStore) -> Iterator[Opener]:
        with ExitStack() as stack:

            def open_log() -> CatalogLog:
                return stack.enter_context(closing(SharedLog(store)))

            yield open_log

    def test_writers_take_turns(self, opener: Opener) -> None:
        logs = [opener(), opener()]
        outcomes: list[Outcome] = []

        def write(log: CatalogLog, name: str) -> None:
            for number in range(20):
                change = Change(f"{name}{number}", {"title": name})
                outcomes.extend(log.append([change], NOW, nobody_knows))

        threads = [Thread(target=write, args=pair) for pair in zip(logs, "ab", strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [Outcome.CREATED] * 40
        rows = opener().read()
        assert len({row.sequence for row in rows}) == len(rows) == 40
