"""The ledger in a SQLite file: what every ledger does, and what a file adds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.errors import LedgerError, LedgerUrlError
from feature_store.ledger import Ledger, open_ledger
from tests.feature_store.ledger_suite import LedgerSuite, account, ask


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_ledger(f"sqlite:{tmp_path / 'ledger' / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


class TestSqliteLedger(LedgerSuite):
    """In a folder of the test."""


def test_another_process_sees_it_at_once(ledger: Ledger, tmp_path: Path) -> None:
    other = open_ledger(f"sqlite:{tmp_path / 'ledger' / 'ledger.sqlite'}")
    ledger.claim(ask("1"))
    assert account(other).claims == 1
    assert other.claim(ask("1")).is_repeated
    other.close()


def test_what_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("nothing of ours " * 500)
    with pytest.raises(LedgerError):
        open_ledger(f"sqlite:{path}")
    assert path.read_text().startswith("nothing of ours")


@pytest.mark.parametrize("url", ["sqlite:", "lmdb:x", "memory:", "file.sqlite"])
def test_an_address_that_names_no_ledger_says_what_to_use(url: str) -> None:
    with pytest.raises(LedgerUrlError, match="sqlite:FILE"):
        open_ledger(url)
