"""One function from query to ranking: sources, filters, scorer, selector.

`run` owns counting, deadlines and failure isolation, so that stages stay pure: a stage that
raises, or that usually takes longer than what is left, is skipped and named as degraded, and
the fallback fills what is missing. It knows no protobuf and no bundle, and of the store only
that it may be gone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from time import perf_counter
from typing import Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import StoreError
from online.columns import positions
from online.metrics import CANDIDATES, STAGE_DURATION, Metrics
from online.stages import places
from online.stages.places import Ranking
from online.stages.weighing import weigh
from online.types import (
    NOTHING,
    Candidates,
    Cause,
    Degraded,
    Filter,
    Found,
    PurchaseMode,
    Query,
    Scorer,
    Scores,
    Selection,
    Selector,
    Source,
)

logger = logging.getLogger(__name__)

LEFT_OUT_S: Final = 5.0
"""How long a stage that was far too slow is not tried again."""

LEAST_S: Final = 1e-6
"""A stage that usually takes less is estimated in steps of that."""

FEW_OWNED: Final = 100
"""Who has bought fewer items gets more candidates that are new, so that there is enough to rank."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SizedSource:
    """A source and how many candidates it may add; `size_new` where own items fill little.

    `only_new`: it is asked only for what the user has never bought.
    """

    source: Source
    size: int
    size_new: int | None = None
    only_new: bool = False
    stage: str = field(init=False)
    """What answers call it when it is left out."""

    def __post_init__(self) -> None:
        """Name the stage after the source."""
        object.__setattr__(self, "stage", f"source.{self.source.name}")

    def limit(self, query: Query) -> int:
        """How many candidates it may add to the answer to this query."""
        if self.size_new is None:
            return self.size
        only_new = query.request.purchase_mode is PurchaseMode.NEW_ONLY
        is_light = len(query.history.items) < FEW_OWNED
        return self.size_new if only_new or is_light else self.size


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of one placement. `fallback` fills what the selector leaves empty."""

    sources: tuple[SizedSource, ...]
    filters: tuple[Filter, ...]
    scorer: Scorer
    selector: Selector
    fallback: Source

    @property
    def source_names(self) -> tuple[str, ...]:
        """The names of the sources, in the order of the rows of `Candidates.scores`."""
        return tuple(sized.source.name for sized in self.sources)


@dataclass(slots=True)
class StageTimes:
    """How long each stage usually takes, which one runs now and which ones fail.

    `p95_s` is a running estimate of the 95th percentile in seconds: each observation moves it
    up by 0.95 of a step or down by 0.05 of one, so that it settles where one in twenty lies
    above (Robbins and Monro 1951). `running` has the stage that each thread is in, by the thread's
    identifier, and the instant when it began.
    """

    p95_s: dict[str, float] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    metrics: Metrics = field(default_factory=Metrics)
    running: dict[int, tuple[str, float]] = field(default_factory=dict)
    _late: dict[str, int] = field(default_factory=dict)
    _left_out: dict[str, tuple[float, float]] = field(default_factory=dict)

    def expected_s(self, stage: str, now_s: float) -> float:
        """How long the stage will take, as far as one knows."""
        usual_s = self.p95_s.get(stage, 0.0)
        if not self._left_out:
            return usual_s
        elapsed_s, until_s = self._left_out.get(stage, (0.0, 0.0))
        return max(usual_s, elapsed_s) if now_s < until_s else usual_s

    def observe(self, stage: str, elapsed_s: float, *, is_late: bool) -> None:
        """Count one run of a stage. Late twice in a row is no accident: it is left out."""
        self.metrics.observe(elapsed_s, STAGE_DURATION, stage)
        usual_s = self.p95_s.get(stage, elapsed_s)
        step_s = 0.1 * usual_s if usual_s > LEAST_S else 0.1 * LEAST_S
        self.p95_s[stage] = usual_s + step_s * (0.95 if elapsed_s > usual_s else -0.05)
        if not is_late:
            if self._late:
                self._late.pop(stage, None)
            return
        self._late[stage] = self._late.get(stage, 0) + 1
        if self._late[stage] > 1:
            self.leave_out(stage, elapsed_s)

    def leave_out(self, stage: str, elapsed_s: float) -> None:
        """For some seconds, expect that the stage takes as long as it just did."""
        self._left_out[stage] = (elapsed_s, perf_counter() + LEFT_OUT_S)

    def skip(self, stage: str) -> None:
        """A stage was skipped: its estimate fades, so that it is tried anew after a while."""
        self.p95_s[stage] = 0.99 * self.p95_s.get(stage, 0.0)


@dataclass(slots=True)
class Attempts:
    """Runs the stages of one query: keeps the deadline and the names of what was left out."""

    times: StageTimes
    deadline_s: float = float("inf")
    degraded: list[Degraded] = field(default_factory=list)

    def stage(
        self, name: str, default: T, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The stage's result; `default` when it fails or would be late."""
        now_s = perf_counter()
        if now_s + self.times.expected_s(name, now_s) > self.deadline_s:
            self.times.skip(name)
            self.degraded.append(Degraded(name, Cause.SKIPPED))
            return default
        return self._run(now_s, name, default, call, *args, **kwargs)

    def always(
        self, name: str, default: T, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The stage's result, however late it is; `default` when it fails."""
        return self._run(perf_counter(), name, default, call, *args, **kwargs)

    def _run(
        self,
        started_s: float,
        name: str,
        default: T,
        call: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        times, thread = self.times, get_ident()
        times.running[thread] = (name, started_s)
        try:
            result = call(*args, **kwargs)
        except Exception as error:
            self._failed(name, error, perf_counter() - started_s)
            return default
        finally:
            times.running.pop(thread, None)
        ended_s = perf_counter()
        times.observe(name, ended_s - started_s, is_late=ended_s > self.deadline_s)
        if times.failing:
            times.failing.discard(name)
        return result

    def _failed(self, name: str, error: Exception, elapsed_s: float) -> None:
        """Name the stage; log it once until it works again, or the log would drown."""
        if name not in self.times.failing:
            self.times.failing.add(name)
            logger.error("stage %s fails", name, exc_info=error)
        if perf_counter() > self.deadline_s:
            self.times.leave_out(name, elapsed_s)
        gone = isinstance(error, StoreError)
        self.degraded.append(Degraded(name, Cause.UNAVAILABLE if gone else Cause.FAILED))


def run(pipeline: Pipeline, query: Query, attempts: Attempts) -> Ranking:
    """Answer one query; never raises for a failing stage.

    Sources find, filters remove, the scorer values, the selector orders; the fallback fills
    up. The answer is short only when fewer items are allowed than wanted.
    """
    candidates = retrieve(pipeline, query, attempts)
    scorer, selector = pipeline.scorer, pipeline.selector
    scores = attempts.stage(scorer.name, None, scorer.score, query, candidates)
    values = weigh(query, candidates, by_rank(candidates) if scores is None else scores)
    selected = attempts.stage(selector.name, None, selector.select, query, candidates, values)
    selection = places.best_fitting(query, candidates, values) if selected is None else selected
    positions = selection.positions

    if scores is None:
        sources = first_sources(candidates, positions)
    else:
        sources = scorer.main_sources(query, candidates, positions)
    chosen = Ranking(
        chosen=candidates.keep(positions),
        scores=values[positions],
        propensities=selection.propensities,
        sources=sources,
        degraded=(),
    )
    return fill(pipeline.fallback, query, chosen, attempts)


def retrieve(pipeline: Pipeline, query: Query, attempts: Attempts) -> Candidates:
    """What the sources find and the filters leave."""
    candidates = merge(find(pipeline, query, attempts))
    for rule in pipeline.filters:
        mask = attempts.stage(rule.name, None, rule.keep, query, candidates)
        if mask is not None and not mask.all():
            candidates = candidates.keep(mask)
    attempts.times.metrics.observe(len(candidates), CANDIDATES)
    return candidates


def find(pipeline: Pipeline, query: Query, attempts: Attempts) -> list[Found]:
    """What each source finds."""
    unowned = replace(query, blocked=query.not_new)
    return [
        attempts.stage(
            use.stage,
            NOTHING,
            use.source.retrieve,
            unowned if use.only_new else query,
            use.limit(query),
        )
        for use in pipeline.sources
    ]


def merge(found: Sequence[Found]) -> Candidates:
    """All sources' items once, sorted by index, with each source's score or NaN."""
    everything = np.concatenate([part.items for part in found])
    items, place = positions(everything)
    scores = np.full((len(found), len(items)), np.nan, np.float32)
    rows = np.repeat(np.arange(len(found)), [len(part.items) for part in found])
    scores[rows, place] = np.concatenate([part.scores for part in found])
    return Candidates(items, scores, tuple(part.rate for part in found))


def best(scores: Scores, limit: int) -> Selection:
    """The highest scores first; ties go to the lower index, which is the lower item id."""
    positions = (-scores).argsort(kind="stable")[:limit]
    return Selection(positions, np.ones(len(positions), np.float32))


def by_rank(candidates: Candidates) -> Scores:
    """Scores when the scorer is out: the first source's order, then the second's, and so on."""
    found = ~np.isnan(candidates.scores)
    order = np.argsort(np.argsort(np.where(found, -candidates.scores, np.inf), axis=1), axis=1)
    priority = np.arange(len(found), 0, -1, dtype=np.float32)[:, None]
    ranked = np.where(found, priority + 1 / (1.0 + order), 0).astype(np.float32)
    scores: Scores = ranked.max(axis=0, initial=0)
    return scores


def first_sources(candidates: Candidates, positions: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first source that found each candidate, shape (positions,)."""
    rows: NDArray[np.intp] = (~np.isnan(candidates.scores[:, positions])).argmax(axis=0)
    return rows


def fill(fallback: Source, query: Query, ranking: Ranking, attempts: Attempts) -> Ranking:
    """The ranking with pins, the fallback's items where it is short, and what was left out."""
    stage = f"fallback.{fallback.name}"

    def find(query: Query, limit: int) -> Found:
        return attempts.always(stage, NOTHING, fallback.retrieve, query, limit)

    ranking = places.fill(query, ranking, find)
    return replace(ranking, degraded=tuple(dict.fromkeys(attempts.degraded)))
