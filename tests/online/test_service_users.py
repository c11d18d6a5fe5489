"""Users over a real server: merged at login, forgotten on demand, asked before they are known."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from aisle.v1 import event_pb2
from feature_store.event_log import EventLog
from feature_store.events import Exposure, Merge, Source
from feature_store.ids import Pseudonymizer
from feature_store.people import Consent, Moved, consent_key, session_key
from feature_store.state import UserState, state_key
from feature_store.store import OnlineStore
from feature_store.tombstones import Tombstones
from online.process.server import EVENT_LOG, Parts
from tests.online.serving import (
    Caller,
    ServerProcess,
    event,
    ids,
    refused,
    serving,
    settings_of,
    statuses,
)
from tests.worlds import HORIZON_TIME, KEY, World, is_even, item_id, user_id

PSEUDONYMS = Pseudonymizer(KEY)
NEW_KEY = bytes(range(32, 64))
IMPOSSIBLE = grpc.StatusCode.FAILED_PRECONDITION


def bought(number: int, **who: str) -> event_pb2.Event:
    return event(item_id(number), "PURCHASE", event_id=f"bought {number}", **cast(Any, who))


def own(caller: Caller, user: str, **fields: Any) -> list[str]:
    """What the user is shown for having bought it."""
    items = caller.recommend(user, **fields).items
    return sorted(item.item_id for item in items if item.source == "repeat")


def spool(parts: Parts) -> EventLog:
    """The log of a server whose log is a spool."""
    assert isinstance(parts.eraser.own_log, EventLog)
    return parts.eraser.own_log


def state(store: OnlineStore, key: bytes) -> UserState:
    (value,) = store.get_many([key])
    assert value is not None
    return UserState.decode(value)


def traces(home: Path, *texts: bytes) -> list[str]:
    """The files below a home that hold one of these texts, or the name of one."""
    found = []
    for folder, _, names in os.walk(home):
        for name in names:
            content = (Path(folder) / name).read_bytes() + name.encode()
            if any(text in content for text in texts):
                found.append(str((Path(folder) / name).relative_to(home)))
    return found


@pytest.fixture
def served(world: World) -> Iterator[tuple[Caller, Parts]]:
    with serving(settings_of(world)) as pair:
        yield pair


def test_a_visit_becomes_the_users_at_login(server: Caller) -> None:
    server.write(*(bought(n, session_id="s1") for n in (1, 3)), bought(5, user_id="u"))
    merged = server.merge("u", source_session_id="s1")
    assert (merged.num_events, merged.already_merged) == (2, False)
    assert own(server, "u") == ["p01", "p03", "p05"]


def test_merging_again_changes_nothing(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    caller.write(bought(1, session_id="s1"))
    first = caller.merge("u", source_session_id="s1")
    again = caller.merge("u", source_session_id="s1")
    assert (again.num_events, again.already_merged) == (1, True)
    assert again.merge_time == first.merge_time
    totals = state(parts.eraser.store, state_key(PSEUDONYMS.digest("u"))).totals
    assert totals["num_purchases"][0] == 1


def test_an_unknown_visit_can_be_merged(server: Caller) -> None:
    assert server.merge("u", source_session_id="nothing yet").num_events == 0
    server.write(bought(1, session_id="nothing yet"))
    assert own(server, "u") == ["p01"]


def test_late_events_of_a_merged_visit_are_the_users(server: Caller) -> None:
    server.write(bought(1, session_id="s1"))
    server.merge("u", source_session_id="s1")
    assert statuses(server.write(bought(3, session_id="s1"))) == ["accepted"]
    assert own(server, "u") == own(server, "", session_id="s1") == ["p01", "p03"]
    assert statuses(server.write(bought(3, session_id="s1"))) == ["duplicate"]


def test_nothing_is_left_of_the_anonymous_state(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    caller.write(bought(1, session_id="s1"))
    caller.merge("u", source_session_id="s1")
    (value,) = parts.eraser.store.get_many([session_key(PSEUDONYMS.digest("s1"))])
    note = Moved.decode(value)
    assert note is not None
    assert (note.target, note.num_events) == (PSEUDONYMS.digest("u"), 1)


def test_a_visit_belongs_to_one_user(server: Caller) -> None:
    server.write(bought(1, session_id="s1"))
    server.merge("u", source_session_id="s1")
    with refused(IMPOSSIBLE):
        server.merge("v", source_session_id="s1")
    assert own(server, "v", session_id="s1") == []


def test_accounts_merge_with_all_that_they_had(server: Caller) -> None:
    server.write(bought(1, session_id="s1"), bought(3, user_id="old"), bought(5, user_id="new"))
    server.merge("old", source_session_id="s1")
    assert server.merge("new", source_user_id="old").num_events == 2
    assert own(server, "new") == own(server, "old") == ["p01", "p03", "p05"]
    server.write(bought(7, user_id="old"), bought(9, session_id="s1"))
    assert own(server, "new") == ["p01", "p03", "p05", "p07", "p09"]
    with refused(IMPOSSIBLE):
        server.merge("old", source_user_id="new")
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        server.merge("new", source_user_id="new")


def test_a_merge_that_was_logged_survives_a_crash(world: World) -> None:
    process = ServerProcess(world)
    caller = process.wait_until_ready()
    caller.write(bought(1, session_id="s1"))
    caller.merge("u", source_session_id="s1")
    process.kill()
    caller.close()
    log = EventLog(world.home / EVENT_LOG, 0)
    (logged,) = log.read_merges()
    assert logged.merge.target == PSEUDONYMS.hexdigest("u")
    log.close()
    with serving(settings_of(world)) as (again, _):
        assert own(again, "u") == ["p01"]


def test_logged_merges_are_applied_at_the_next_start(world: World) -> None:
    with serving(settings_of(world)) as (caller, _):
        caller.write(bought(1, session_id="s1"))
    log = EventLog(world.home / EVENT_LOG, 0)
    names = {name: PSEUDONYMS.hexdigest(name) for name in ("s1", "u")}
    log.append_merge(
        Merge(kind=Source.SESSION, source=names["s1"], target=names["u"], merge_time=HORIZON_TIME)
    )
    log.close()
    for _ in range(2):
        with serving(settings_of(world)) as (caller, _):
            assert own(caller, "u") == ["p01"]
            assert caller.merge("u", source_session_id="s1").already_merged


def test_an_erased_user_is_gone_and_stays_out(world: World) -> None:
    raw = "alice@shop.example"
    names = (raw.encode(), PSEUDONYMS.digest(raw), PSEUDONYMS.hexdigest(raw).encode())
    visit = (PSEUDONYMS.digest("s1"), PSEUDONYMS.hexdigest("s1").encode())
    with serving(settings_of(world)) as (caller, parts):
        fresh = ids(caller.recommend())
        caller.write(bought(1, user_id=raw), bought(3, session_id="s1"), bought(5, user_id="v"))
        caller.write(event("", user_id=raw))  # refused, so in quarantine
        caller.merge(raw, source_session_id="s1")
        shown = Exposure(
            attribution_token="t",
            request_time=HORIZON_TIME,
            user=PSEUDONYMS.hexdigest(raw),
            placement="home",
            items=(),
            corpora=(),
            propensities=(),
            model_version="1",
        )
        parts.feedback.run(lambda: parts.eraser.own_log.append_exposures([shown])).result()
        erased = caller.erase(user_id=raw)
        places = {place.name: place for place in erased.places}
        assert places["online_store"].num_records == 3
        assert places["event_spool"].num_records == 4
        states = {name: place.state for name, place in places.items()}
        assert (states["online_store"], states["event_spool"]) == (1, 1)
        assert states["event_log"] == states["exports"] == 2

        assert statuses(caller.write(bought(7, user_id=raw))) == ["rejected"]
        assert ids(caller.recommend(raw)) == fresh
        assert ids(caller.recommend(raw, session_id="s1")) == fresh
        assert own(caller, "v") == ["p05"]
        with refused(IMPOSSIBLE):
            caller.merge(raw, source_session_id="s2")
        again = caller.erase(user_id=raw)
        assert (again.audit_id, again.erase_time) == (erased.audit_id, erased.erase_time)
        records = list(parts.eraser.store.scan(b""))
        assert not [key for key, value in records if any(n in key + value for n in names)]
        assert not [key for key, value in records if any(n in key + value for n in visit)]
    found = traces(world.home, *names, *visit)
    assert found in ([], ["store/data.mdb"])  # freed pages go with `offline erase`


def test_the_audit_record_says_nothing_of_the_person(world: World) -> None:
    with serving(settings_of(world)) as (caller, _):
        caller.write(bought(1, user_id="u"))
        audit_id = caller.erase(user_id="u").audit_id
        assert caller.erase(session_id="u").audit_id != audit_id
    text = (world.home / "erased" / "audit" / f"{audit_id}.json").read_text()
    record = json.loads(text)
    assert record["places"]["event_spool"] == {"num_records": 1, "state": "erased"}
    marker = Tombstones(world.home, KEY).marker
    for secret in (PSEUDONYMS.hexdigest("u"), marker.of_id("u").hex()):
        assert secret not in text


def test_an_event_on_its_way_does_not_bring_an_erased_user_back(
    served: tuple[Caller, Parts],
) -> None:
    """Another machine erased the user: this one learns of it from the store alone."""
    caller, parts = served
    marker = parts.eraser.tombstones.marker
    pseudonym = PSEUDONYMS.digest("u")
    parts.eraser.store.put_many([(b"t1/" + marker.of_pseudonym(pseudonym), b"1")])
    outcomes = caller.write(bought(1, user_id="u"), bought(3, user_id="v"))
    assert statuses(outcomes) == ["rejected", "accepted"]
    assert outcomes[0].violations[0].field == "user_id"
    assert parts.eraser.store.get_many([state_key(pseudonym)]) == [None]
    assert spool(parts).pseudonyms() == {PSEUDONYMS.hexdigest("v")}


def test_a_session_is_erased_alone(server: Caller) -> None:
    server.write(bought(1, session_id="s1"), bought(3, session_id="s2"))
    places = {place.name: place for place in server.erase(session_id="s1").places}
    assert (places["online_store"].num_records, places["online_store"].state) == (1, 1)
    assert own(server, "", session_id="s1") == []
    assert own(server, "", session_id="s2") == ["p03"]


def test_without_consent_nothing_is_known(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    user = PSEUDONYMS.digest(user_id(2))
    refusal = Consent(personalization=False).encode()
    assert refusal is not None
    plain = ids(caller.recommend())
    before = state(parts.eraser.store, state_key(user)).encode()
    parts.eraser.store.put_many([(consent_key(user), refusal)])
    assert ids(caller.recommend(user_id(2))) == plain
    visited = caller.recommend(user_id(2), session_items=[{"item_id": "p01"}])
    assert ids(visited) == plain
    assert statuses(caller.write(bought(1, user_id=user_id(2)))) == ["accepted"]
    assert state(parts.eraser.store, state_key(user)).encode() == before
    assert len(spool(parts).read()) == 1


def test_unsubscribing_is_a_consent(served: tuple[Caller, Parts]) -> None:
    caller, parts = served
    caller.write(event("", "UNSUBSCRIBE", user_id="u"))
    (value,) = parts.eraser.store.get_many([consent_key(PSEUDONYMS.digest("u"))])
    assert Consent.decode(value) == Consent(personalization=True, email=False)


def test_a_new_key_finds_what_lies_under_the_old_one(world: World) -> None:
    user = user_id(2)
    with serving(settings_of(world)) as (caller, _):
        before = ids(caller.recommend(user))
        plain = ids(caller.recommend())
    assert before != plain
    rotated = {"pseudonym_key": NEW_KEY, "pseudonym_key_previous": KEY}
    with serving(settings_of(world, **rotated)) as (caller, parts):
        assert ids(caller.recommend(user)) == before
        assert ids(caller.recommend("stranger")) == plain
        assert statuses(caller.write(bought(1, user_id=user_id(4)))) == ["accepted"]
        assert len(state(parts.eraser.store, state_key(new(user_id(4)))).items) > 1
        (record,) = parts.eraser.store.get_many([state_key(PSEUDONYMS.digest(user))])
        assert Moved.decode(record) is not None
    with serving(settings_of(world, pseudonym_key=NEW_KEY)) as (caller, _):
        assert ids(caller.recommend(user)) == before
        assert is_even(before[0])


def new(raw: str) -> bytes:
    return Pseudonymizer(NEW_KEY).digest(raw)


def test_an_erased_user_stays_out_when_the_key_is_rotated(world: World) -> None:
    with serving(settings_of(world)) as (caller, _):
        caller.erase(user_id=user_id(2))
    with serving(settings_of(world, pseudonym_key=NEW_KEY)) as (caller, _):
        assert statuses(caller.write(bought(1, user_id=user_id(2)))) == ["rejected"]
