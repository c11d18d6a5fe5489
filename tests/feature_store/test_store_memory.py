"""The store in memory, and the choice of a store by its address."""

from pathlib import Path

import pytest

from feature_store.errors import StoreUrlError
from feature_store.store import MemoryStore, OnlineStore, open_store
from tests.feature_store.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    """The reference."""

    @pytest.fixture
    def store(self) -> OnlineStore:
        return MemoryStore()


def test_an_address_names_a_store(tmp_path: Path) -> None:
    for url in ("memory:", f"lmdb:{tmp_path / 'new' / 'store'}"):
        store = open_store(url)
        store.put_many([(b"a", b"1")])
        assert store.get_many([b"a"]) == [b"1"]
        store.close()


@pytest.mark.parametrize("url", ["", "lmdb:", "memory:x", "/var/store", "sqlite:x", "redis://h:x"])
def test_an_address_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreUrlError, match="address"):
        open_store(url)
