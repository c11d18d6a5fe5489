"""What every online store promises, as tests that each implementation runs.

`StoreSuite` is for any store, `SharedStoreSuite` adds what holds between processes. A
subclass gives the fixture `store`, and for the second also `url`.
"""

import multiprocessing
import random
import struct
import threading
import time
from collections.abc import Callable

import pytest

from feature_store.errors import StoreError
from feature_store.store import MAX_KEY_BYTES, OnlineStore, open_store
from feature_store.store.records import Values

SPAWN = multiprocessing.get_context("spawn")
COUNT = struct.Struct("<q")


class TooBadError(Exception):
    """Raised by a change, to be passed on."""


def add_one(values: Values) -> Values:
    """Each value plus one, absent counting as zero."""
    return [COUNT.pack(1 + (COUNT.unpack(v)[0] if v is not None else 0)) for v in values]


def counts(store: OnlineStore, *keys: bytes) -> list[int]:
    """The numbers under these keys."""
    return [COUNT.unpack(value)[0] for value in store.get_many(keys) if value is not None]


def replace(*values: bytes | None) -> Callable[[Values], Values]:
    """A change to these values, whatever was there."""
    return lambda _: list(values)


class StoreSuite:
    """What any OnlineStore does."""

    def test_an_absent_record_is_none(self, store: OnlineStore) -> None:
        assert store.get_many([b"a", b"b"]) == [None, None]
        assert store.get_many([]) == []

    def test_values_come_in_the_order_of_the_keys(self, store: OnlineStore) -> None:
        store.put_many([(b"a", b"1"), (b"b", b"2")])
        assert store.get_many([b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]

    @pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)), b"x" * 3_000_000])
    def test_any_bytes_are_a_value(self, store: OnlineStore, value: bytes) -> None:
        store.put_many([(b"put", value)])
        store.update_many([b"updated"], replace(value))
        assert store.get_many([b"put", b"updated"]) == [value, value]

    @pytest.mark.parametrize("key", [b"\0", b"\xff", b"a b\r\n*", b"k" * MAX_KEY_BYTES])
    def test_any_bytes_are_a_key(self, store: OnlineStore, key: bytes) -> None:
        store.put_many([(key, b"value")])
        assert store.get_many([key]) == [b"value"]
        assert list(store.scan(key)) == [(key, b"value")]

    @pytest.mark.parametrize("key", [b"", b"k" * (MAX_KEY_BYTES + 1)])
    def test_a_key_that_no_store_could_keep_is_refused(
        self, store: OnlineStore, key: bytes
    ) -> None:
        with pytest.raises(ValueError, match="1 to 511 bytes"):
            store.get_many([key])
        with pytest.raises(ValueError, match="1 to 511 bytes"):
            store.update_many([key], replace(b""))
        with pytest.raises(ValueError, match="1 to 511 bytes"):
            store.put_many([(key, b"")])

    def test_an_update_sees_adds_changes_and_deletes(self, store: OnlineStore) -> None:
        store.put_many([(b"changed", b"1"), (b"deleted", b"2"), (b"left", b"3")])
        seen: list[Values] = []

        def change(values: Values) -> Values:
            seen.append(values)
            return [b"one", None, values[2], b"four", None]

        keys = [b"changed", b"deleted", b"left", b"added", b"never"]
        store.update_many(keys, change)
        assert seen == [[b"1", b"2", b"3", None, None]]
        assert store.get_many(keys) == [b"one", None, b"3", b"four", None]

    def test_an_update_of_nothing_changes_nothing(self, store: OnlineStore) -> None:
        store.update_many([], lambda values: values)
        assert list(store.scan(b"")) == []

    def test_a_change_that_raises_writes_nothing(self, store: OnlineStore) -> None:
        def change(values: Values) -> Values:
            values[0] = b"spoilt"
            raise TooBadError

        store.put_many([(b"a", b"1")])
        with pytest.raises(TooBadError):
            store.update_many([b"a", b"b"], change)
        assert store.get_many([b"a", b"b"]) == [b"1", None]

    def test_a_change_may_work_in_place(self, store: OnlineStore) -> None:
        def change(values: Values) -> Values:
            values[0] = b"2"
            return values

        store.put_many([(b"a", b"1")])
        store.update_many([b"a"], change)
        assert store.get_many([b"a"]) == [b"2"]

    def test_a_change_must_return_a_value_for_each_key(self, store: OnlineStore) -> None:
        with pytest.raises(ValueError, match="must return 2 values, not 1"):
            store.update_many([b"a", b"b"], replace(b"1"))
        assert store.get_many([b"a", b"b"]) == [None, None]

    def test_the_keys_of_an_update_are_distinct(self, store: OnlineStore) -> None:
        with pytest.raises(ValueError, match="distinct"):
            store.update_many([b"a", b"a"], replace(b"1", b"2"))

    def test_a_value_outlives_its_record(self, store: OnlineStore) -> None:
        store.put_many([(b"a", b"before")])
        (value,) = store.get_many([b"a"])
        store.update_many([b"a"], replace(b"beyond"))
        assert value == b"before"

    def test_a_large_load_is_kept_whole(self, store: OnlineStore) -> None:
        records = {b"%06d" % i: b"%d" % i for i in range(21_000)}
        store.put_many(iter(records.items()))
        found = list(store.scan(b""))
        assert len(found) == len(records)
        assert dict(found) == records

    @pytest.mark.parametrize("prefix", [b"u", b"u*", b"u[a]", b"u\\", b"u?", b"\xff\xff"])
    def test_a_scan_gives_what_starts_with_the_prefix(
        self, store: OnlineStore, prefix: bytes
    ) -> None:
        others = [b"t", b"v", b"U", b"\xfe\xff", b"\xff"]
        inside = [prefix, prefix + b"\0", prefix + b"\xff", prefix + b"/x"]
        store.put_many((key, b"v") for key in (*others, *inside))
        assert sorted(store.scan(prefix)) == sorted((key, b"v") for key in inside)

    def test_a_scan_bears_writes_between_its_steps(self, store: OnlineStore) -> None:
        records = {b"%04d" % i: b"v" for i in range(600)}
        store.put_many(records.items())
        found = set()
        for key, _ in store.scan(b""):
            found.add(key)
            store.update_many([key], replace(None))
        assert found == set(records)
        assert list(store.scan(b"")) == []

    def test_random_work_equals_a_dictionary(self, store: OnlineStore) -> None:
        dice = random.Random(7)
        model: dict[bytes, bytes] = {}
        for _ in range(300):
            keys = dice.sample([b"k%d" % i for i in range(20)], dice.randint(1, 5))
            values = [dice.choice([None, dice.randbytes(dice.randint(0, 9000))]) for _ in keys]
            store.update_many(keys, replace(*values))
            model.update({k: v for k, v in zip(keys, values, strict=True) if v is not None})
            for key in (k for k, v in zip(keys, values, strict=True) if v is None):
                model.pop(key, None)
        assert dict(store.scan(b"")) == model

    def test_threads_lose_no_update(self, store: OnlineStore) -> None:
        def work() -> None:
            for _ in range(25):
                store.update_many([b"a", b"b"], add_one)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts(store, b"a", b"b") == [100, 100]

    def test_a_closed_store_says_so(self, store: OnlineStore) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.get_many([b"a"])
        with pytest.raises(StoreError):
            store.update_many([b"a"], replace(b"1"))
        with pytest.raises(StoreError):
            list(store.scan(b""))


