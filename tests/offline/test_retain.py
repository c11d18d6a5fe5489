"""Retention: what is older goes, wherever it lies; what is younger stays."""

from pathlib import Path

import pytest

from feature_store.event_log import EventLog
from feature_store.events import Event, with_event_id
from feature_store.ids import Pseudonymizer
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import UserState, state_key
from feature_store.store import MemoryStore
from offline.__main__ import main
from offline.compact import compact
from offline.ingest.tables import days, scan_events
from offline.retain import Retained, retain
from online.feedback.changes import apply
from tests.worlds import HORIZON_TIME, KEY

PSEUDONYMS = Pseudonymizer(KEY)
DAY = MICROSECONDS_PER_DAY


def bought(user: str, item: str, days_ago: int) -> Event:
    event = Event(
        event_id="",
        event_time=HORIZON_TIME - days_ago * DAY,
        user=PSEUDONYMS.hexdigest(user),
        kind="purchase",
        item=item,
    )
    return with_event_id(event)


def test_what_is_older_goes(tmp_path: Path) -> None:
    logs, tables, store = tmp_path / "event_log", tmp_path / "tables", MemoryStore()
    events = [bought("ann", "p1", 40), bought("ann", "p2", 2), bought("bob", "p1", 50)]
    apply(events, store)
    log = EventLog(logs, 0)
    log.append(events, HORIZON_TIME)
    compact(logs, tables, HORIZON_TIME)
    before_time = HORIZON_TIME - 30 * DAY
    assert retain(logs, tables, store, before_time) == Retained(2, 2, 2)
    assert retain(logs, tables, store, before_time) == Retained(0, 0, 0)
    assert [one.event.item for one in log.read()] == ["p2"]
    assert len(list(days(tables))) == 1
    assert scan_events(tables).collect()["item"].to_list() == ["p2"]
    ann, bob = store.get_many([state_key(PSEUDONYMS.digest(user)) for user in ("ann", "bob")])
    assert bob is None
    assert ann is not None
    state = UserState.decode(ann)
    assert (len(state.items), len(state.recent), len(state.baskets)) == (1, 1, 1)
    assert state.totals["first_time"][0] == before_time
    log.close()


def test_the_command_needs_a_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retain", "--home", str(tmp_path), "--days", "0"]) == 2
    assert "--days" in capsys.readouterr().err
    assert main(["retain", "--home", str(tmp_path), "--days", "30"]) == 0
    assert "0 days left the tables" in capsys.readouterr().out
