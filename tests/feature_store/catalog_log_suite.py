"""What every catalogue's log promises, as tests that each implementation runs.

A subclass gives the fixture `opener`, which opens the same log again, as another process would.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest

from feature_store.catalog_log import CatalogLog, Change, Outcome, Reading

Opener = Callable[[], CatalogLog]
NOW = 1_700_000_000_000_000


def nobody_knows(_item: str) -> bool:
    return False


def knows_base(item: str) -> bool:
    return item.startswith("base")


def fields(log: CatalogLog) -> dict[str, dict[str, object]]:
    """The fields of each product in the log."""
    return {row.item: dict(row.change.fields) for row in log.read()}


class CatalogLogSuite:
    """For any log."""

    def test_a_new_product_is_created_then_updated(self, opener: Opener) -> None:
        log = opener()
        tea = Change("tea", {"title": "Tea", "price": 2.5})
        assert log.append([tea], NOW, nobody_knows) == [Outcome.CREATED]
        assert log.append([tea], NOW, nobody_knows) == [Outcome.UPDATED]
        (row,) = log.read()
        assert (row.item, row.change_time, row.is_new) == ("tea", NOW, True)
        assert dict(row.change.fields) == {"title": "Tea", "price": 2.5}

    def test_one_batch_is_taken_in_order(self, opener: Opener) -> None:
        log = opener()
        outcomes = log.append(
            [
                Change("tea", {"title": "Tea"}),
                Change("tea", {"price": 3.0}, is_whole=False),
                Change("milk", {"price": 1.0}, is_whole=False),
                Change("tea", is_deleted=True),
                Change("tea", is_deleted=True),
            ],
            NOW,
            nobody_knows,
        )
        created, updated, untitled, deleted, missing = Outcome
        assert created is Outcome.CREATED
        assert outcomes == [created, updated, untitled, deleted, missing]
        assert [row.change.is_deleted for row in log.read()] == [True]

    def test_some_fields_join_what_is_known(self, opener: Opener) -> None:
        log = opener()
        log.append([Change("base1", {"price": 2.0}, is_whole=False)], NOW, knows_base)
        log.append([Change("base1", {"available": False}, is_whole=False)], NOW, knows_base)
        assert fields(log) == {"base1": {"price": 2.0, "available": False}}
        assert not log.read()[0].change.is_whole
        log.append([Change("base1", {"title": "Anew"})], NOW, knows_base)
        assert fields(log) == {"base1": {"title": "Anew"}}
        assert log.read()[0].change.is_whole

    def test_what_was_deleted_comes_back_whole_only(self, opener: Opener) -> None:
        log = opener()
        assert log.append([Change("base1", is_deleted=True)], NOW, knows_base) == [Outcome.DELETED]
        some = Change("base1", {"available": True}, is_whole=False)
        assert log.append([some], NOW, knows_base) == [Outcome.UNTITLED]
        whole = Change("base1", {"title": "Again"})
        assert log.append([whole], NOW, knows_base) == [Outcome.CREATED]

    def test_sequences_grow_and_are_never_used_again(self, opener: Opener) -> None:
        log = opener()
        for name in ("a", "b", "c"):
            log.append([Change(name, {"title": name})], NOW, nobody_knows)
        first = [row.sequence for row in log.read()]
        assert first == sorted(set(first))
        log.append([Change("a", {"title": "a2"})], NOW, nobody_knows)
        assert [row.item for row in log.since(first[-1])] == ["a"]
        assert log.since(log.version) == []
        newest = log.version
        assert log.trim(newest, NOW + 1, lambda _item: True) == 3
        log.append([Change("d", {"title": "d"})], NOW, nobody_knows)
        assert log.read()[0].sequence > newest

    def test_what_is_new_is_read_however_old_it_is(self, opener: Opener) -> None:
        log = opener()
        log.append([Change("tea", {"title": "Tea"})], NOW, knows_base)
        log.append([Change("base1", {"price": 1.0}, is_whole=False)], NOW, knows_base)
        assert [row.item for row in log.read(log.version)] == ["tea"]

    def test_trimming_keeps_what_no_bundle_holds(self, opener: Opener) -> None:
        log = opener()
        changes = [Change(name, {"title": name}) for name in ("tea", "base1", "base2")]
        log.append(changes, NOW, knows_base)
        log.append([Change("base2", is_deleted=True)], NOW, knows_base)
        up_to = log.version
        log.append([Change("base3", {"price": 1.0}, is_whole=False)], NOW, knows_base)
        assert log.trim(up_to, NOW, knows_base) == 0
        assert log.trim(up_to, NOW + 1, knows_base) == 2
        assert [row.item for row in log.read()] == ["tea", "base3"]

    def test_readings_are_kept(self, opener: Opener) -> None:
        reading = Reading(
            "space",
            np.array([0.6, -0.8], np.float32),
            np.array([3, 2**63 + 1], np.uint64),
            np.array([0.75, 0.25], np.float32),
        )
        log = opener()
        log.append([Change("tea", {"title": "Tea"}, reading=reading)], NOW, nobody_knows)
        log.append([Change("tea", {"price": 1.0}, is_whole=False)], NOW, nobody_knows)
        found = log.read()[0].change.reading
        assert found is not None
        assert found.space == "space"
        assert found.vector == pytest.approx(reading.vector, abs=1e-3)
        assert (found.keys == reading.keys).all()
        assert (found.weights == reading.weights).all()

    def test_another_process_sees_the_version_and_the_rows(self, opener: Opener) -> None:
        log, other = opener(), opener()
        before = other.version
        log.append([Change("tea", {"title": "茶"})], NOW, nobody_knows)
        time.sleep(log.settle_s)
        assert other.version > before
        assert fields(other) == {"tea": {"title": "茶"}}
        assert opener().version == other.version
