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
from feature_store.schema import Corpus
from feature_store.store import OnlineStore
from online.completion import complete
from online.corpora import ask_shelves, joined, needs_products
from online.delta.following import Following
from online.explain.causes import reasons_of, source_names
from online.explain.explaining import Explanation, explain
from online.known import Known, known_of, read_records, record_keys
from online.metrics import Metrics
from online.pipeline import Attempts, StageTimes, fill, retrieve, run
from online.snapshot import Snapshot
from online.stages.places import Ranking, nothing_chosen
from online.types import (
    Candidates,
    Cause,
    Degraded,
    Query,
    Request,
    Slate,
    SlateItem,
)

logger = logging.getLogger(__name__)

NO_DEADLINE: Final = float("inf")
STORE_STAGE: Final = "store"


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

    def recommend(self, request: Request, deadline_s: float = NO_DEADLINE) -> Slate:
        """One slate; `deadline_s` is an instant of `time.perf_counter`.

        Raises RequestError when the request names an unknown placement.
        """
        return self.recommend_many((request,), deadline_s)[0]

    def recommend_many(
        self, requests: Sequence[Request], deadline_s: float = NO_DEADLINE
    ) -> list[Slate]:
        """One slate for each request, all from one snapshot and one read of the store."""
        snapshot = self.snapshot
        attempts = [Attempts(self._times, deadline_s) for _ in requests]
        known = self._read_known(requests, attempts)
        return [
            _answer(snapshot, one, *complete(snapshot, request, one), attempt)
            for request, one, attempt in zip(requests, known, attempts, strict=True)
        ]

    def candidates(self, request: Request) -> tuple[Query, Candidates]:
        """The completed query and what the pipeline would rank, for training a ranker."""
        snapshot = self.snapshot
        attempts = Attempts(self._times)
        query, _ = complete(snapshot, request, self._read_known((request,), (attempts,))[0])
        return query, retrieve(snapshot.pipelines[request.placement], query, attempts)

    def recommend_popular(self, request: Request, left_out: Degraded) -> Slate:
        """What sells, for when the pipeline does not answer; it reads no store and runs no stage.

        Safe to call while another thread is in `recommend`.
        """
        snapshot = self.latest
        query, missing = complete(snapshot, request, Known())
        pipeline = snapshot.pipelines[request.placement]
        attempts = Attempts(StageTimes(), degraded=[left_out])
        ranking = fill(pipeline.fallback, query, nothing_chosen(len(pipeline.sources)), attempts)
        products = _products(snapshot, query, ranking)
        return _slate(snapshot, query, missing, products, {}, attempts)

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

    @property
    def running_stage(self) -> str:
        """The stage that runs now, "" for none."""
        return self._times.running

    def leave_out_running_stage(self) -> None:
        """The stage that runs now is stuck: skip it for a while."""
        stage, started_s = self._times.running, self._times.started_s
        if stage:
            self._times.leave_out(stage, perf_counter() - started_s)

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


def _unwatched(snapshot: Snapshot) -> Snapshot:
    return snapshot


def _known(request: Request, found: Mapping[bytes, bytes | None], attempts: Attempts) -> Known:
    try:
        return known_of(request, found)
    except StateFormatError as error:
        logger.error("a user's state cannot be read: %s", error)
        attempts.degraded.append(Degraded(STORE_STAGE, Cause.FAILED))
        return Known()


def _answer(
    snapshot: Snapshot, known: Known, query: Query, missing: tuple[str, ...], attempts: Attempts
) -> Slate:
    products: tuple[SlateItem, ...] = ()
    if needs_products(query):
        ranking = run(snapshot.pipelines[query.request.placement], query, attempts)
        products = _products(snapshot, query, ranking)
    offered = ask_shelves(snapshot.shelves, query, known, products, attempts)
    return _slate(snapshot, query, missing, products, offered, attempts)


def _slate(
    snapshot: Snapshot,
    query: Query,
    missing: tuple[str, ...],
    products: tuple[SlateItem, ...],
    offered: Mapping[Corpus, tuple[SlateItem, ...]],
    attempts: Attempts,
) -> Slate:
    is_mixed = bool(query.request.corpora)
    return Slate(
        items=joined(query, products, offered, snapshot.product_values) if is_mixed else products,
        model_version=snapshot.model_version,
        missing=missing,
        degraded=tuple(dict.fromkeys(attempts.degraded)),
    )


def _products(snapshot: Snapshot, query: Query, ranking: Ranking) -> tuple[SlateItem, ...]:
    pipeline = snapshot.pipelines[query.request.placement]
    ids = snapshot.catalog.ids
    return tuple(
        SlateItem(ids[index], index, Corpus.PRODUCT, score, source, propensity, reason)
        for index, score, source, propensity, reason in zip(
            ranking.chosen.items.tolist(),
            ranking.scores.tolist(),
            source_names(pipeline, ranking),
            ranking.propensities.tolist(),
            reasons_of(pipeline, query, ranking),
            strict=True,
        )
    )
