"""Erasure to the end: no file and no key names the person, and no import brings them back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from feature_store.event_log import EventLog
from feature_store.ids import Pseudonymizer
from feature_store.ledger import Ask, Charge, open_ledger
from feature_store.store import open_store
from feature_store.store.rewrite import rewrite
from offline.compact import compact
from offline.erase import Erased, erase, is_pending, open_tombstones
from offline.export import SCHEMA
from offline.home import Home
from offline.ingest.files import find_sources
from offline.ingest.job import IngestJob, Limits, ingest
from offline.ingest.mapping import ShopMapping
from offline.ingest.tables import scan_events, scan_users
from offline.people import write_people
from online.known import user_name, visit_name
from online.process.server import EVENT_LOG
from tests.online.serving import event, serving, settings_of
from tests.worlds import HORIZON_TIME, KEY, World, build_world, user_id

PSEUDONYMS = Pseudonymizer(KEY)
RAW = "alice@shop.example"
VISIT = "visit of alice"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world") / "home")


@pytest.fixture
def world(pristine: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("AISLE_PSEUDONYM_KEY", KEY.hex())
    return pristine.copy(tmp_path / "home")


def names() -> Iterator[bytes]:
    """How a person may be written."""
    for raw in (RAW, VISIT):
        yield raw.encode()
        yield PSEUDONYMS.digest(raw)
        yield PSEUDONYMS.hexdigest(raw).encode()


def traces(home: Path) -> list[str]:
    """The files whose content or name holds a trace."""
    found = []
    for folder, _, files in os.walk(home):
        for file in files:
            path = Path(folder) / file
            content = path.read_bytes() + file.encode()
            if path.suffix == ".parquet":
                content += pl.read_parquet(path).write_json().encode()
            if any(name in content for name in names()):
                found.append(str(path.relative_to(home)))
    return found


def shop_files(folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    events = folder / "events.csv"
    events.write_text(
        "event_time,user,session,kind,item\n"
        f"2024-01-01T10:00:00Z,{RAW},,purchase,p01\n"
        f"2024-01-01T11:00:00Z,{user_id(2)},,purchase,p02\n"
        f"2024-01-01T12:00:00Z,{RAW},,stare,p01\n"
    )
    users = folder / "users.csv"
    users.write_text(f"user,segment\n{RAW},A\n{user_id(2)},B\n")
    return {"events": events, "users": users}


def take_in(home: Path, folder: Path) -> None:
    sources = {
        name: find_sources(str(path), ShopMapping().csv)
        for name, path in shop_files(folder).items()
    }
    job = IngestJob(sources, home / "tables", limits=Limits(max_quarantined=1.0))
    ingest(job, PSEUDONYMS, tombstones=open_tombstones(home))


def export(home: Path) -> Path:
    out = home / "exports" / "today"
    out.mkdir(parents=True)
    row = dict.fromkeys(SCHEMA)
    users = [PSEUDONYMS.hexdigest(raw) for raw in (RAW, user_id(2))]
    frame = pl.DataFrame([row | {"user": user, "rank": 1} for user in users], SCHEMA)
    frame.write_parquet(out / "part-00000.parquet")
    manifest = {"num_users": 2, "files": {"part-00000.parquet": "0"}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def run(world: World) -> Erased:
    home = Home.at(world.home)
    return erase(home, home.tables, open_tombstones(world.home), HORIZON_TIME)


def live(world: World) -> str:
    """The person does all that leaves a trace, is compacted, then erased; the audit's id."""
    with serving(settings_of(world)) as (caller, _):
        caller.write(
            event("p01", "PURCHASE", user_id=RAW, session_id=VISIT),
            event("p03", "VIEW", session_id=VISIT),
            event("", user_id=RAW),
            event("p05", "VIEW", user_id="somebody"),
        )
        caller.merge(RAW, source_session_id=VISIT)
        compact(world.home / EVENT_LOG, world.home / "tables", HORIZON_TIME)
        caller.write(event("p07", "VIEW", user_id=RAW))
        return caller.erase(user_id=RAW).audit_id


