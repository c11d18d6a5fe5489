"""Served features are computed again offline, to the last event that was known then."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import open_bundle
from feature_store.event_log import EventLog
from feature_store.events import Event
from feature_store.ids import Pseudonymizer, load_key
from feature_store.ranking import RATED_SOURCES, feature_names
from feature_store.schema import MICROSECONDS_PER_DAY as DAY
from feature_store.served import PARITY_FOLDER, Served, ServedLog, forget, places, read_served
from feature_store.store import MemoryStore
from offline.__main__ import main
from offline.build import build_bundle
from offline.compact import compact
from offline.dataset import load_dataset
from offline.errors import ParityError
from offline.increments import Site, bring_up
from offline.models.ranker import Lessons, Ranker, fit_ranker
from offline.parity import Parity, check
from offline.progress import QUIET
from offline.recipe import RankerConfig
from online.engine import Engine
from online.feedback.changes import apply
from online.feedback.intake import Feedback
from online.process.parity import sampling
from online.snapshot import open_snapshot
from online.types import PurchaseMode, Request
from tests.offline.shops import RECIPE, usual_tables
from tests.worlds import HORIZON_TIME, NUM_ITEMS, item_id, price, user_id

HOUR = 3_600_000_000
SMALL = RankerConfig(
    num_trees=2, num_epochs=1, hidden=(4,), negative_share=1.0, min_rows_in_leaf=20
)


@dataclass(slots=True)
class Clock:
    """The wall clock of the shop."""

    now: int = HORIZON_TIME

    def read(self) -> int:
        """Microseconds UTC."""
        return self.now


def any_ranker(sources: tuple[str, ...] = RATED_SOURCES) -> Ranker:
    """A network that takes the features; what it says of them does not matter here."""
    dice = np.random.default_rng(0)
    features = dice.random((600, len(feature_names(sources))), np.float32)
    labels = (features[:, 0] > 0.5).astype(np.float32)
    return fit_ranker(features, Lessons.of_purchases(labels), SMALL, 0, QUIET)


@dataclass(slots=True)
class Shop:
    """A home with tables and a ranked bundle, a store brought up to it, and a way in."""

    home: Path
    engine: Engine
    feedback: Feedback
    store: MemoryStore
    users: list[str]
    clock: Clock
    num_events: int = 0

    def ask(self, user: str, mode: PurchaseMode = PurchaseMode.ANY) -> None:
        """One request, an hour after the one before."""
        self.clock.now += HOUR
        self.engine.recommend(
            Request(self.clock.now, "home", bytes.fromhex(user), purchase_mode=mode)
        )

    def event(self, dice: random.Random) -> Event:
        """Something that a user did in the last three weeks: most of it comes late."""
        self.num_events += 1
        item = dice.randrange(NUM_ITEMS)
        return Event(
            event_id=f"live-{self.num_events}",
            event_time=self.clock.now - dice.randrange(21 * DAY),
            user=dice.choice(self.users),
            kind=dice.choice(("purchase", "purchase", "view", "like", "cart_add", "impression")),
            item=item_id(item),
            price=price(item),
        )

    def write(self, events: Sequence[Event]) -> None:
        """Events come a minute after the latest request."""
        self.clock.now += HOUR // 60
        self.feedback.write(events, (), self.clock.now).result()

    def compact(self) -> None:
        """Move the spools into the tables."""
        compact(self.home / "event_log", self.home / "tables", self.clock.now)

    def check(self) -> Parity:
        """Compare all that was noted so far."""
        return check(
            self.home, self.home / "tables", self.home / "event_log", [self.home / "bundles"]
        )


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with tables and a bundle that has a ranker."""
    tables = usual_tables(tmp_path_factory.mktemp("parity"))
    dataset = load_dataset(tables, RECIPE.data, HORIZON_TIME)
    role, bundles = bundle_pb2.ROLE_REFIT, tables.parent / "bundles"
    build_bundle(dataset, RECIPE, bundles, role, "cpu", QUIET, any_ranker())
    return tables.parent


@pytest.fixture
def shop(learned: Path, tmp_path: Path) -> Iterator[Shop]:
    home = tmp_path / "home"
    shutil.copytree(learned, home)
    (bundle,) = (home / "bundles").iterdir()
    users = [Pseudonymizer(load_key(home)).hexdigest(user_id(n)) for n in range(10)]
    store, clock = MemoryStore(), Clock()
    bring_up(Site(store, home / "tables", home / "event_log", home / "work"), 0, QUIET)
    with ExitStack() as stack:
        watch = stack.enter_context(sampling(home, 0, 1.0, clock.read))
        log = stack.enter_context(closing(EventLog(home / "event_log", 0)))
        feedback = stack.enter_context(closing(Feedback(log, store)))
        engine = Engine(store, open_snapshot(open_bundle(bundle)), watch)
        yield Shop(home, engine, feedback, store, users, clock)


