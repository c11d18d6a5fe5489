"""What visitors looked at one after the other: read from the events, and learned as transitions.

A visit is what one session, or a user without one, looked at without a long pause. Visits of
nobody known count too: they say what follows what, and nothing of anybody. It knows no purchases.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from scipy import sparse

from feature_store.bundle import BundleWriter
from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from offline.models.sessions import Ids, Sessions
from offline.models.transitions import TransitionConfig, fit_transitions
from offline.people import scan_allowed_events

NAME: Final = "transitions"
PAUSE_MICROSECONDS: Final = 30 * 60 * 1_000_000
"""After so long a new visit begins."""

MAX_CLICKS: Final = 5_000_000
"""The latest count."""

KINDS: Final = (EventKind.VIEW.value, EventKind.CLICK.value, EventKind.CART_ADD.value)


def load_visits(tables: Path, items: pl.DataFrame, horizon_time: int, num_days: int) -> Sessions:
    """Visits of the last days before the horizon (microseconds UTC), in which an item led on.

    Items are numbered as the rows of `items`; looking at one twice in a row is looking once.
    """
    rows = (
        scan_allowed_events(tables, horizon_time - num_days * MICROSECONDS_PER_DAY, horizon_time)
        .filter(pl.col("kind").is_in(KINDS))
        .join(items.select("item").with_row_index("index").lazy(), on="item")
        .select("index", who=pl.coalesce("session", "user"), time="event_time")
        .sort("time")
        .tail(MAX_CLICKS)
        .collect()
    )
    who = rows["who"].rank("dense").to_numpy().astype(np.int64)
    time = rows["time"].dt.epoch("us").to_numpy()
    return visits_of(who, rows["index"].to_numpy().astype(np.int64), time)


def visits_of(who: Ids, item: Ids, time: Ids) -> Sessions:
    """The visits of clicks (n,), sorted by time: the oldest first, by when they ended."""
    order = np.lexsort((np.arange(len(who)), who))
    who, item, time = who[order], item[order], time[order]
    begins = np.ones(len(who), bool)
    begins[1:] = (np.diff(who) != 0) | (np.diff(time) > PAUSE_MICROSECONDS)
    again = np.zeros(len(who), bool)
    again[1:] = ~begins[1:] & (np.diff(item) == 0)
    visit = np.cumsum(begins) - 1
    visit, item, time = visit[~again], item[~again], time[~again]
    lengths = np.bincount(visit)
    ended = time[np.cumsum(lengths) - 1] if len(visit) else time
    place = np.empty(len(lengths), np.int64)
    place[np.argsort(ended, kind="stable")] = np.arange(len(lengths))
    kept = np.flatnonzero(lengths[visit] > 1)
    kept = kept[np.argsort(place[visit[kept]], kind="stable")]
    sizes = lengths[np.argsort(place)]
    starts = np.concatenate(([0], np.cumsum(sizes[sizes > 1]))).astype(np.int64)
    return Sessions(item[kept], starts)


def write_transitions(
    writer: BundleWriter, visits: Sessions, num_items: int, num_neighbours: int
) -> None:
    """Fit and write what is looked at around each item, best first, but not the item itself.

    As `online.stages.neighbours` reads it; nothing where nobody's visits are known.
    """
    if not len(visits):
        return
    config = replace(TransitionConfig(), num_neighbours=num_neighbours)
    weights = fit_transitions(visits, num_items, config)
    weights = (weights - sparse.diags(weights.diagonal())).tocsr()
    row = np.repeat(np.arange(num_items), np.diff(weights.indptr))
    order = np.lexsort((weights.indices, -weights.data, row))
    writer.array(f"{NAME}/ends", weights.indptr[1:].astype(np.int64))
    writer.array(f"{NAME}/items", weights.indices[order].astype(np.int32))
    writer.array(f"{NAME}/scores", weights.data[order].astype(np.float32))
