"""A shop in memory for tests of the engine: its bundle, its rules and what its users did."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from feature_store.bundle import open_bundle
from feature_store.events import Event
from feature_store.ids import Pseudonymizer
from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from feature_store.store import MemoryStore
from online.engine import Engine
from online.feedback.changes import apply
from online.offering.rules import read_rules
from online.offering.shop import Shop
from online.placements import PLACEMENTS
from online.snapshot import Snapshot, open_snapshot
from online.types import Request, Slate
from tests.worlds import HORIZON_TIME, KEY, World, fill_store, user_id

MINUTE = MICROSECONDS_PER_DAY // 1_440


@dataclass
class TestShop:
    """An engine over a world, with an own store."""

    __test__ = False

    engine: Engine
    store: MemoryStore

    def ask(self, user: int | None = None, placement: str = "home", **fields: Any) -> Slate:
        return self.engine.recommend(request(user, placement, **fields))

    def show(self, slate: Slate, user: int, time: int, kind: str = EventKind.IMPRESSION) -> None:
        """Let the user have seen a slate."""
        apply(
            [
                Event(
                    event_id=f"{user}/{time}/{item.item}/{kind}",
                    event_time=time,
                    user=pseudonym(user).hex(),
                    kind=kind,
                    item=item.item,
                )
                for item in slate.items
            ],
            self.store,
        )


def request(user: int | None = None, placement: str = "home", **fields: Any) -> Request:
    who = b"" if user is None else pseudonym(user)
    return Request(**{"request_time": HORIZON_TIME, **fields, "placement": placement, "user": who})


def pseudonym(user: int) -> bytes:
    return Pseudonymizer(KEY).digest(user_id(user))


def open_shop(world: World, *rules: dict[str, Any], **placement: Any) -> TestShop:
    """The world's shop with these rules; `placement` changes the row of `home`."""
    snapshot = with_rules(open_snapshot(open_bundle(world.bundle)), *rules, **placement)
    store = MemoryStore()
    fill_store(store, world.purchases)
    return TestShop(Engine(store, snapshot), store)


def with_rules(snapshot: Snapshot, *rules: dict[str, Any], **placement: Any) -> Snapshot:
    rows = {**PLACEMENTS, "home": replace(PLACEMENTS["home"], **placement)}
    read = read_rules({"rules": list(rules)}, tuple(rows))
    shop = Shop(snapshot.catalog, snapshot.shop.attributes, rows, read)
    return replace(snapshot, shop=shop, placements=rows)


def items(slate: Slate) -> list[str]:
    return [item.item for item in slate.items]


def number(item: str) -> int:
    return int(item[1:])


def groups_of(slate: Slate, size: int) -> np.typing.NDArray[np.int64]:
    """How many items of each of `size` groups, the group being the item's number modulo it."""
    return np.bincount([number(item) % size for item in items(slate)], minlength=size)
