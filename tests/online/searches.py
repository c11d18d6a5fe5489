"""A shop of five shelves with vectors of its texts, for tests of searches."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from aisle.bundle.v1 import bundle_pb2
from feature_store.ids import Pseudonymizer
from feature_store.language.encoder import embedded_encoder
from feature_store.schema import MICROSECONDS_PER_DAY, PRODUCTS
from offline.build import build_bundle
from offline.dataset import Dataset, Purchases
from offline.progress import QUIET
from offline.recipe import AlsConfig, Recipe
from online.offering.rules import Rule
from online.search.meaning import SearchMeaning, WaitingEncoder
from online.snapshot import Snapshot
from online.types import Request, Slate, SlateItem
from tests.worlds import HORIZON_TIME, KEY

SHELVES = {
    "Dairy > Cheese": ("Cheddar", "Cream spread", "Aged gouda", "Mozzarella", "Swiss slices"),
    "Dairy > Milk": ("Whole milk", "Skim milk", "Chocolate milk", "Oat drink", "Buttermilk"),
    "Snacks > Candy": ("Milk chocolate bar", "Gummy bears", "Chocolate bar", "Mints", "Toffee"),
    "Care > Hair": ("Shampoo", "Hair conditioner", "Hair spray", "Hair gel", "Dry shampoo"),
    "Home > Tools": ("Claw hammer", "Cordless drill", "Wood screws", "Pliers", "Hand saw"),
}
TITLES = [title for titles in SHELVES.values() for title in titles]
PATHS = [path for path, titles in SHELVES.items() for _ in titles]
PSEUDONYMS = Pseudonymizer(KEY)
NUM_USERS = 30


def purchases() -> list[tuple[int, int, int]]:
    """User, item and time: user n buys from shelf n modulo five, from first to last less often."""
    rng = np.random.default_rng(5)
    days = 30 * MICROSECONDS_PER_DAY
    rows = [
        (user, 5 * (user % 5) + int(item), HORIZON_TIME - days + int(rng.random() * days))
        for user in range(NUM_USERS)
        for item in rng.choice(5, 6, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    ]
    return sorted(rows, key=lambda row: row[2])


def learn(folder: Path, *, reads: bool = True, rules: Sequence[Rule] = ()) -> Path:
    rows = [
        {"item": f"{n:02}", "title": title, "category": path, "available": True}
        for n, (title, path) in enumerate(zip(TITLES, PATHS, strict=True))
    ]
    items = pl.DataFrame(rows).with_columns(
        pl.lit(None).alias(name) for name in PRODUCTS.names if name not in rows[0]
    )
    user, item, time = (np.array(column) for column in zip(*purchases(), strict=True))
    bought = Purchases(
        user.astype(np.int32), item.astype(np.int32), time, np.ones(len(time), np.float32)
    )
    users = tuple(PSEUDONYMS.hexdigest(f"u{n}") for n in range(NUM_USERS))
    dataset = Dataset(users, items, bought, HORIZON_TIME)
    recipe, role = Recipe("shelves", als=AlsConfig(num_factors=3)), bundle_pb2.ROLE_REFIT
    encoder = embedded_encoder() if reads else None
    built = build_bundle(dataset, recipe, folder, role, "cpu", QUIET, rules=rules, encoder=encoder)
    return built.directory


def ready() -> WaitingEncoder:
    return WaitingEncoder(embedded_encoder(), is_ready=True)


def with_meaning(snapshot: Snapshot, change: Callable[[SearchMeaning], SearchMeaning]) -> Snapshot:
    search = snapshot.product_search
    assert search is not None
    assert isinstance(search.meaning, SearchMeaning)
    return replace(snapshot, product_search=replace(search, meaning=change(search.meaning)))


def request(query: str, user: int | None = None, **fields: Any) -> Request:
    who = b"" if user is None else PSEUDONYMS.digest(f"u{user}")
    everything = {"placement": "search_empty", "page_size": 10, **fields}
    return Request(request_time=HORIZON_TIME, user=who, query=query, **everything)


def paths(slate: Slate) -> list[str]:
    return [PATHS[int(item.item)] for item in slate.items]


def titles(slate: Slate) -> list[str]:
    return [TITLES[int(item.item)] for item in slate.items]


def told(item: SlateItem) -> bool:
    """Whether the reason speaks of a search."""
    return item.reason.code == "for_search" or "unmatched_query" in item.reason.parameters
