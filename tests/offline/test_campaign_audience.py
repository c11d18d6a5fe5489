"""Who a campaign is for: segments against naive formulas, filters, and files of people."""

from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

from feature_store.store import open_store
from offline.campaigns import segments
from offline.campaigns.audience import Known, find_people, read_people
from offline.campaigns.campaign import Audience
from offline.errors import CampaignError
from tests.offline.campaigns import PSEUDONYMS, build_shop, pseudonym, write_people
from tests.worlds import HORIZON_TIME, NUM_USERS, World, user_id

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_shop(tmp_path_factory.mktemp("shop") / "home")


def chosen(world: World, filter_text: str, time: int = HORIZON_TIME) -> set[int]:
    store = open_store(world.store_url)
    try:
        known = Known(world.home / "tables", store, PSEUDONYMS, time)
        people = find_people(Audience(filter=filter_text), known)
    finally:
        store.close()
    numbers = {pseudonym(n): n for n in range(NUM_USERS)}
    return {numbers[name] for name in people["pseudonym"]}


def test_segments_equal_naive_formulas(world: World) -> None:
    times = defaultdict(list)
    for one in world.purchases:
        times[one.user].append(one.time)
    found = segments.segments(world.home / "tables", HORIZON_TIME)
    rows = {row["pseudonym"]: row for row in found.to_dicts()}
    recency = {n: (HORIZON_TIME - max(times[n])) / DAY for n in times}
    for n, some in times.items():
        row = rows[pseudonym(n)]
        orders = {t // DAY for t in some}
        assert row["num_orders"] == len(orders)
        assert row["recency_days"] == pytest.approx(recency[n])
        assert row["tenure_days"] == pytest.approx((HORIZON_TIME - min(some)) / DAY)
        not_later = sum(recency[m] >= recency[n] for m in recency)
        assert row["r"] == -(-5 * not_later // len(recency))
        gap = (max(some) - min(some)) / DAY / (len(orders) - 1)
        lapsed = recency[n] > max(30.0, 3 * gap)
        tenure = row["tenure_days"]
        assert row["lifecycle"] == ("new" if tenure <= 30 else "lapsed" if lapsed else "active")


def test_lovers_are_those_who_buy_more_of_it_than_others(world: World) -> None:
    """Even people buy even things only: twice as much of them as the shop's average."""
    found = segments.lovers(world.home / "tables", HORIZON_TIME, "Even")
    assert set(found["pseudonym"]) == {pseudonym(n) for n in range(0, NUM_USERS, 2)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("segment = A", lambda n: n % 2 == 0),
        ("region = south language = en", lambda n: n % 3 == 0),
        ("NOT segment = A AND language != en", lambda n: n % 2 == 1 and n % 3 != 0),
        ("segment = A OR language = zh", lambda n: n % 2 == 0 or n % 3 == 1),
        ('loves:"Odd"', lambda n: n % 2 == 1),
        ("lifecycle = active", lambda _: True),
        ("lifecycle = lapsed", lambda _: False),
        ("num_orders >= 1 AND recency_days < 60", lambda _: True),
        ("spend < 0", lambda _: False),
    ],
)
def test_filters(world: World, text: str, expected: object) -> None:
    assert chosen(world, text) == {n for n in range(NUM_USERS) if expected(n)}  # type: ignore[operator]


def test_a_long_time_after_everybody_has_lapsed(world: World) -> None:
    assert len(chosen(world, "lifecycle = lapsed", HORIZON_TIME + 200 * DAY)) == NUM_USERS


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("shoe_size = 44", "is not known of people; known: "),
        ("recency_days < soon", "is compared with a number"),
        ("loves > Even", "is compared by = or : only"),
    ],
)
def test_wrong_filters(world: World, text: str, part: str) -> None:
    with pytest.raises(CampaignError, match=part):
        chosen(world, text)


def test_a_file_of_people(world: World, tmp_path: Path) -> None:
    write_people(tmp_path, [3, 1, 3])
    store = open_store(world.store_url)
    try:
        known = Known(world.home / "tables", store, PSEUDONYMS, HORIZON_TIME)
        audience = Audience(file=tmp_path / "people.csv", user_column="id", filter="name = Name3")
        people = find_people(audience, known)
    finally:
        store.close()
    assert people["user"].to_list() == [user_id(3)]
    assert people["pseudonym"].to_list() == [pseudonym(3)]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="cannot be read"):
        read_people(tmp_path / "none.csv", "user")
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "people.parquet")
    with pytest.raises(CampaignError, match="has no column user"):
        read_people(tmp_path / "people.parquet", "user")
    assert read_people(tmp_path / "people.parquet", "id")["user"].to_list() == ["1"]
