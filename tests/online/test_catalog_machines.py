"""Changes of products on several machines: homes of their own, one Redis."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.store import open_store
from tests.feature_store.redis_server import DATABASE, server_port
from tests.online.serving import serving, settings_of
from tests.online.test_service_catalog import EVEN, delete, everything, product, statuses, upsert
from tests.worlds import World

__all__ = ["server_port"]


@pytest.fixture
def url(server_port: int) -> Iterator[str]:
    address = f"redis://127.0.0.1:{server_port}/{DATABASE}"
    url = f"{address}?namespace=test-{uuid.uuid4().hex}:"
    yield url
    store = open_store(url)
    for key, _ in list(store.scan(b"")):
        store.update_many([key], lambda values: [None for _ in values])
    store.close()


def test_what_one_machine_acknowledges_every_machine_shows(
    world: World, url: str, tmp_path: Path
) -> None:
    other = world.copy(tmp_path / "other")
    with (
        serving(settings_of(world, store=url)) as (here, _),
        serving(settings_of(other, store=url)) as (there, _),
    ):
        for number in range(3):
            tea = product(f"tea{number}", title="Even tea", category=EVEN)
            assert statuses(upsert(here, tea)) == ["created"]
            assert f"tea{number}" in everything(there)
            item = f"p{2 * number:02}"
            assert item in everything(here)
            delete(there, item)
            assert item not in everything(here)
        assert statuses(upsert(there, product("tea0", title="Even tea"))) == ["updated"]
    with serving(settings_of(other, store=url)) as (again, _):
        found = set(everything(again))
        assert {"tea0", "tea1", "tea2"} <= found
        assert {"p00", "p02", "p04"}.isdisjoint(found)
