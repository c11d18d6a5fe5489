"""What the shop changed of its products while the server ran: into the table of products.

So the next training learns from products as they are now. The table remembers the newest change
that it has, and a bundle that is trained on it says so: the server then shows only what was
changed since. Folding twice does no harm. What was deleted stays in the table as not available,
since what people bought of it still says something of them.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from feature_store.bundle import open_bundle
from feature_store.catalog_log import TAKEN_IN_FILE, CatalogLog, LoggedChange, open_catalog_log
from feature_store.durable import flush, replace_file
from feature_store.errors import BundleError
from feature_store.pointer import read_pointer
from feature_store.schema import MICROSECONDS_PER_DAY, PRODUCTS
from feature_store.store import OnlineStore, open_store
from offline.home import Home
from offline.ingest.job import staging
from offline.ingest.tables import polars_schema, scan_products, table_path

KEEP_DAYS: Final = 30
"""How long a bundle of before can serve again and know what was changed after it was trained."""

SHARED: Final = ("redis", "rediss", "unix")


def fold_catalog(home: Home, tables: Path) -> int:
    """Fold what the log of an installation holds into the products; how many were changed.

    Deletes from the log what the bundle that serves has taken in more than KEEP_DAYS ago. Raises
    CatalogLogError or StoreError when the log cannot be read, TablesInUseError while an ingestion
    runs.
    """
    is_shared = home.store.partition(":")[0] in SHARED
    store = open_store(home.store if is_shared else "memory:")
    log = changes_of(home, store)
    try:
        num_changed = fold_changes(tables, log)
        _trim(home, log)
    finally:
        log.close()
        store.close()
    return num_changed


def changes_of(home: Home, store: OnlineStore) -> CatalogLog:
    """The catalogue's log of an installation, `store` being its online store, to be closed."""
    is_shared = home.store.partition(":")[0] in SHARED
    return open_catalog_log(home.path, store, is_shared=is_shared)


def fold_changes(tables: Path, log: CatalogLog) -> int:
    """Fold what is new in a log into the products of `tables`; how many were changed."""
    changes = log.since(taken_in(tables))
    if not changes or not table_path(tables, PRODUCTS).exists():
        return 0
    with staging(tables) as folder:
        stored = scan_products(tables).collect()
        draft = folder / f"{PRODUCTS.name}.parquet"
        with_changes(stored, changes).write_parquet(draft)
        flush(draft)
        draft.replace(table_path(tables, PRODUCTS))
        flush(tables)
    mark = {"sequence": changes[-1].sequence}
    replace_file(tables / TAKEN_IN_FILE, json.dumps(mark).encode())
    return len(changes)


def taken_in(tables: Path) -> int:
    """The newest change that the products have, 0 for none."""
    path = tables / TAKEN_IN_FILE
    return int(json.loads(path.read_text())["sequence"]) if path.exists() else 0


def with_changes(stored: pl.DataFrame, changes: Sequence[LoggedChange]) -> pl.DataFrame:
    """The products after the changes, each product once, sorted by item."""
    changed = [logged.item for logged in changes]
    before = stored.filter(pl.col("item").is_in(changed))
    kept = {row["item"]: row for row in _plain(before).iter_rows(named=True)}
    rows = [row for one in changes if (row := changed_row(one, kept.get(one.item))) is not None]
    given = _plain(stored.clear()).schema
    after = pl.DataFrame(rows, given, orient="row").cast(polars_schema(PRODUCTS))
    rest = stored.join(after.select("item"), on="item", how="anti")
    return pl.concat([rest, after.select(stored.columns)]).sort("item")


def changed_row(logged: LoggedChange, kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A row of the table after a change; None for a product that came and went between two folds.

    Instants are microseconds UTC.
    """
    change = logged.change
    if change.is_deleted:
        return None if kept is None else {**kept, "available": False}
    nothing = dict.fromkeys(PRODUCTS.names)
    base = nothing if kept is None or change.is_whole else kept
    fields = {name: value for name, value in change.fields.items() if name in nothing}
    row = {**nothing, **base, **fields, "item": logged.item}
    if change.fields.get("num_in_stock") == 0:
        row["available"] = False
    if row["created_time"] is None:
        row["created_time"] = logged.first_time if kept is None else kept["created_time"]
    return row


def _plain(products: pl.DataFrame) -> pl.DataFrame:
    """With instants as numbers."""
    return products.with_columns(pl.col("created_time").dt.epoch("us"))


def _trim(home: Home, log: CatalogLog) -> None:
    try:
        bundle = open_bundle(read_pointer(home.path).directory, verify=False)
    except BundleError:
        return  # nothing serves yet
    if TAKEN_IN_FILE not in bundle.manifest.files:
        return
    held = frozenset(bundle.strings("items/id").tolist())
    before_time = time.time_ns() // 1_000 - KEEP_DAYS * MICROSECONDS_PER_DAY
    log.trim(int(bundle.json(TAKEN_IN_FILE)["sequence"]), before_time, held.__contains__)
