"""The ledger in Redis: what every ledger does, over a real connection."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from feature_store.errors import LedgerError
from feature_store.ledger import Ledger, Verdict, open_ledger
from tests.feature_store.ledger_suite import LedgerSuite, account, ask
from tests.feature_store.redis_server import free_port, server_port, socket_url, url

__all__ = ["server_port", "socket_url", "url"]


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = open_ledger(url)
    yield ledger
    ledger.close()


class TestRedisLedger(LedgerSuite):
    """On the server of the test."""


def test_namespaces_keep_apart(ledger: Ledger, url: str) -> None:
    other = open_ledger(f"{url}other:")
    ledger.claim(ask("1"))
    assert account(other).claims == 0
    other.close()


def test_a_server_is_reached_by_a_file(socket_url: str) -> None:
    with closing(open_ledger(socket_url)) as ledger:
        assert ledger.claim(ask("1")).verdict is Verdict.GRANTED
        assert account(ledger).claims == 1


def test_a_server_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(LedgerError, match="server failed"):
        open_ledger(f"redis://127.0.0.1:{free_port()}")
