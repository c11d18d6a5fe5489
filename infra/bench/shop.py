"""A synthetic shop of a given size as the server finds it: a bundle, its pointer, a filled store.

All of it is made by the code that makes the real thing: `offline.build` learns from the
simulated purchases, `feature_store.features.update` makes the states. A shop is kept in a
folder named after its size and the code that made it, so that it is made once.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle
from feature_store.features import EventBatch, update
from feature_store.ids import Pseudonymizer, hash64_many, load_key
from feature_store.pointer import CHAMPION, Pointer, serving_folder, write_pointer
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY, EventKind
from feature_store.state import EMPTY, state_key
from feature_store.store import open_store
from infra.bench.catalogue import Catalogue, draw_catalogue, item_ids, product_table
from infra.bench.simulation import History, simulate
from offline.build import build_bundle
from offline.dataset import Dataset, Purchases
from offline.progress import Progress
from offline.recipe import AlsConfig, DataConfig, Recipe

logger = logging.getLogger(__name__)

ROOT: Final = Path(__file__).parents[2]
START_TIME: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
NUM_DAYS: Final = 365
HORIZON_TIME: Final = START_TIME + NUM_DAYS * MICROSECONDS_PER_DAY
USERS_PER_UPDATE: Final = 2_000
SHARE_VISITING: Final = 0.5
VIEWS_PER_VISIT: Final = 5
SHOWN_PER_VISIT: Final = 20
DESCRIPTION: Final = "shop.json"
MADE_BY: Final = (
    "infra/bench/catalogue.py",
    "infra/bench/simulation.py",
    "infra/bench/shop.py",
    "feature_store/bundle.py",
    "feature_store/features.py",
    "feature_store/state.py",
    "offline/build.py",
    "offline/dataset.py",
    "offline/index.py",
    "offline/recipe.py",
    "offline/models/*.py",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a shop is, and the seed it is drawn from."""

    num_items: int = 1_000_000
    num_users: int = 200_000
    num_iterations: int = 5
    seed: int = 7

    def recipe(self) -> Recipe:
        """What is learned of it: ALS with 64 factors, few rounds."""
        als = AlsConfig(num_factors=64, num_iterations=self.num_iterations)
        return Recipe("bench", seed=self.seed, data=DataConfig(min_users_per_item=0), als=als)


@dataclass(frozen=True, slots=True)
class Shop:
    """A home with a bundle and a store, and how many users it has: `user_id(0)` and so on."""

    home: Path
    bundle: Path
    num_items: int
    num_users: int


def user_id(number: int) -> str:
    """The shop's id of a user."""
    return f"u{number:07d}"


def open_shop(size: Size, parent: Path, progress: Progress) -> Shop:
    """The shop of this size below `parent`, made now unless it is there already."""
    home = parent / f"{size.num_items}x{size.num_users}-{fingerprint(size)}"
    if not (home / DESCRIPTION).exists():
        draft = home.with_name(f".draft-{home.name}-{os.getpid()}")
        try:
            _make(size, draft, progress)
            draft.rename(home)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return read_shop(home)


def read_shop(home: Path) -> Shop:
    """The shop that was made in this folder before."""
    fields = json.loads((home / DESCRIPTION).read_text())
    bundle = serving_folder(home) / fields["bundle_id"]
    return Shop(home, bundle, fields["num_items"], fields["num_users"])


def fingerprint(size: Size) -> str:
    """Names the size and the code that makes a shop of it."""
    digest = hashlib.sha256(json.dumps(asdict(size)).encode())
    for pattern in MADE_BY:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def point_to(shop: Shop, bundle: Path, version: int = 1) -> None:
    """Make this bundle the champion."""
    write_pointer(shop.home, Pointer(CHAMPION, version, bundle.name, bundle))


def _make(size: Size, home: Path, progress: Progress) -> None:
    """Draw, learn and fill a whole shop into a new folder."""
    rng = np.random.default_rng(size.seed)
    seconds: dict[str, float] = {}
    started = perf_counter()

    def done(step: str) -> None:
        nonlocal started
        seconds[step] = round(perf_counter() - started, 1)
        logger.info("%s: %.1f s", step, seconds[step])
        started = perf_counter()

    catalogue = draw_catalogue(size.num_items, NUM_DAYS, rng)
    history = simulate(catalogue, size.num_users, START_TIME, NUM_DAYS, rng)
    done("simulated")
    key = Pseudonymizer(load_key(home))
    users = [key.digest(user_id(number)) for number in range(size.num_users)]
    _fill_store(home, users, history, catalogue, progress, rng)
    done("stored")
    dataset = _dataset(users, history, catalogue, rng)
    folder = serving_folder(home)
    bundle = build_bundle(dataset, size.recipe(), folder, bundle_pb2.ROLE_REFIT, "auto", progress)
    done("learned")
    _describe(home, bundle, size, len(history), seconds)


