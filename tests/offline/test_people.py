"""Whose events are whose: merges and consents in training, in the store and in exports."""

from pathlib import Path

import polars as pl
import pytest

from feature_store.events import Merge, Source
from feature_store.ids import Pseudonymizer
from feature_store.people import Consent, Moved, consent_key, session_key, sources_key
from feature_store.schema import EVENTS
from feature_store.state import UserState, state_key
from feature_store.store import MemoryStore, open_store
from offline.__main__ import main
from offline.dataset import load_dataset
from offline.ingest.files import find_sources
from offline.ingest.job import IngestJob, ingest
from offline.ingest.mapping import ShopMapping
from offline.people import (
    merge_table,
    read_consents,
    read_merges,
    scan_user_events,
    store_merges,
    write_people,
)
from offline.recipe import DataConfig
from tests.worlds import KEY

PSEUDONYMS = Pseudonymizer(KEY)
EVENT_ROWS = """event_time,user,session,kind,item
2024-01-01T10:00:00Z,ann,,purchase,p1
2024-01-01T11:00:00Z,,s1,purchase,p2
2024-01-01T12:00:00Z,bob,,purchase,p1
2024-01-01T13:00:00Z,old,,purchase,p2
2024-01-01T14:00:00Z,ann,,unsubscribe,
2024-01-01T15:00:00Z,eve,,unsubscribe,
"""
USER_ROWS = """user,consent_personalization,consent_email,consent_time
ann,true,true,2023-12-01T00:00:00Z
bob,false,true,
eve,true,true,2024-01-02T00:00:00Z
old,true,false,
"""
PRODUCT_ROWS = "item,title\np1,one\np2,two\n"
NOON = 1_704_110_400_000_000  # 2024-01-01 12:00 UTC
HORIZON = NOON + 86_400_000_000


def name(raw: str) -> str:
    return PSEUDONYMS.hexdigest(raw)


def merge(kind: Source, source: str, target: str, time: int = NOON) -> Merge:
    return Merge(kind=kind, source=name(source), target=name(target), merge_time=time)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Three users, a visit of ann's, and an account that became ann's."""
    rows = {"events": EVENT_ROWS, "users": USER_ROWS, "products": PRODUCT_ROWS}
    for table, text in rows.items():
        (tmp_path / f"{table}.csv").write_text(text)
    sources = {
        table: find_sources(str(tmp_path / f"{table}.csv"), ShopMapping().csv) for table in rows
    }
    root = tmp_path / "tables"
    ingest(IngestJob(sources, root), PSEUDONYMS)
    keep(root, merge(Source.SESSION, "s1", "mid"), merge(Source.USER, "mid", "ann"))
    keep(root, merge(Source.USER, "old", "ann"))
    return root


def keep(tables: Path, *merges: Merge) -> None:
    folder = tables.parent / "drafts"
    folder.mkdir(exist_ok=True)
    store_merges(tables, merge_table(list(merges)), folder)


def who(frame: pl.LazyFrame) -> dict[str, list[str]]:
    """The items of each user."""
    rows = frame.filter(pl.col("item").is_not_null()).sort("item").collect()
    return {user: part["item"].to_list() for (user,), part in rows.group_by("user")}


def test_merges_are_followed_to_the_end(tables: Path) -> None:
    assert set(read_merges(tables)["target"]) == {name("ann")}


def test_the_first_merge_of_a_source_stays(tables: Path) -> None:
    keep(tables, merge(Source.SESSION, "s1", "bob", NOON + 1))
    assert set(read_merges(tables)["target"]) == {name("ann")}


def test_events_are_those_of_the_person_who_consents(tables: Path) -> None:
    assert who(scan_user_events(tables)) == {name("ann"): ["p1", "p2", "p2"]}


def test_a_visit_is_not_known_before_the_login(tables: Path) -> None:
    assert who(scan_user_events(tables, end_time=NOON)) == {name("ann"): ["p1"]}
    assert who(scan_user_events(tables, end_time=NOON + 1))[name("ann")] == ["p1", "p2"]


def test_columns_stay_as_they_were(tables: Path) -> None:
    assert scan_user_events(tables).collect_schema().names() == list(EVENTS.names)


def test_without_consent_nobody_is_trained_on(tables: Path) -> None:
    dataset = load_dataset(tables, DataConfig(min_users_per_item=1), HORIZON)
    assert dataset.users == (name("ann"),)


def test_unsubscribing_lasts_until_a_later_consent(tables: Path) -> None:
    refused = {row["user"]: row for row in read_consents(tables).to_dicts()}
    assert refused[name("ann")]["email"] is False  # of the account that became hers, too
    assert refused[name("bob")] == {"user": name("bob"), "personalization": False, "email": True}
    assert name("eve") not in refused


def test_the_store_learns_it_all(tables: Path) -> None:
    store = MemoryStore()
    ann, bob = PSEUDONYMS.digest("ann"), PSEUDONYMS.digest("bob")
    store.put_many([(state_key(bob), b"state"), (consent_key(ann[::-1]), b"\x01")])
    for _ in range(2):
        write_people(tables, store)
        visit, account = session_key(PSEUDONYMS.digest("s1")), state_key(PSEUDONYMS.digest("old"))
        values = store.get_many(
            [consent_key(bob), consent_key(ann), state_key(bob), visit, account]
        )
        assert Consent.decode(values[0]) == Consent(personalization=False)
        assert Consent.decode(values[1]) == Consent(email=False)
        assert values[2] is None
        assert Moved.decode(values[3]) == Moved(ann, NOON, 1)
        assert Moved.decode(values[4]) == Moved(ann, NOON, 1)
        assert store.get_many([consent_key(ann[::-1])]) == [None]
        (listed,) = store.get_many([sources_key(ann)])
        assert listed is not None
        assert visit in listed


def test_materialize_writes_consents_and_merges(tables: Path) -> None:
    home = tables.parent
    assert (
        main(["materialize", "--home", str(home), "--tables", str(tables), "--ignore-quality"]) == 0
    )
    store = open_store(f"lmdb:{home / 'store'}")
    ann, bob, old = (PSEUDONYMS.digest(raw) for raw in ("ann", "bob", "old"))
    values = store.get_many([state_key(ann), state_key(bob), consent_key(bob), state_key(old)])
    store.close()
    assert values[0] is not None
    assert UserState.decode(values[0]).totals["num_purchases"][0] == 3
    assert values[1] is None
    assert Consent.decode(values[2]) == Consent(personalization=False)
    assert Moved.decode(values[3]) is not None
