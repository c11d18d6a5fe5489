"""From canonical tables to arrays: what the trainers read.

Polars stops here. Trainers see integer indexes and NumPy arrays only, and nothing in a
dataset is later than its horizon.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from feature_store.state import HALF_LIVES_DAYS
from offline.catalog_changes import taken_in
from offline.content.dataset import ContentData, load_content
from offline.coupons.dataset import CouponData, load_coupons
from offline.errors import TrainingDataError
from offline.ingest.tables import instant, scan_events, scan_products, scan_promotions
from offline.models.sessions import NO_SESSIONS, Sessions
from offline.people import scan_user_events
from offline.recipe import DataConfig
from offline.visits import load_visits


@dataclass(frozen=True, slots=True)
class Purchases:
    """Purchases as columns of one length, sorted by time.

    `user` and `item` are indexes into `Dataset.users` and `Dataset.items`.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    price: NDArray[np.float32]

    def __len__(self) -> int:
        """The number of purchases."""
        return len(self.time)

    def between(self, start_time: int, end_time: int) -> "Purchases":
        """Those with start_time <= time < end_time."""
        rows = slice(*np.searchsorted(self.time, (start_time, end_time)))
        return Purchases(self.user[rows], self.item[rows], self.time[rows], self.price[rows])


@dataclass(frozen=True, slots=True)
class Promotions:
    """Promotions as columns of one length; `item` is an index, instants are microseconds UTC."""

    item: NDArray[np.int32]
    start_time: NDArray[np.int64]
    end_time: NDArray[np.int64]
    strength: NDArray[np.float32]


NO_PROMOTIONS: Final = Promotions(
    np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """All that a training run may know: purchases before `horizon_time` and the items.

    `users` are pseudonyms in hexadecimal; `items` is the canonical product table, one row an
    item, sorted by id, so that a row's number is the item's index. `taken_in` is the newest change
    of the catalogue's log that they have. `visits` are what was looked at one after the other.
    """

    users: tuple[str, ...]
    items: pl.DataFrame
    purchases: Purchases
    horizon_time: int
    promotions: Promotions = NO_PROMOTIONS
    coupons: CouponData = field(default_factory=CouponData)
    content: ContentData = field(default_factory=ContentData)
    taken_in: int = 0
    visits: Sessions = NO_SESSIONS

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.items)

    def profiles(self, half_life: int) -> sparse.csr_matrix:
        """log(1 + decayed purchases at the horizon), shape (users, items), float32.

        `half_life` is a position in HALF_LIVES_DAYS.
        """
        age_days = (self.horizon_time - self.purchases.time) / MICROSECONDS_PER_DAY
        weight = np.exp2(-age_days / HALF_LIVES_DAYS[half_life])
        place = (self.purchases.user, self.purchases.item)
        matrix = sparse.csr_matrix((weight, place), shape=(len(self.users), self.num_items))
        matrix.data = np.log1p(matrix.data).astype(np.float32)
        return matrix.astype(np.float32)


def load_dataset(tables: Path, config: DataConfig, horizon_time: int) -> Dataset:
    """Read what happened before `horizon_time` (microseconds UTC).

    Raises TrainingDataError when nothing is left to learn from.
    """
    events = purchases_before(tables, config, horizon_time)
    enough = events.group_by("item").agg(pl.col("user").n_unique().alias("num_users"))
    enough = enough.filter(pl.col("num_users") >= config.min_users_per_item)
    items = scan_products(tables).join(enough.lazy(), on="item", how="semi").sort("item").collect()
    if not len(items):
        raise TrainingDataError(
            f"no item has purchases by {config.min_users_per_item} users before the horizon; "
            "ingest more data or lower min_users_per_item in the recipe"
        )
    events = events.join(items.select("item").with_row_index("item_index"), on="item")
    users = events.select(pl.col("user").unique().sort())
    events = events.join(users.with_row_index("user_index"), on="user").sort("event_time")
    return Dataset(
        users=tuple(users["user"].to_list()),
        items=items,
        purchases=Purchases(
            user=events["user_index"].to_numpy().astype(np.int32),
            item=events["item_index"].to_numpy().astype(np.int32),
            time=events["event_time"].dt.epoch("us").to_numpy(),
            price=events["price"].to_numpy().astype(np.float32),
        ),
        horizon_time=horizon_time,
        promotions=_promotions(tables, items, horizon_time),
        coupons=load_coupons(tables, horizon_time),
        content=load_content(tables, horizon_time),
        taken_in=taken_in(tables),
        visits=load_visits(tables, items, horizon_time, config.num_visit_days),
    )


def _promotions(tables: Path, items: pl.DataFrame, horizon_time: int) -> Promotions:
    """The promotions that were announced and had begun before the horizon."""
    rows = (
        scan_promotions(tables)
        .filter(
            pl.col("start_time") <= instant(horizon_time),
            pl.col("known_time").fill_null(pl.col("start_time")) <= instant(horizon_time),
        )
        .join(items.select("item").with_row_index("index").lazy(), on="item")
        .select("index", "start_time", "end_time", pl.col("strength").fill_null(1.0))
        .collect()
    )
    return Promotions(
        item=rows["index"].to_numpy().astype(np.int32),
        start_time=rows["start_time"].dt.epoch("us").to_numpy(),
        end_time=rows["end_time"].dt.epoch("us").to_numpy(),
        strength=rows["strength"].to_numpy().astype(np.float32),
    )


def purchases_before(tables: Path, config: DataConfig, horizon_time: int) -> pl.DataFrame:
    """Purchases of known users before the horizon, departments of the recipe left out."""
    return scan_purchases(tables, config, None, horizon_time).collect()


def scan_purchases(
    tables: Path, config: DataConfig, start_time: int | None, end_time: int | None
) -> pl.LazyFrame:
    """Purchases of known users with columns user, item, event_time, price.

    From `start_time` up to but not including `end_time`; None: open.
    """
    department = pl.col("category").fill_null("").str.split(" > ").list.first()
    products = scan_products(tables).filter(~department.is_in(config.exclude_departments))
    return (
        scan_user_events(tables, start_time, end_time)
        .filter(pl.col("kind") == EventKind.PURCHASE.value)
        .select("user", "item", "event_time", "price")
        .join(products.select("item"), on="item", how="semi")
    )


def time_span(tables: Path) -> tuple[int, int]:
    """The instants of the first event and just after the last, microseconds UTC."""
    time = pl.col("event_time").dt.epoch("us")
    span = scan_events(tables).select(time.min().alias("first"), time.max().alias("last")).collect()
    first, last = span.row(0)
    if first is None:
        raise TrainingDataError(f"{tables} holds no events; run `python -m offline ingest` first")
    return int(first), int(last) + 1
