"""What users said of products in a period: likes, dislikes and "not interested".

The ranker learns from them beside purchases. It knows events and a bundle's items, no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.effects import FEEDBACK
from feature_store.schema import Corpus
from offline.people import scan_user_events
from online.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Reaction:
    """Of one user, the item indexes that were liked, and those that were refused."""

    liked: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()


NO_REACTION: Final = Reaction()


def load_reactions(
    tables: Path, snapshot: Snapshot, start_time: int, end_time: int
) -> Mapping[bytes, Reaction]:
    """Each user's last word on each item of the bundle, by pseudonym.

    Said from `start_time` up to but not including `end_time`, microseconds UTC.
    """
    verdict = pl.col("kind").replace_strict(
        {kind.value: sign for kind, sign in FEEDBACK.items()}, return_dtype=pl.Int8
    )
    rows = (
        scan_user_events(tables, start_time, end_time)
        .filter(
            pl.col("kind").is_in([kind.value for kind in FEEDBACK]),
            pl.col("corpus").fill_null(Corpus.PRODUCT.value) == Corpus.PRODUCT.value,
        )
        .sort("event_time", "event_id")
        .group_by("user", "item")
        .agg(verdict.last().alias("sign"))
        .sort("user", "item")
        .collect()
    )
    found: dict[bytes, dict[int, int]] = {}
    indexes = snapshot.catalog.indexes_of(rows["item"].to_list())
    for user, index, sign in zip(rows["user"], indexes.tolist(), rows["sign"], strict=True):
        if index >= 0:
            found.setdefault(bytes.fromhex(user), {})[index] = sign
    return {user: _reaction(signs) for user, signs in found.items()}


def _reaction(signs: Mapping[int, int]) -> Reaction:
    return Reaction(
        frozenset(item for item, sign in signs.items() if sign > 0),
        frozenset(item for item, sign in signs.items() if sign < 0),
    )
