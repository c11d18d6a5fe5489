"""The synthetic shop is a shop: people repeat, have tastes, and buy what sells."""

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.ids import Pseudonymizer, load_key
from feature_store.pointer import read_pointer
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import UserState, state_key
from feature_store.store import open_store
from infra.bench import shop as shops
from infra.bench.catalogue import NUM_STYLES, Catalogue, draw_catalogue
from infra.bench.shop import Shop, open_shop, point_to, user_id
from infra.bench.simulation import SHARE_REPEATS, History, simulate
from infra.bench.twins import second_bundle
from offline.progress import QUIET
from tests.infra.conftest import SIZE

NUM_DAYS = 100
START_TIME = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def world() -> tuple[Catalogue, History]:
    rng = np.random.default_rng(1)
    catalogue = draw_catalogue(20_000, NUM_DAYS, rng)
    return catalogue, simulate(catalogue, 1_500, START_TIME, NUM_DAYS, rng)


def test_purchases_are_in_order_and_in_time(world: tuple[Catalogue, History]) -> None:
    _, history = world
    assert (np.diff(history.user) >= 0).all()
    same_user = np.diff(history.user) == 0
    assert (np.diff(history.time)[same_user] >= 0).all()
    assert history.time.min() >= START_TIME
    assert history.time.max() < START_TIME + NUM_DAYS * MICROSECONDS_PER_DAY
    assert set(history.user) == set(range(1_500))


def test_people_repeat_what_they_bought(world: tuple[Catalogue, History]) -> None:
    catalogue, history = world
    pairs = history.user.astype(np.int64) * len(catalogue) + history.item
    share = 1 - len(np.unique(pairs)) / len(pairs)
    assert 0.7 * SHARE_REPEATS < share < 1.3 * SHARE_REPEATS


def test_few_items_sell_most(world: tuple[Catalogue, History]) -> None:
    catalogue, history = world
    sold = np.sort(np.bincount(history.item, minlength=len(catalogue)))[::-1]
    share_of_tenth = sold[: len(sold) // 10].sum() / sold.sum()
    assert 0.3 < share_of_tenth < 0.9


def test_people_have_tastes(world: tuple[Catalogue, History]) -> None:
    """Two purchases of one user share a category far more often than those of two users."""
    catalogue, history = world
    category = catalogue.category[history.item]
    rng = np.random.default_rng(2)
    first = rng.integers(0, len(history) - 1, 20_000)
    own = history.user[first] == history.user[first + 1]
    of_one = (category[first] == category[first + 1])[own].mean()
    of_two = (category[first] == rng.permutation(category[first]))[own].mean()
    assert of_one > 2 * of_two


def test_items_are_drawn_out_of_the_asked_cells(world: tuple[Catalogue, History]) -> None:
    catalogue, _ = world
    cell = catalogue.category[:1_000].astype(np.int64) * NUM_STYLES + catalogue.style[:1_000]
    drawn = catalogue.draw(cell, cell, np.random.default_rng(3))
    assert (catalogue.category[drawn] == catalogue.category[:1_000]).all()
    assert (catalogue.style[drawn] == catalogue.style[:1_000]).all()


def test_the_shop_is_whole(shop: Shop) -> None:
    bundle = open_bundle(shop.bundle)
    assert read_pointer(shop.home).bundle_id == bundle.bundle_id
    assert bundle.manifest.num_items["product"] == shop.num_items
    key = Pseudonymizer(load_key(shop.home))
    store = open_store(f"lmdb:{shop.home / 'store'}")
    keys = [state_key(key.digest(user_id(number))) for number in range(shop.num_users)]
    states = [UserState.decode(value) for value in store.get_many(keys) if value is not None]
    store.close()
    assert len(states) == shop.num_users
    assert all((state.items["count"] > 0).any() for state in states)
    assert 0.3 < np.mean([len(state.shown) > 0 for state in states]) < 0.7
    known = np.isin(states[0].items["key"], bundle.array("items/sorted_keys"))
    assert known.all()


def test_a_shop_is_made_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shops, "_make", lambda *_: pytest.fail("made again"))
    assert open_shop(SIZE, shop.home.parent, QUIET) == shop


def test_the_second_bundle_is_another_with_the_same_content(shop: Shop) -> None:
    twin = open_bundle(second_bundle(shop))
    first = open_bundle(shop.bundle)
    assert twin.bundle_id != first.bundle_id
    assert twin.manifest.files == first.manifest.files
    point_to(shop, twin.directory, version=2)
    assert read_pointer(shop.home).bundle_id == twin.bundle_id
    point_to(shop, shop.bundle)
    assert read_pointer(shop.home).bundle_id == first.bundle_id
