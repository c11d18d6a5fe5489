"""Servers of several machines: one event log on a NATS server, homes of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.ids import Pseudonymizer
from offline.compact_stream import compact_stream
from offline.ingest.tables import scan_events
from tests.online.serving import event, serving, settings_of, statuses
from tests.streams import nats_server, own_stream
from tests.worlds import KEY, World, item_id

PSEUDONYMS = Pseudonymizer(KEY)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with nats_server(tmp_path / "nats") as server, own_stream(server) as address:
        yield address


def test_events_go_through_the_stream(world: World, url: str, tmp_path: Path) -> None:
    with serving(settings_of(world, event_log=url)) as (caller, _):
        bought = [
            event(item_id(n), "PURCHASE", event_id=f"e{n}", user_id=user)
            for n, user in ((1, "u"), (3, "u"), (5, "erased"))
        ]
        assert statuses(caller.write(*bought)) == ["accepted"] * 3
        assert statuses(caller.write(*bought)) == ["duplicate"] * 3
        caller.write(event("p07", "PURCHASE", session_id="s1"))
        assert caller.merge("u", source_session_id="s1").num_events == 1
        own = [one.item_id for one in caller.recommend("u").items if one.source == "repeat"]
        assert sorted(own) == ["p01", "p03", "p07"]
        places = {place.name: place for place in caller.erase(user_id="erased").places}
        assert places["event_spool"].num_records == 1
    with serving(settings_of(world, event_log=url)) as (caller, _):  # nothing counts twice
        assert statuses(caller.write(*bought)) == ["duplicate"] * 2 + ["rejected"]
    assert compact_stream(url, tmp_path / "tables").num_events == 3
    users = scan_events(tmp_path / "tables").collect()["user"].to_list()
    assert sorted(filter(None, users)) == [PSEUDONYMS.hexdigest("u")] * 2