def shop_for_a_while(shop: Shop, num_rounds: int, seed: int = 1) -> int:
    """Requests with events between them; returns how many requests were made."""
    dice = random.Random(seed)
    for number in range(num_rounds):
        shop.ask(dice.choice(shop.users), dice.choice((PurchaseMode.ANY, PurchaseMode.NEW_ONLY)))
        shop.write([shop.event(dice) for _ in range(dice.randrange(4))])
        if number == num_rounds // 2:
            shop.compact()
    return num_rounds


def wait_for(shop: Shop, num: int) -> None:
    """Until the thread has written that many."""
    wait_until_noted(shop.home, num)


def wait_until_noted(home: Path, num: int) -> None:
    """Until that many answers are in the home's files."""
    for _ in range(500):
        if len(places(home / PARITY_FOLDER)) >= num:
            return
        time.sleep(0.01)


def test_what_was_served_is_computed_again(shop: Shop) -> None:
    num = shop_for_a_while(shop, 60)
    wait_for(shop, num)
    parity = shop.check()
    assert (parity.num_requests, parity.differences) == (num, {})
    assert parity.num_other_items == 0
    assert parity.is_kept
    assert parity.num_not_default > 0.3 * parity.num_values


def test_a_request_of_the_past_knows_nothing_of_what_came_later(shop: Shop) -> None:
    """An event of last week that came after the request must not be in its features."""
    shop.ask(shop.users[0])
    late = shop.event(random.Random(3))
    late = replace(late, user=shop.users[0], event_time=shop.clock.now - 7 * DAY)
    shop.write([replace(late, kind="purchase", event_id=f"late-{n}") for n in range(5)])
    shop.ask(shop.users[0])
    wait_for(shop, 2)
    first, second = read_served(shop.home / PARITY_FOLDER)
    assert second.num_events == first.num_events + 5
    assert shop.check().differences == {}


def test_a_state_that_no_event_explains_is_found(shop: Shop) -> None:
    """The store is told something that the log was not: the features of it are named."""
    user = shop.users[0]
    secret = replace(shop.event(random.Random(5)), user=user, kind="purchase", item=item_id(0))
    apply([secret], shop.store)
    shop.ask(user)
    wait_for(shop, 1)
    differences = shop.check().differences
    assert differences["count_log"] >= 1
    assert differences["baskets_log"] >= 1
    assert not any(name.startswith("buyers") for name in differences)


def test_the_command_prints_which_and_fails(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop_for_a_while(shop, 5)
    wait_for(shop, 5)
    words = ["parity", "--home", str(shop.home)]
    assert main(words) == 0
    apply([replace(shop.event(random.Random(5)), kind="purchase")], shop.store)
    for user in shop.users:
        shop.ask(user)
    wait_for(shop, 15)
    assert main(words) == 5
    assert "count_log: " in capsys.readouterr().out


def test_nothing_noted_is_an_error(learned: Path) -> None:
    with pytest.raises(ParityError, match="AISLE_PARITY_SAMPLE"):
        check(learned, learned / "tables", learned / "event_log", [])


def test_no_share_notes_nothing(tmp_path: Path) -> None:
    with sampling(tmp_path, 0, 0.0, Clock().read) as watch:
        assert watch is None
    assert not (tmp_path / PARITY_FOLDER).exists()


def test_a_record_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    served = Served({}, 1, 2, 3, "v", np.arange(3, dtype=np.int32), np.ones((3, 4), np.float32))
    for _ in range(2):
        with closing(ServedLog(tmp_path, 0)) as log:
            log.keep(served)
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes() + served.encode()[:-5])
        (*_, last) = read_served(tmp_path)
        np.testing.assert_array_equal(last.features, served.features)
    assert len(list(read_served(tmp_path))) == 2


def test_who_is_erased_leaves_the_noted_answers(shop: Shop) -> None:
    for user in shop.users[:3]:
        shop.ask(user)
    wait_for(shop, 3)
    erased = bytes.fromhex(shop.users[1])
    folder = shop.home / PARITY_FOLDER
    assert forget(folder, lambda user: user == erased) == 1
    shop.ask(shop.users[4])  # the server's file is still the one it writes to
    wait_for(shop, 3)
    left = [served.request["user"] for served in read_served(folder)]
    assert left == [shop.users[0], shop.users[2], shop.users[4]]
    assert shop.users[1].encode() not in (folder / "worker-000.served").read_bytes()
