"""What the server has taken in and no table holds yet, read from its spools while it runs.

An event is in its spool before it is in any state, so who reads the spools while holding the
states misses nothing that is in them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from feature_store.event_log import EventLog, spool_workers
from feature_store.events import Source
from feature_store.features import EventBatch
from feature_store.schema import MERGES
from offline.arrivals import SCHEMA, arrivals_of
from offline.by_user import OWNER, Rows, batch_of, rows_of
from offline.ingest.tables import scan_table
from offline.logged import event_table


@dataclass(frozen=True, slots=True)
class Merges:
    """Who became whom, pseudonyms in hexadecimal; a target is nobody's source."""

    users: Mapping[str, str]
    sessions: Mapping[str, str]

    def owner(self) -> pl.Expr:
        """The user whose state an event changes, null for a session that is nobody's."""
        user, session = pl.col("user"), pl.col("session")
        if self.users:
            user = user.replace(self.users)
        if self.sessions:
            merged = session.replace_strict(self.sessions, default=None, return_dtype=pl.String)
            user = pl.coalesce(user, merged)
        return user.alias(OWNER)


class Tail:
    """The events of the spools that the tables may lack, by user; it grows with the spools."""

    def __init__(self, logs: Sequence[EventLog], merges: Merges) -> None:
        """Begin after what the tables hold for sure."""
        self._logs = logs
        self.merges = merges
        self._places = [log.compacted_sequence for log in logs]
        self._later: dict[bytes, list[Rows]] = {}

    @property
    def places(self) -> tuple[int, ...]:
        """Up to where each spool was read."""
        return tuple(self._places)

    def go_to(self, places: Sequence[int]) -> None:
        """Begin after these places instead; spools that are newer than them begin where they do."""
        self._places[: len(places)] = places

    def rows(self) -> Iterator[Rows]:
        """What nobody has asked for yet, in batches."""
        for number, log in enumerate(self._logs):
            while logged := log.read(self._places[number]):
                self._places[number] = logged[-1].sequence
                events = event_table([one.event for one in logged])
                yield rows_of(with_owner(events.lazy(), self.merges).collect())

    def arrivals(self) -> pl.DataFrame:
        """Keys and arrivals (microseconds UTC) of all that the spools hold."""
        parts = [pl.DataFrame(schema=SCHEMA)]
        for log in self._logs:
            place = 0
            while logged := log.read(place):
                place = logged[-1].sequence
                parts.append(arrivals_of(logged))
        return pl.concat(parts)

    def of(self, users: Sequence[bytes]) -> EventBatch | None:
        """What came after `rows` was read, of these users; None for nothing."""
        for rows in self.rows():
            for number, row in enumerate(rows["owner"]):
                self._later.setdefault(row.tobytes(), []).append(rows[number : number + 1])
        found = [self._later.get(user, []) for user in users]
        owner = np.repeat(np.arange(len(users)), [len(some) for some in found])
        if not len(owner):
            return None
        return batch_of(np.concatenate([row for some in found for row in some]), owner)


@contextmanager
def open_tail(event_log: Path, tables: Path) -> Iterator[Tail]:
    """The tail of all spools in a folder."""
    with ExitStack() as stack:
        logs = [
            stack.enter_context(closing(EventLog(event_log, worker)))
            for worker in spool_workers(event_log)
        ]
        yield Tail(logs, read_merges(tables, logs))


def read_merges(tables: Path, logs: Sequence[EventLog] = ()) -> Merges:
    """The merges that the tables hold and those that are still in the spools."""
    stored = scan_table(tables, MERGES, optional=True).select("kind", "source", "target")
    pairs: dict[str, dict[str, str]] = {Source.USER: {}, Source.SESSION: {}}
    for kind, source, target in stored.collect().iter_rows():
        pairs[kind][source] = target
    for log in logs:
        place = 0
        while logged := log.read_merges(place):
            place = logged[-1].sequence
            for one in logged:
                pairs[one.merge.kind][one.merge.source] = one.merge.target
    users = pairs[Source.USER]
    users = {source: _last(users, target) for source, target in users.items()}
    return Merges(users, {s: users.get(t, t) for s, t in pairs[Source.SESSION].items()})


def with_owner(events: pl.LazyFrame, merges: Merges) -> pl.LazyFrame:
    """The events that change a user's state, with the user in the column `owner`."""
    return events.with_columns(merges.owner()).filter(pl.col(OWNER).is_not_null())


def _last(users: Mapping[str, str], user: str) -> str:
    """Who a user is by now."""
    while user in users:
        user = users[user]
    return user
