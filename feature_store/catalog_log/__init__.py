"""The catalogue's log: what the shop changed of its products since the last training.

One row a product, its newest state, each with a sequence number that only grows. It is on the disk
before anybody is told so; all workers follow it, and the next training reads it. Whoever reads it
sees no storage engine.
"""

from feature_store.catalog_log.changes import (
    TAKEN_IN_FILE,
    Change,
    LoggedChange,
    Outcome,
    Reading,
)
from feature_store.catalog_log.seam import CatalogLog, open_catalog_log

__all__ = [
    "TAKEN_IN_FILE",
    "CatalogLog",
    "Change",
    "LoggedChange",
    "Outcome",
    "Reading",
    "open_catalog_log",
]