def test_nothing_is_left_anywhere(world: World, tmp_path: Path) -> None:
    out = export(world.home)
    take_in(world.home, tmp_path / "shop")
    audit_id = live(world)
    assert any("tables" in path for path in traces(world.home))
    assert is_pending(world.home)
    done = run(world)
    assert done.num_completed == 1
    assert done.num_records["event_log"] >= 4
    assert done.num_records["exports"] == done.num_records["users"] == 1
    assert traces(world.home) == []
    store = open_store(world.store_url)
    assert not [k for k, v in store.scan(b"") if any(name in k + v for name in names())]
    store.close()
    record = json.loads((world.home / "erased" / "audit" / f"{audit_id}.json").read_text())
    assert {place["state"] for place in record["places"].values()} == {"erased"}
    assert record["complete_time"] == HORIZON_TIME
    assert json.loads((out / "manifest.json").read_text())["num_users"] == 1
    kept = set(scan_events(world.home / "tables").collect()["user"])
    assert kept == {PSEUDONYMS.hexdigest(user_id(2)), PSEUDONYMS.hexdigest("somebody")}
    assert not is_pending(world.home)


def test_again_changes_nothing(world: World, tmp_path: Path) -> None:
    take_in(world.home, tmp_path / "shop")
    live(world)
    run(world)
    before = {p: p.read_bytes() for p in world.home.rglob("*.parquet")}
    assert sum(run(world).num_records.values()) == 0
    assert {p: p.read_bytes() for p in world.home.rglob("*.parquet")} == before


def test_claims_that_came_back_are_taken_out_of_the_ledger(world: World) -> None:
    """Another machine's claims, or those of a restored backup; the sums they are in stay."""
    live(world)
    run(world)
    ledger = open_ledger(Home.at(world.home).ledger)
    kept = user_name(PSEUDONYMS.digest("somebody"))
    for name in (user_name(PSEUDONYMS.digest(RAW)), visit_name(PSEUDONYMS.digest(VISIT)), kept):
        own = Charge(f"{name}/c", max_claims=1, is_shared=False)
        charges = (own, Charge("campaign", max_micros=9))
        ledger.claim(Ask(name[-9:], "c", name, 3, charges, HORIZON_TIME, HORIZON_TIME + 1))
    ledger.close()
    assert traces(world.home)
    assert run(world).num_records["ledger"] == 2
    assert traces(world.home) == []
    ledger = open_ledger(Home.at(world.home).ledger)
    assert ledger.users() == {kept}
    assert ledger.changes(0).accounts["campaign"].reserved == 9
    ledger.close()


def test_an_import_does_not_bring_anybody_back(world: World, tmp_path: Path) -> None:
    live(world)
    run(world)
    take_in(world.home, tmp_path / "shop")
    assert traces(world.home) == []
    assert len(scan_users(world.home / "tables").collect()) == 1
    refused = pl.read_parquet(world.home / "tables" / "quarantine" / "events.parquet")
    assert refused.filter(pl.col("reason") == "erased user or session").height == 2


def test_a_restored_backup_is_cleaned_too(world: World, tmp_path: Path) -> None:
    take_in(world.home, tmp_path / "shop")
    day = next((world.home / "tables" / "events").rglob("*.parquet"))
    backup = day.read_bytes()
    live(world)
    run(world)
    day.write_bytes(backup)
    assert run(world).num_records["event_log"] == 1
    assert traces(world.home) == []


def test_an_open_store_must_wait(world: World, tmp_path: Path) -> None:
    take_in(world.home, tmp_path / "shop")
    live(world)
    store = open_store(world.store_url)
    assert not rewrite(world.home / "store")
    store.close()
    before = len(list(open_and_scan(world)))
    assert rewrite(world.home / "store")
    assert len(list(open_and_scan(world))) == before


def open_and_scan(world: World) -> list[tuple[bytes, bytes]]:
    store = open_store(world.store_url)
    records = list(store.scan(b""))
    store.close()
    return records


def test_a_bundle_holds_nothing_keyed_by_a_user(pristine: World) -> None:
    content = b"".join(path.read_bytes() for path in pristine.bundle.rglob("*") if path.is_file())
    for number in range(40):
        raw = user_id(number)
        for name in (PSEUDONYMS.digest(raw), PSEUDONYMS.hexdigest(raw).encode()):
            assert name not in content


def test_a_job_after_the_merge_writes_no_erased_person(world: World, tmp_path: Path) -> None:
    take_in(world.home, tmp_path / "shop")
    live(world)
    run(world)
    store = open_store(world.store_url)
    write_people(world.home / "tables", store)
    store.close()
    assert traces(world.home) == []
    log = EventLog(world.home / EVENT_LOG, 0)
    assert log.pseudonyms() == {PSEUDONYMS.hexdigest("somebody")}
    log.close()
