"""The store in LMDB: what every shared store does, and what is LMDB's own trouble."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from feature_store.errors import StoreDamagedError, StoreError, StoreInUseError
from feature_store.store import OnlineStore, embedded, open_store
from feature_store.store.embedded import LmdbStore
from tests.feature_store.store_suite import SPAWN, SharedStoreSuite

SMALL_MAP_BYTES = 1 << 20


class TestLmdbStore(SharedStoreSuite):
    """The embedded default."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"lmdb:{tmp_path / 'store'}"

    @pytest.fixture
    def store(self, url: str) -> Iterator[OnlineStore]:
        store = open_store(url)
        yield store
        store.close()


class TestLmdbStoreThatGrows(TestLmdbStore):
    """The same, with so small a map that it must grow again and again, in every process."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[OnlineStore]:
        store = LmdbStore(tmp_path / "store", map_bytes=1 << 16)
        yield store
        store.close()


def load(directory: Path, num_records: int) -> None:
    """A process that makes the map grow, then is gone without closing anything."""
    store = LmdbStore(directory, map_bytes=SMALL_MAP_BYTES)
    store.put_many((b"child%05d" % i, bytes(5_000)) for i in range(num_records))
    assert store.get_many([b"child00000"]) == [bytes(5_000)]
    os._exit(0)


def open_and_close(directory: Path) -> None:
    """A process that does just that."""
    LmdbStore(directory).close()


def run(target: Callable[..., None], *arguments: object) -> None:
    """Run a process to its end, which must be a good one."""
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_map_grown_by_another_process_is_adopted(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_bytes=SMALL_MAP_BYTES)
    store.put_many([(b"mine", b"1")])
    run(load, tmp_path, 1_000)
    assert store.get_many([b"mine", b"child00999"]) == [b"1", bytes(5_000)]
    run(load, tmp_path, 4_000)
    store.update_many([b"mine"], lambda _: [b"2"])
    assert len(list(store.scan(b"child"))) == 4_000
    store.close()


def test_threads_read_on_while_the_map_grows(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_bytes=SMALL_MAP_BYTES)
    store.put_many([(b"fixed", b"x" * 20_000)])
    grown = threading.Event()
    read: list[bytes | None] = []

    def work() -> None:
        while not grown.is_set():
            read.extend(set(store.get_many([b"fixed"] * 3)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(20):
            store.put_many([(b"%d" % i, bytes(SMALL_MAP_BYTES))])
    finally:
        grown.set()
        for thread in threads:
            thread.join()
    assert set(read) == {b"x" * 20_000}
    assert store.get_many([b"19"]) == [bytes(SMALL_MAP_BYTES)]
    store.close()


def test_it_is_never_open_twice_in_a_process(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    for name in ("store", "alias"):
        with pytest.raises(StoreInUseError, match="already open"):
            LmdbStore(tmp_path / name)
    store.close()
    again = LmdbStore(tmp_path / "alias")
    store.close()
    with pytest.raises(StoreInUseError):
        LmdbStore(tmp_path / "store")
    again.close()


def count_dead_readers(directory: Path) -> None:
    """A process whose exit status is the number of readers that died and still have a place."""
    os._exit(lmdb.open(str(directory)).reader_check())


def test_readers_that_died_are_removed_at_open(tmp_path: Path) -> None:
    first = LmdbStore(tmp_path)
    run(load, tmp_path, 1)
    run(open_and_close, tmp_path)
    run(count_dead_readers, tmp_path)
    first.close()


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.put_many([(b"a", b"1")])
    store.close()
    again = LmdbStore(tmp_path)
    assert again.get_many([b"a"]) == [b"1"]
    again.close()


def test_a_killed_process_does_no_harm_but_a_stopped_machine_does(tmp_path: Path) -> None:
    run(load, tmp_path, 1)
    LmdbStore(tmp_path).close()
    run(load, tmp_path, 1)
    (tmp_path / "boot").write_text("an earlier boot")
    for _ in range(2):
        with pytest.raises(StoreDamagedError, match="remove it"):
            LmdbStore(tmp_path)


def test_a_store_that_the_last_process_closed_needs_no_boot(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    run(open_and_close, tmp_path)
    assert (tmp_path / "boot").read_bytes() != b""
    store.close()
    assert (tmp_path / "boot").read_bytes() == b""


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no such luck" * 1_000)
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot open the store"):
            LmdbStore(tmp_path)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot use"):
        LmdbStore(tmp_path / "file")


def test_who_reads_the_whole_store_does_not_hold_it_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "KEYS_PER_MAP", 1_024)
    store = LmdbStore(tmp_path / "store")
    keys = [f"key {number}".encode() for number in range(4_096)]
    store.put_many((key, key + bytes(16_000)) for key in keys)

    def mapped_bytes() -> int:
        rows = Path("/proc/self/smaps").read_text().split(str(tmp_path / "store"))[1].splitlines()
        return next(1024 * int(row.split()[1]) for row in rows if row.startswith("Rss:"))

    for first in range(0, len(keys), 512):
        some = keys[first : first + 512]
        assert store.get_many(some) == [key + bytes(16_000) for key in some]
        assert mapped_bytes() < 1_024 * 2 * 16_000
    store.close()
