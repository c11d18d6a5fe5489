"""What was shown, kept after the answer: in the event log, and in the state of who saw it.

Answers hand their exposures over and go on. They are written a batch at a time by the thread
that writes events, so that the request pays next to nothing. Only placements that do not
repeat themselves need the state to know; what a crash takes of a batch are exposures of a
fraction of a second, never an event. What cannot be written waits, until too many do.
"""

import logging
import threading
from dataclasses import dataclass, replace
from typing import Final

from feature_store.errors import EventLogError, StoreError
from feature_store.event_log.seam import WorkerLog
from feature_store.events import Event, Exposure
from feature_store.schema import EventKind
from feature_store.store import OnlineStore
from feature_store.tombstones import Tombstones
from online.feedback.changes import apply
from online.feedback.intake import Feedback

logger = logging.getLogger(__name__)

WAIT_S: Final = 0.1
"""How long exposures wait for others. The next page of who saw them takes longer."""

RETRY_S: Final = 1.0
"""How often to try again while nothing can be written."""

MAX_WAITING: Final = 50_000
"""More than this wait only when nothing can be written; then they are dropped and counted."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """`tires`: the state of who saw it must know; `is_logged`: the log has it already."""

    exposure: Exposure
    tires: bool
    is_logged: bool = False


class Showing:
    """Takes exposures from any thread and keeps them."""

    def __init__(
        self, feedback: Feedback, log: WorkerLog, store: OnlineStore, tombstones: Tombstones
    ) -> None:
        """`log` and `store` are those that `feedback` writes."""
        self._feedback = feedback
        self._log = log
        self._store = store
        self._tombstones = tombstones
        self._waiting: list[_Shown] = []
        self._lock = threading.Lock()
        self._has_any = threading.Event()
        self._closing = threading.Event()
        self.num_dropped = 0
        self._thread = threading.Thread(target=self._run, name="showing", daemon=True)
        self._thread.start()

    def note(self, exposure: Exposure, *, tires: bool) -> None:
        """Keep an exposure soon; `tires`: the state of who saw it must know."""
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self.num_dropped += 1
                return
            self._waiting.append(_Shown(exposure, tires))
        if not self._has_any.is_set():
            self._has_any.set()

    def flush(self) -> None:
        """Keep what waits, and return when it is kept.

        Raises EventLogError or StoreError when it cannot be kept now: it waits on. After any other
        error trying again would not help: what was not kept is dropped and counted.
        """
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            self._feedback.run(lambda: self._keep(batch)).result()
        except (EventLogError, StoreError):
            self._put_back(batch)
            raise
        except Exception:
            with self._lock:
                self.num_dropped += len(batch)
            raise

    def close(self) -> None:
        """Keep what waits; nothing may be noted afterwards. The feedback must still be open."""
        self._closing.set()
        self._has_any.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._has_any.wait()
            self._closing.wait(WAIT_S)
            self._has_any.clear()
            if not self._try_flush():
                self._has_any.set()
                self._closing.wait(RETRY_S)
        self._try_flush()
        with self._lock:
            self.num_dropped += len(self._waiting)

    def _try_flush(self) -> bool:
        """Whether all that waited is settled."""
        try:
            self.flush()
        except (EventLogError, StoreError) as error:
            logger.error("exposures wait, they cannot be kept: %s", error)
            return False
        except Exception:
            logger.exception("exposures are dropped")
        return True

    def _put_back(self, batch: list[_Shown]) -> None:
        """In front of what came meanwhile; the newest have no room."""
        with self._lock:
            waiting = [*batch, *self._waiting]
            self._waiting = waiting[:MAX_WAITING]
            self.num_dropped += len(waiting) - len(self._waiting)

    def _keep(self, batch: list[_Shown]) -> None:
        """On the thread that writes: the log first, then the states.

        `batch` keeps what is left to do.
        """
        batch[:] = [shown for shown in batch if not self._is_erased(shown.exposure)]
        self._log.append_exposures([shown.exposure for shown in batch if not shown.is_logged])
        batch[:] = [replace(shown, is_logged=True) for shown in batch if shown.tires]
        events = [event for shown in batch for event in _impressions(shown.exposure)]
        if events:
            applied = apply(events, self._store, self._tombstones.marker)
            if applied.erased:
                self._log.erase(*applied.erased)

    def _is_erased(self, exposure: Exposure) -> bool:
        return any(
            self._tombstones.has_pseudonym(bytes.fromhex(one))
            for one in (exposure.user, exposure.session)
            if one
        )


def _impressions(exposure: Exposure) -> list[Event]:
    """The exposure as events of who saw it; none for nobody."""
    if not exposure.user and not exposure.session:
        return []
    return [
        Event(
            event_id=f"{exposure.attribution_token}/{place}",
            event_time=exposure.request_time,
            user=exposure.user,
            session=exposure.session,
            kind=EventKind.IMPRESSION,
            item=item,
            placement=exposure.placement,
        )
        for place, item in enumerate(exposure.items)
    ]
