"""The way in for changes of products: read, logged, and in force on this machine's next answers.

One thread writes. What is new is compared with the bundle's products before it is logged, so that
no worker has to; then the log is followed, and the caller is told. It knows no messages and no
clock.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from feature_store.catalog_log import CatalogLog, Change, Outcome
from feature_store.language.encoder import TextEncoder
from online.delta.likening import Likening
from online.engine import Engine
from online.snapshot import Snapshot

CHANGES_AT_ONCE: Final = 100
"""So many are folded in some tens of milliseconds, which a request of another worker can bear."""

LOOK_S: Final = 0.02


class CatalogIntake:
    """Takes changes in, for one worker. Any thread may call it."""

    def __init__(self, log: CatalogLog, engine: Engine, encoder: TextEncoder) -> None:
        self._log = log
        self._engine = engine
        self._encoder = encoder
        self._thread = ThreadPoolExecutor(1, "catalog")
        self._is_closed = threading.Event()
        self._looker = threading.Thread(target=self._look, name="catalog-look", daemon=True)
        self._looker.start()

    def write(self, changes: Sequence[Change], change_time: int) -> "Future[list[Outcome]]":
        """What becomes of each change, once they are durable and in the next answer.

        `change_time` is in microseconds UTC. The future raises CatalogLogError or StoreError when
        they are not; sending them again is safe.
        """
        return self._thread.submit(self._write, tuple(changes), change_time)

    def close(self) -> None:
        """Finish what was taken in; nothing may be written afterwards."""
        self._thread.shutdown()
        self._is_closed.set()
        self._looker.join()

    def _look(self) -> None:
        """Follow the log while nobody asks, so that a request finds little to fold in."""
        while not self._is_closed.wait(LOOK_S):
            _ = self._engine.snapshot

    def _write(self, changes: Sequence[Change], change_time: int) -> list[Outcome]:
        base = self._engine.base
        known = _Known(base)
        outcomes: list[Outcome] = []
        for start in range(0, len(changes), CHANGES_AT_ONCE):
            some = changes[start : start + CHANGES_AT_ONCE]
            read = self._with_readings(some, base, known)
            outcomes += self._log.append(read, change_time, known)
            _ = self._engine.snapshot  # follows the log
        time.sleep(self._log.settle_s)
        _ = self._engine.snapshot
        return outcomes

    def _with_readings(
        self, changes: Sequence[Change], base: Snapshot, known: "_Known"
    ) -> list[Change]:
        """The changes, and of each product that is new or called anew what its text says."""
        rows = [
            row
            for row, change in enumerate(changes)
            if not change.is_deleted and change.fields.get("title") and not known(change.item)
        ]
        read = list(changes)
        if rows:
            likening = Likening(base.bundle, base.catalog, base.shop.attributes, self._encoder)
            texts = [self._text(changes[row]) for row in rows]
            for row, reading in zip(rows, likening.read(texts), strict=True):
                read[row] = replace(changes[row], reading=reading)
        return read

    def _text(self, change: Change) -> tuple[str, str]:
        """Title and category, which a change that gives only the title leaves as it is."""
        title, category = str(change.fields["title"]), change.fields.get("category")
        if category is None and not change.is_whole:
            catalog = self._engine.snapshot.catalog
            place = int(catalog.indexes_of([change.item])[0])
            category = catalog.category[place] if place >= 0 else ""
        return title, str(category or "")


class _Known:
    """Whether a bundle has a product."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._catalog = snapshot.catalog

    def __call__(self, item: str) -> bool:
        return int(self._catalog.indexes_of([item])[0]) >= 0
