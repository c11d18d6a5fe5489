"""Who and what a ranker is good for: recall of kinds of users and kinds of purchases.

Each segment keeps some of the held-out users and some of what each of them bought, and measures
the same slates on that, over the full catalogue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore
from offline.dataset import scan_purchases
from offline.evaluation.slates import ItemFacts
from offline.metrics import recall_at_k
from offline.recipe import DataConfig
from offline.replay import Heldout, K, owned_items, state_of
from online.snapshot import Snapshot

Floats = NDArray[np.float64]

NEW_DAYS: Final = 28
"""A user or an item is new for so many days from the first purchase."""
MAX_STRANGERS: Final = 500


@dataclass(frozen=True, slots=True)
class Segment:
    """Some purchases of some users: `relevant` has an entry a user, empty for who is not meant."""

    name: str
    about: str
    relevant: tuple[frozenset[int], ...]

    @property
    def num_users(self) -> int:
        """How many users have such purchases."""
        return sum(map(bool, self.relevant))

    @property
    def num_purchases(self) -> int:
        """How many pairs of user and item."""
        return sum(map(len, self.relevant))

    def recall(self, slates: Sequence[Sequence[int]]) -> Floats:
        """Recall@20 of slates, one a user, shape (users,), NaN for who is not meant."""
        return np.array(
            [
                recall_at_k(slate, relevant, K) if relevant else np.nan
                for slate, relevant in zip(slates, self.relevant, strict=True)
            ]
        )


def segments_of(
    snapshot: Snapshot, store: OnlineStore, heldout: Heldout, facts: ItemFacts
) -> tuple[Segment, ...]:
    """The segments of the held-out users and what they bought."""
    baskets, ages = _activity(store, heldout)
    light, heavy = np.quantile(baskets, (1 / 3, 2 / 3))
    young = facts.first_time >= heldout.cut_time - NEW_DAYS * MICROSECONDS_PER_DAY
    new_items = frozenset(np.flatnonzero(young).tolist())
    users: list[tuple[str, str, NDArray[np.bool_]]] = [
        ("new users", f"first bought in the {NEW_DAYS} days before", ages < NEW_DAYS),
        ("light buyers", f"at most {light:.0f} orders before", baskets <= light),
        ("middle", "between light and heavy", (baskets > light) & (baskets <= heavy)),
        ("heavy buyers", f"more than {heavy:.0f} orders before", baskets > heavy),
    ]
    items: list[tuple[str, str, Callable[[int], frozenset[int]]]] = [
        (
            "repeat purchases",
            "what the user had bought before",
            lambda row: heldout.relevant[row] - heldout.new[row],
        ),
        (
            "new purchases",
            "what the user had never bought, found in the same slate",
            lambda row: heldout.new[row],
        ),
        (
            "new items",
            f"first sold in the {NEW_DAYS} days before",
            lambda row: heldout.relevant[row] & new_items,
        ),
    ]
    rows = range(len(heldout.users))
    everybody = Segment("everybody", "all purchases of all known users", heldout.relevant)
    of_users = tuple(
        Segment(name, about, tuple(heldout.relevant[i] if who[i] else frozenset() for i in rows))
        for name, about, who in users
    )
    of_items = tuple(
        Segment(name, about, tuple(what(row) for row in rows)) for name, about, what in items
    )
    return (everybody, *of_users, *of_items)


def _activity(store: OnlineStore, heldout: Heldout) -> tuple[Floats, Floats]:
    """Of each user, the number of orders and the days since the first purchase."""
    baskets, ages = [], []
    for user in heldout.users:
        state = state_of(store, user)
        baskets.append(float(state.totals["num_baskets"][0]))
        first = state.items["first_time"][state.items["count"] > 0]
        ages.append((heldout.cut_time - int(first.min())) / MICROSECONDS_PER_DAY)
    return np.array(baskets), np.array(ages)


def strangers(
    tables: Path, config: DataConfig, snapshot: Snapshot, store: OnlineStore, heldout: Heldout
) -> tuple[Heldout, float]:
    """Users who had bought nothing that the bundle holds; and what share could not be found.

    At most MAX_STRANGERS, drawn by their pseudonyms, which are hashes. The share is that of all
    held-out purchases (pairs of user and item) whose item the bundle does not hold.
    """
    bought = (
        scan_purchases(tables, config, heldout.cut_time, None)
        .select("user", "item")
        .unique()
        .sort("user")
        .collect()
    )
    index = snapshot.catalog.indexes_of(bought["item"].to_list())
    missing = float((index < 0).mean()) if len(index) else 0.0
    known = set(heldout.users)
    groups: dict[bytes, set[int]] = {}
    for user, item in bought.with_columns(pl.Series("index", index)).select("user", "index").rows():
        if item >= 0 and bytes.fromhex(user) not in known:
            groups.setdefault(bytes.fromhex(user), set()).add(item)
    unknown = [user for user in sorted(groups) if not owned_items(snapshot, state_of(store, user))][
        :MAX_STRANGERS
    ]
    relevant = tuple(frozenset(groups[user]) for user in unknown)
    return replace(heldout, users=tuple(unknown), relevant=relevant, new=relevant), missing
