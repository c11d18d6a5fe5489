"""The engine: requests in, slates out. The same for the server, evaluation and export.

It reads the current snapshot once and the store once, completes the query, runs the
placement's pipeline and asks the shelves of the other corpora. It reads no clock:
`Request.request_time` is the instant, so that the same state gives the same slate whoever asks.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Final

from feature_store.catalog_log import CatalogLog
from feature_store.errors import StateFormatError
from feature_store.store import OnlineStore
from online.answering import answer, answer_many, products_of, slate_of
from online.completion import complete, is_cheap
from online.delta.following import Following
from online.explain.explaining import Explanation, explain
from online.known import Known, known_of, read_records, record_keys
from online.metrics import Metrics
from online.pipeline import Attempts, StageTimes, fill, retrieve
from online.snapshot import Snapshot
from online.stages.places import nothing_chosen
from online.together.completing import MIN_TOGETHER
from online.types import (
    Candidates,
    Cause,
    Degraded,
    PurchaseMode,
    Query,
    Request,
    Slate,
)

logger = logging.getLogger(__name__)

NO_DEADLINE: Final = float("inf")
STORE_STAGE: Final = "store"
PURCHASE_MODE_STAGE: Final = "purchase_mode"
FILTER_STAGE: Final = "filter"


class Engine:
    """Answers requests from a store and the snapshot that it currently holds."""

    def __init__(
        self,
        store: OnlineStore,
        snapshot: Snapshot,
        watch: Callable[[Snapshot], Snapshot] | None = None,
        metrics: Metrics | None = None,
        log: CatalogLog | None = None,
    ) -> None:
        """`snapshot` may be exchanged at any time by assigning `engine.snapshot`.

        `watch` makes of each snapshot one that is watched, see `online.parity`. What `log` says of
        the catalogue is in force for the next request; None: the catalogue is the bundle's.
        """
        self._watch = watch or _unwatched
        self._following = None if log is None else Following(log, self._watch)
        self.snapshot = snapshot
        self._store = store
        self._times = StageTimes(metrics=metrics or Metrics())

    @property
    def snapshot(self) -> Snapshot:
        """What requests are answered from: the bundle, and what changed in the shop since."""
        return self._snapshot if self._following is None else self._following.current()

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        if self._following is None:
            self._snapshot = self._watch(snapshot)
        else:
            self._following.begin(snapshot)

    @property
    def latest(self) -> Snapshot:
        """What was answered from last, at once: for threads that must not wait."""
        return self._snapshot if self._following is None else self._following.latest

    @property
    def base(self) -> Snapshot:
        """The bundle as it is, without what changed in the shop since."""
        return self._snapshot if self._following is None else self._following.base

    def recommend(
        self,
        request: Request,
        deadline_s: float = NO_DEADLINE,
        note: Callable[[Known], None] | None = None,
        snapshot: Snapshot | None = None,
    ) -> Slate:
        """One slate; `deadline_s` is an instant of `time.perf_counter`.

        `note` is told what is known of who asks as soon as it was read. `snapshot` is what a caller
        who asks more than once answers from; None: the current one. Raises RequestError when
        the request names an unknown placement.
        """
        snapshot, attempts = snapshot or self.snapshot, Attempts(self._times, deadline_s)
        (known,) = self._read_known((request,), (attempts,))
        if note is not None and not attempts.degraded:
            note(known)
        return answer(snapshot, request, known, attempts)

    def recommend_many(
        self, requests: Sequence[Request], deadline_s: float = NO_DEADLINE
    ) -> list[Slate]:
        """One slate for each request, all from one snapshot and one read of the store."""
        snapshot = self.snapshot
        attempts = [Attempts(self._times, deadline_s) for _ in requests]
        known = self._read_known(requests, attempts)
        if deadline_s == NO_DEADLINE and len(requests) >= MIN_TOGETHER:
            return answer_many(snapshot, requests, known, attempts)
        return [answer(snapshot, *one) for one in zip(requests, known, attempts, strict=True)]

    def candidates(self, request: Request) -> tuple[Query, Candidates]:
        """The completed query and what the pipeline would rank, for training a ranker."""
        snapshot = self.snapshot
        attempts = Attempts(self._times)
        query, _ = complete(snapshot, request, self._read_known((request,), (attempts,))[0])
        return query, retrieve(snapshot.pipeline_of(request), query, attempts)

    def recommend_popular(
        self, request: Request, left_out: Degraded, known: Known | None = None
    ) -> Slate:
        """What sells, for when the pipeline does not answer; it reads no store and runs no stage.

        `known` None: it was not read, and what of the request depends on it is named as left out.
        Where a filter was never compiled and would be long about it, there is nothing to show.
        Safe to call while another thread is in `recommend`.
        """
        snapshot = self.latest
        lacking = () if known is not None else _depending(request, left_out)
        if not is_cheap(snapshot, request, known or Known()):
            degraded = (left_out, *lacking, Degraded(FILTER_STAGE, Cause.SKIPPED))
            return Slate((), snapshot.model_version, degraded=degraded)
        query, missing = complete(snapshot, request, known or Known())
        pipeline = snapshot.pipeline_of(request)
        attempts = Attempts(StageTimes(), degraded=[left_out, *lacking])
        ranking = fill(pipeline.fallback, query, nothing_chosen(len(pipeline.sources)), attempts)
        products = products_of(snapshot, query, ranking)
        return slate_of(snapshot, query, missing, products, {}, attempts)

    def explain(
        self, request: Request, item_id: str, deadline_s: float = NO_DEADLINE
    ) -> Explanation:
        """Why the item is in the slate of this request, or not; RequestError as for the slate."""
        attempts = Attempts(StageTimes(), deadline_s)
        known = self._read_known((request,), (attempts,))[0]
        return explain(self.snapshot, request, known, item_id, attempts)

    def check(self, request: Request) -> None:
        """Raises RequestError when the request cannot be answered as it is."""
        complete(self.latest, request, Known())

    @property
    def usual_times_s(self) -> dict[str, float]:
        """How long each stage took at most in 19 of 20 runs, as far as one knows; in seconds."""
        return dict(self._times.p95_s)

    def running_stage(self, thread: int | None) -> str:
        """The stage that a thread of this identifier runs now, "" for none."""
        return self._running(thread)[0]

    def leave_out_running_stage(self, thread: int | None) -> None:
        """The stage that this thread runs now is stuck: skip it for a while."""
        stage, started_s = self._running(thread)
        if stage:
            self._times.leave_out(stage, perf_counter() - started_s)

    def _running(self, thread: int | None) -> tuple[str, float]:
        return ("", 0.0) if thread is None else self._times.running.get(thread, ("", 0.0))

    def _read_known(self, requests: Sequence[Request], attempts: Sequence[Attempts]) -> list[Known]:
        """What is known of each request's user and session; nothing where the store fails."""
        keys = list(dict.fromkeys(key for request in requests for key in record_keys(request)))
        if not keys:
            return [Known()] * len(requests)
        reading = Attempts(self._times, min(attempt.deadline_s for attempt in attempts))
        found = reading.stage(STORE_STAGE, None, read_records, self._store, keys)
        if found is None:
            for attempt in attempts:
                attempt.degraded += reading.degraded
            return [Known()] * len(requests)
        return [
            _known(request, found, attempt)
            for request, attempt in zip(requests, attempts, strict=True)
        ]


def _depending(request: Request, left_out: Degraded) -> list[Degraded]:
    """What of the request cannot be minded when nothing is known of who asks."""
    if not (request.user or request.session):
        return []
    stages = [STORE_STAGE] if left_out.stage != STORE_STAGE else []
    if request.purchase_mode is not PurchaseMode.ANY:
        stages.append(PURCHASE_MODE_STAGE)
    return [Degraded(stage, Cause.SKIPPED) for stage in stages]


def _unwatched(snapshot: Snapshot) -> Snapshot:
    return snapshot


def _known(request: Request, found: Mapping[bytes, bytes | None], attempts: Attempts) -> Known:
    try:
        return known_of(request, found)
    except StateFormatError as error:
        logger.error("a user's state cannot be read: %s", error)
        attempts.degraded.append(Degraded(STORE_STAGE, Cause.FAILED))
        return Known()
