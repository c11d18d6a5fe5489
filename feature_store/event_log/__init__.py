"""The event log: what users did and were shown, on the disk before anybody is told so.

Each worker appends to a spool of its own, so that no worker waits for another; compaction
gathers the spools into the canonical tables. Whoever reads the log sees no storage engine.
"""

from feature_store.event_log.log import (
    ErasedRows,
    EventLog,
    LoggedEvent,
    LoggedExposure,
    LoggedMerge,
    Outcome,
    RefusedEvent,
    spool_workers,
)

__all__ = [
    "ErasedRows",
    "EventLog",
    "LoggedEvent",
    "LoggedExposure",
    "LoggedMerge",
    "Outcome",
    "RefusedEvent",
    "spool_workers",
]
