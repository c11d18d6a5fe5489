"""The guard against abuse: what it lets through, until when it does not, and what it keeps."""

from pathlib import Path

from feature_store.people import GUARD_PREFIX
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import MemoryStore
from offline.retain import retain
from online.coupons.guard import BURST, MINUTE, PER_ADDRESS, PER_DEVICE, Guard, Withheld

NOW = 1_700_000_000_000_000
KEY = bytes(range(32))


def test_a_burst_is_let_through_again_when_it_has_passed() -> None:
    guard = Guard(MemoryStore(), KEY)
    for number in range(BURST.count):
        assert guard.admit("user/a", "", "", NOW + number) is None
    assert guard.admit("user/a", "", "", NOW + 9) == Withheld("burst", NOW + MINUTE)
    assert guard.admit("user/b", "", "", NOW + 9) is None
    assert guard.admit("user/a", "", "", NOW + MINUTE - 1) is not None
    assert guard.admit("user/a", "", "", NOW + MINUTE) is None, "what is withheld does not count"


def test_what_is_taken_back_counts_no_more() -> None:
    store = MemoryStore()
    guard = Guard(store, KEY)
    for number in range(2 * BURST.count):
        assert guard.admit("user/a", "d", "", NOW + number) is None
        guard.take_back("user/a", "d", "", NOW + number)
    assert list(store.scan(GUARD_PREFIX)) == []
    for _ in range(BURST.count):
        assert guard.admit("user/a", "d", "", NOW) is None
    guard.take_back("user/a", "d", "", NOW)
    assert guard.admit("user/a", "d", "", NOW) is None, "one of those at once was taken back"
    assert guard.admit("user/a", "d", "", NOW) is not None


def test_devices_and_addresses_have_limits_of_a_day() -> None:
    guard = Guard(MemoryStore(), KEY)
    for number in range(PER_DEVICE.count):
        assert guard.admit(f"visit/{number}", "d", "a", NOW) is None
    held = guard.admit("visit/x", "d", "a", NOW)
    assert held == Withheld("device", NOW + PER_DEVICE.span)
    for number in range(PER_ADDRESS.count - PER_DEVICE.count):
        assert guard.admit(f"visit/y{number}", f"d{number}", "a", NOW) is None
    assert guard.admit("visit/z", "another", "a", NOW) == (
        Withheld("address", NOW + PER_ADDRESS.span)
    )


def test_workers_count_together_and_keep_hashes_alone(tmp_path: Path) -> None:
    store = MemoryStore()
    first, second = Guard(store, KEY), Guard(store, KEY)
    for number in range(BURST.count):
        assert (first, second)[number % 2].admit("user/a", "tablet", "street 1", NOW) is None
    assert second.admit("user/a", "", "", NOW) is not None
    records = list(store.scan(b""))
    assert len(records) == 3
    for word in (b"tablet", b"street", b"user/a"):
        assert all(word not in key + value for key, value in records)
    (tmp_path / "tables").mkdir()
    retain(tmp_path / "log", tmp_path / "tables", store, NOW)
    assert list(store.scan(GUARD_PREFIX)) == records, "the day of the claims is kept"
    retain(tmp_path / "log", tmp_path / "tables", store, NOW + MICROSECONDS_PER_DAY)
    assert list(store.scan(GUARD_PREFIX)) == []
