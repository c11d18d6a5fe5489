"""The demo shop in small: two products of each of its categories, and its real content."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import open_bundle
from feature_store.events import Event, with_event_id
from feature_store.ids import Pseudonymizer
from feature_store.language.encoder import embedded_encoder
from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY, PRODUCTS, EventKind
from feature_store.store import MemoryStore
from offline.adapters.complete_journey import complete_journey_sources
from offline.build import build_bundle
from offline.content.tuning import demo_content
from offline.dataset import Dataset, Purchases
from offline.ingest.tables import polars_schema
from offline.progress import QUIET
from offline.recipe import AlsConfig, Recipe
from online.engine import Engine
from online.feedback.changes import apply
from online.snapshot import open_snapshot
from tests.worlds import KEY

HORIZON: Final = 1_509_494_400_000_000  # 2017-11-01
NUM_USERS: Final = 120
USUAL: Final = 12
"""How many purchases a user makes in the category of theirs, and elsewhere."""


@dataclass(frozen=True)
class Shelves:
    """An engine over the small shop; `favourite` is the category path each user buys most from."""

    engine: Engine
    items: pl.DataFrame
    favourite: tuple[str, ...]

    def path(self, item: str) -> str:
        row = self.items.filter(pl.col("item") == item)
        return str(row["category"][0])


def user_of(number: int) -> bytes:
    return Pseudonymizer(KEY).digest(f"household {number}")


def build_shelves(folder: Path) -> Shelves:
    """Learn the small shop: each user buys half of the time in one category."""
    items = two_of_each()
    groups = items["group"].to_list()
    names = sorted(set(groups))
    dice = np.random.default_rng(5)
    favourite = [names[int(dice.integers(len(names)))] for _ in range(NUM_USERS)]
    bought = list(_purchases(groups, favourite, dice))
    bought.sort(key=lambda one: one[2])
    columns = PRODUCTS.names
    dataset = Dataset(
        users=tuple(user_of(number).hex() for number in range(NUM_USERS)),
        items=items.select(columns),
        purchases=Purchases(
            user=np.array([one[0] for one in bought], np.int32),
            item=np.array([one[1] for one in bought], np.int32),
            time=np.array([one[2] for one in bought], np.int64),
            price=np.ones(len(bought), np.float32),
        ),
        horizon_time=HORIZON,
        content=demo_content(),
    )
    recipe = Recipe("shelves", als=AlsConfig(num_factors=4))
    role = bundle_pb2.ROLE_REFIT
    encoder = embedded_encoder()
    bundle = build_bundle(dataset, recipe, folder, role, "cpu", QUIET, encoder=encoder)
    store = MemoryStore()
    ids = items["item"].to_list()
    apply(
        [
            with_event_id(
                Event(
                    event_id="",
                    event_time=time,
                    user=user_of(user).hex(),
                    kind=EventKind.PURCHASE,
                    item=ids[item],
                    price=1.0,
                )
            )
            for user, item, time in bought
        ],
        store,
    )
    engine = Engine(store, open_snapshot(open_bundle(bundle.directory)))
    return Shelves(engine, items, tuple(favourite))


def two_of_each() -> pl.DataFrame:
    """Two products of each category (the second level) of the demo shop, sorted by id."""
    source = complete_journey_sources()["products"][0]
    products = source.frame.with_columns(pl.col("item").cast(pl.String)).collect()
    levels = pl.col("category").str.split(CATEGORY_SEPARATOR)
    grouped = products.with_columns(group=levels.list.head(2).list.join(CATEGORY_SEPARATOR))
    few = grouped.filter(pl.col("category").is_not_null()).group_by("group", maintain_order=True)
    chosen = few.head(2).sort("item")
    schema = polars_schema(PRODUCTS)
    missing = [name for name in PRODUCTS.names if name not in chosen.columns]
    empty = [pl.lit(None, schema[name]).alias(name) for name in missing]
    return chosen.with_columns(empty).with_columns(available=pl.lit(True), price=pl.lit(1.0))


def _purchases(
    groups: list[str], favourite: list[str], dice: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    places = {group: [n for n, one in enumerate(groups) if one == group] for group in set(groups)}
    for user, group in enumerate(favourite):
        items = [*dice.choice(places[group], USUAL), *dice.integers(len(groups), size=USUAL)]
        for item in items:
            age_days = float(dice.random()) * 60 + 1
            yield user, int(item), HORIZON - int(age_days * MICROSECONDS_PER_DAY)