def increment(url: str, keys: list[bytes], times: int) -> None:
    """A process that counts."""
    store = open_store(url)
    for _ in range(times):
        store.update_many(keys, add_one)
    store.close()


def increment_for_ever(url: str) -> None:
    """A process that counts two records in step, and also loads, until it is killed."""
    store = open_store(url)
    while True:
        store.update_many([b"a", b"b"], add_one)
        store.put_many((b"load%d" % i, b"x" * 5_000) for i in range(20))


class SharedStoreSuite(StoreSuite):
    """What a store does that several processes have open."""

    def test_another_process_sees_and_is_seen(self, store: OnlineStore, url: str) -> None:
        store.update_many([b"a"], replace(COUNT.pack(41)))
        process = SPAWN.Process(target=increment, args=(url, [b"a"], 1))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert counts(store, b"a") == [42]

    def test_processes_lose_no_update(self, store: OnlineStore, url: str) -> None:
        orders = [[b"a", b"b"], [b"b", b"a"], [b"b", b"a", b"c"]]
        processes = [SPAWN.Process(target=increment, args=(url, keys, 100)) for keys in orders]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        assert counts(store, b"a", b"b", b"c") == [300, 300, 100]

    def test_no_reader_sees_half_an_update_even_of_a_killed_writer(
        self, store: OnlineStore, url: str
    ) -> None:
        for _ in range(2):
            writer = SPAWN.Process(target=increment_for_ever, args=(url,))
            before = sum(counts(store, b"a"))
            writer.start()
            self._watch(store, until=before + 50)
            writer.kill()
            writer.join()
        store.update_many([b"a", b"b"], add_one)
        a, b = counts(store, b"a", b"b")
        assert a == b > 100

    def _watch(self, store: OnlineStore, until: int) -> None:
        """Compare the two records all the time, until they have reached a number."""
        deadline = time.monotonic() + 60
        pair = [0, 0]
        while sum(pair) < 2 * until:
            pair = counts(store, b"a", b"b")
            assert len(set(pair)) <= 1
            assert time.monotonic() < deadline, "the writing process makes no progress"