def _describe(
    home: Path, bundle: Bundle, size: Size, num_purchases: int, seconds: dict[str, float]
) -> None:
    """The pointer and, last of all, the description that says that the shop is whole."""
    write_pointer(home, Pointer(CHAMPION, 1, bundle.bundle_id, bundle.directory))
    facts = {"bundle_id": bundle.bundle_id, "num_purchases": num_purchases, "seconds": seconds}
    (home / DESCRIPTION).write_text(json.dumps({**asdict(size), **facts}, indent=2))


def _dataset(
    users: list[bytes], history: History, catalogue: Catalogue, rng: np.random.Generator
) -> Dataset:
    """What training reads: all purchases in the order of time."""
    order = np.argsort(history.time, kind="stable")
    item = history.item[order]
    return Dataset(
        users=tuple(user.hex() for user in users),
        items=product_table(catalogue, START_TIME, rng),
        purchases=Purchases(history.user[order], item, history.time[order], catalogue.price[item]),
        horizon_time=HORIZON_TIME,
    )


def _fill_store(
    home: Path,
    users: list[bytes],
    history: History,
    catalogue: Catalogue,
    progress: Progress,
    rng: np.random.Generator,
) -> None:
    """Every user's state, made of the purchases and of the visit that half of them are on."""
    keys = hash64_many(item_ids(len(catalogue)))
    store = open_store(f"lmdb:{home / 'store'}")
    try:
        with progress.task("User states", len(users)) as advance:
            for first, batch in _batches(len(users), history, catalogue, keys, rng):
                some = users[first : first + USERS_PER_UPDATE]
                states = update([EMPTY] * len(some), batch)
                store.put_many(
                    (state_key(user), state.encode())
                    for user, state in zip(some, states, strict=True)
                )
                advance(len(some))
    finally:
        store.close()


def _batches(
    num_users: int,
    history: History,
    catalogue: Catalogue,
    keys: NDArray[np.uint64],
    rng: np.random.Generator,
) -> Iterator[tuple[int, EventBatch]]:
    """The first user and the events of each group of users."""
    for first in range(0, num_users, USERS_PER_UPDATE):
        num_owners = min(USERS_PER_UPDATE, num_users - first)
        start, end = np.searchsorted(history.user, (first, first + num_owners))
        rows = slice(int(start), int(end))
        owner = history.user[rows].astype(np.int64) - first
        bought = _events(
            owner, history.item[rows], history.time[rows], EventKind.PURCHASE, catalogue, keys, rng
        )
        basket = history.visit[rows].astype(np.uint64) + np.uint64(1)
        bought.basket[:] = basket
        parts = [bought, *_visit(owner, history.item[rows], num_owners, catalogue, keys, rng)]
        yield (
            first,
            EventBatch(
                *(
                    np.concatenate([getattr(part, name) for part in parts])
                    for name in EventBatch.__dataclass_fields__
                )
            ),
        )


def _visit(
    owner: NDArray[np.int64],
    item: NDArray[np.int32],
    num_owners: int,
    catalogue: Catalogue,
    keys: NDArray[np.uint64],
    rng: np.random.Generator,
) -> Iterator[EventBatch]:
    """Views and impressions of the last hour, for the users who are on a visit at the horizon.

    Half of the views are of an item bought before; the others, and the impressions, of any.
    """
    visiting = np.flatnonzero(rng.random(num_owners) < SHARE_VISITING)
    own = item[np.searchsorted(owner, visiting)]
    for kind, count in ((EventKind.VIEW, VIEWS_PER_VISIT), (EventKind.IMPRESSION, SHOWN_PER_VISIT)):
        who = np.repeat(visiting, count)
        cells = np.repeat([[0], [len(catalogue.cell_ends) - 1]], len(who), axis=1)
        seen = catalogue.draw(cells[0], cells[1], rng)
        if kind is EventKind.VIEW:
            seen = np.where(rng.random(len(who)) < 0.5, np.repeat(own, count), seen)
        time = HORIZON_TIME - rng.integers(60, 3_600, len(who)) * 1_000_000
        yield _events(who, seen, time, kind, catalogue, keys, rng)


def _events(
    owner: NDArray[np.int64],
    item: NDArray[np.int32],
    time: NDArray[np.int64],
    kind: EventKind,
    catalogue: Catalogue,
    keys: NDArray[np.uint64],
    rng: np.random.Generator,
) -> EventBatch:
    """Events of one kind, each with a key of its own."""
    size = len(owner)
    return EventBatch(
        owner=owner,
        time=time,
        event=rng.integers(1, 2**63, size, dtype=np.uint64),
        item=keys[item],
        kind=np.full(size, EVENT_KIND_CODE[kind], np.int16),
        corpus=np.zeros(size, np.int16),
        quantity=np.ones(size, np.float32),
        price=catalogue.price[item],
        basket=np.zeros(size, np.uint64),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose a shop."""
    parser.add_argument("--items", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--users", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument(
        "--shops", type=Path, default=Path("var/bench"), help="where shops are kept (%(default)s)"
    )
    parser.add_argument("--shop", type=Path, help="use the shop that was made in this folder")


def from_arguments(args: argparse.Namespace) -> Shop:
    """The shop that the command line names."""
    if args.shop is not None:
        return read_shop(args.shop)
    return open_shop(Size(args.items, args.users), args.shops, Progress())
