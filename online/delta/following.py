"""The snapshot as of now: the bundle's, with every change that the catalogue's log holds.

Asked for each request, it compares one number in memory and does nothing more while that is the
same. When it is not, whoever asks first folds in what is new; so a change is in the very next
answer of every worker. It knows the log and snapshots, and no request.
"""

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final

from feature_store.bundle import open_bundle
from feature_store.catalog_log import CatalogLog, LoggedChange
from feature_store.errors import CatalogLogError, StoreError
from online.delta.growing import Growth, RoomFullError, taken_in
from online.offering.shop import Shop
from online.snapshot import Snapshot, open_snapshot

logger = logging.getLogger(__name__)

NUM_ROOM: Final = 16_384
"""For how many new products a bundle is opened with room; for more it is opened anew."""

RETRY_S: Final = 1.0
"""How long a log that cannot be read is left alone."""


class Following:
    """Follows a log. Any thread may ask."""

    def __init__(self, log: CatalogLog, watch: Callable[[Snapshot], Snapshot]) -> None:
        """`watch` is what is done to each snapshot that is opened."""
        self._log = log
        self._watch = watch
        self._lock = Lock()
        self._seen = -1
        self._not_before_s = 0.0
        self._growth: Growth
        self._snapshot: Snapshot

    @property
    def base(self) -> Snapshot:
        """The bundle's own snapshot, without changes."""
        return self._growth.base

    @property
    def latest(self) -> Snapshot:
        """What was answered from last: no look at the log, and no waiting for who folds it in."""
        return self._snapshot

    def current(self) -> Snapshot:
        """The snapshot with all that the log holds."""
        return self._snapshot if self._log.version == self._seen else self._catch_up()

    def begin(self, snapshot: Snapshot) -> None:
        """Go over to another bundle; what it has not taken in is folded in before it is shown."""
        with self._lock:
            growth = _growth_of(self._watch(snapshot))
            version = self._log.version
            try:
                folded = growth.fold(self._log.read(taken_in(snapshot)))
            except RoomFullError:
                folded, growth = self._with_more_room(growth)
            self._growth, self._snapshot, self._seen = growth, folded, version

    def _catch_up(self) -> Snapshot:
        with self._lock:
            version = self._log.version
            if version == self._seen or monotonic() < self._not_before_s:
                return self._snapshot
            try:
                self._fold(self._log.since(self._seen))
            except (CatalogLogError, StoreError) as error:
                logger.error("changes of the catalogue cannot be read: %s", error)
                self._not_before_s = monotonic() + RETRY_S
                return self._snapshot
            except Exception as error:  # answers go on; what came is in force after a restart
                logger.error("changes of the catalogue cannot be folded in", exc_info=error)
            self._seen = version
            return self._snapshot

    def _fold(self, changes: list[LoggedChange]) -> None:
        try:
            self._snapshot = self._growth.fold(changes)
        except RoomFullError:
            self._snapshot, self._growth = self._with_more_room(self._growth)

    def _with_more_room(self, growth: Growth) -> tuple[Snapshot, Growth]:
        """The same bundle, opened with room for twice what came to it so far."""
        base = growth.base
        changes = self._log.read(taken_in(base))
        num_new = sum(change.is_new for change in changes)
        bundle = open_bundle(
            base.bundle.directory, verify=False, num_room=max(NUM_ROOM, 2 * num_new)
        )
        logger.info("bundle %s is opened with more room", base.model_version)
        grown = _growth_of(self._watch(open_snapshot(bundle)))
        return grown.fold(changes), grown


def _growth_of(snapshot: Snapshot) -> Growth:
    shop = snapshot.shop
    if not isinstance(shop, Shop):
        raise TypeError("a snapshot with changes is no base for others")
    return Growth(snapshot, shop)
