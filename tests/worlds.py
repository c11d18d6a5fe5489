"""The tiny known world: a checkerboard shop, where even users like even items.

Everything is made by the code that makes the real thing: the bundle by the training build,
the states by the online store's own updates. What the right answer is, is known by the
parity of user and item alone.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from feature_store.events import Event, with_event_id
from feature_store.ids import Pseudonymizer
from feature_store.pointer import Pointer, serving_folder, write_pointer
from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from feature_store.store import OnlineStore, open_store
from online.feedback.changes import apply

if TYPE_CHECKING:
    from offline.coupons.dataset import CouponData
    from offline.recipe import TwoTowerSourceConfig

NUM_USERS: Final = 40
NUM_ITEMS: Final = 60
NUM_DAYS: Final = 56
KEY: Final = bytes(range(32))
START_TIME: Final = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
HORIZON_TIME: Final = START_TIME + NUM_DAYS * MICROSECONDS_PER_DAY

UNAVAILABLE: Final = "p58"
"""An even item that even users bought and that is not sold any more."""


def user_id(number: int) -> str:
    """The shop's id of a user."""
    return f"u{number:02}"


def item_id(number: int) -> str:
    """The shop's id of an item; in the order of the numbers."""
    return f"p{number:02}"


def is_even(item: str) -> bool:
    """Whether an item is one for even users."""
    return int(item[1:]) % 2 == 0


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase, `time` in microseconds UTC."""

    user: int
    item: int
    time: int


@dataclass(frozen=True, slots=True)
class World:
    """A home as the server finds it: a bundle with its pointer, and a filled store."""

    home: Path
    bundle: Path
    purchases: tuple[Purchase, ...]

    def copy(self, home: Path) -> "World":
        """The same world in a home of its own, so that a test may write into it."""
        shutil.copytree(self.home, home)
        return World(home, home / self.bundle.relative_to(self.home), self.purchases)

    def bought(self, user: int) -> set[str]:
        """What a user bought."""
        return {item_id(one.item) for one in self.purchases if one.user == user}

    @property
    def store_url(self) -> str:
        """The address of the store, as the server's default has it."""
        return f"lmdb:{self.home / 'store'}"


def build_world(
    home: Path,
    coupons: "CouponData | None" = None,
    two_tower: "TwoTowerSourceConfig | None" = None,
) -> World:
    """Learn the checkerboard and load the store; the same world each time.

    It sells without coupons and without the two-tower, if none are given.
    """
    purchases = draw_purchases()
    directory = _build_bundle(serving_folder(home), purchases, coupons, two_tower)
    pointer = Pointer("champion", 1, directory.name, directory)
    write_pointer(home, pointer)
    world = World(home, directory, purchases)
    store = open_store(world.store_url)
    fill_store(store, purchases)
    store.close()
    return world


def draw_purchases() -> tuple[Purchase, ...]:
    """Each user buys two favourites every week and ten other items once; sorted by time."""
    rng = np.random.default_rng(11)
    purchases = []
    for user in range(NUM_USERS):
        liked = np.arange(user % 2, NUM_ITEMS, 2)
        chosen = rng.choice(liked, 12, replace=False)
        for week in range(NUM_DAYS // 7):
            purchases += [(user, item, 7 * week + rng.random() * 7) for item in chosen[:2]]
        purchases += [(user, item, rng.random() * NUM_DAYS) for item in chosen[2:]]
    found = [
        Purchase(user, int(item), START_TIME + int(day * MICROSECONDS_PER_DAY))
        for user, item, day in purchases
    ]
    return tuple(sorted(found, key=lambda one: one.time))


def fill_store(store: OnlineStore, purchases: tuple[Purchase, ...]) -> None:
    """Write the states that the purchases leave."""
    pseudonyms = Pseudonymizer(KEY)
    apply([purchase_event(one, pseudonyms) for one in purchases], store)


def purchase_event(purchase: Purchase, pseudonyms: Pseudonymizer) -> Event:
    """A purchase as it is kept."""
    event = Event(
        event_id="",
        event_time=purchase.time,
        user=pseudonyms.hexdigest(user_id(purchase.user)),
        kind=EventKind.PURCHASE,
        item=item_id(purchase.item),
        price=price(purchase.item),
    )
    return with_event_id(event)


def price(item: int) -> float:
    """What an item costs."""
    return 1 + item / 4


def _build_bundle(
    bundles: Path,
    purchases: tuple[Purchase, ...],
    coupons: "CouponData | None" = None,
    two_tower: "TwoTowerSourceConfig | None" = None,
) -> Path:
    """The bundle as training builds it. The trainers are loaded here, not by who reads a world."""
    import polars as pl

    from aisle.bundle.v1 import bundle_pb2
    from feature_store.schema import PRODUCTS
    from offline.build import build_bundle
    from offline.coupons.dataset import CouponData
    from offline.dataset import Dataset, Purchases
    from offline.progress import QUIET
    from offline.recipe import AlsConfig, Recipe, TwoTowerSourceConfig

    rows = [_product(number) for number in range(NUM_ITEMS)]
    items = pl.DataFrame(rows).with_columns(
        pl.lit(None).alias(name) for name in PRODUCTS.names if name not in rows[0]
    )
    pseudonyms = Pseudonymizer(KEY)
    dataset = Dataset(
        users=tuple(pseudonyms.hexdigest(user_id(number)) for number in range(NUM_USERS)),
        items=items,
        purchases=Purchases(
            user=np.array([one.user for one in purchases], np.int32),
            item=np.array([one.item for one in purchases], np.int32),
            time=np.array([one.time for one in purchases], np.int64),
            price=np.array([price(one.item) for one in purchases], np.float32),
        ),
        horizon_time=HORIZON_TIME,
        coupons=coupons or CouponData(),
    )
    towers = two_tower or TwoTowerSourceConfig()
    recipe = Recipe("checkerboard", als=AlsConfig(num_factors=2), two_tower=towers)
    role = bundle_pb2.ROLE_REFIT
    return build_bundle(dataset, recipe, bundles, role, "cpu", QUIET).directory


def _product(number: int) -> dict[str, object]:
    parity = ("Even", "Odd")[number % 2]
    return {
        "item": item_id(number),
        "title": f"{parity} thing {number:02}",
        "category": f"{parity} > Aisle {number % 5}",
        "brand": f"Brand {number % 3}",
        "price": price(number),
        "image_url": f"https://shop.example/{item_id(number)}.png",
        "url": f"https://shop.example/{item_id(number)}",
        "available": item_id(number) != UNAVAILABLE,
        "tags": [tag for tag, every in (("fresh", 7), ("bulk", 4)) if number % every == 0],
        "region": [["north"], ["south"]][number % 6] if number % 6 < 2 else [],
    }
