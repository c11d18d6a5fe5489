"""Runs the engine beside the event loop, and answers for it when it is late.

One thread runs the pipeline; the event loop stays free to keep the time. A request whose
answer is not there at its deadline gets the popular items at once, naming the stage that is
too slow; a thread that stays stuck is left behind and replaced. It knows no gRPC.
"""

import asyncio
import logging
import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import Final

from online.engine import Engine
from online.errors import OverloadedError, RequestError
from online.known import Known
from online.metrics import DEGRADED, QUEUE_SECONDS, WAITING, Metrics
from online.types import Cause, Degraded, Request, Slate

logger = logging.getLogger(__name__)

HANG_S: Final = 1.0
"""A run of this length is not slow but stuck."""

MAX_STUCK_THREADS: Final = 8
MAX_WAIT_SHARE: Final = 0.25
"""How much of its time a request may wait for its turn; if it would be more, it is refused."""

NUM_RECENT: Final = 64
"""How many requests are remembered, to warm the next bundle with."""

MIN_QUEUE: Final = 16
"""Fewer that wait are a moment's chance, no overload."""

STEP: Final = 1.05
"""By how much one run moves the estimate of the usual one."""

PIPELINE_SHARE: Final = 0.9
"""How much of a request's time the pipeline may plan with; the rest is for handing it over."""


@dataclass(slots=True, eq=False)
class _Job:
    """One request on its way; `started_s` is 0 while it waits.

    `known` is what the store says of who asks, None until it was read.
    """

    request: Request
    deadline_s: float
    answer: asyncio.Future[Slate]
    put_s: float
    started_s: float = 0.0
    is_finished: bool = False
    known: Known | None = None

    def note(self, known: Known) -> None:
        """Keep it for the answer that is given when the pipeline's does not come."""
        self.known = known


class _Runner:
    """One thread that takes jobs in their order."""

    def __init__(self, engine: Engine, jobs: "SimpleQueue[_Job | None]", metrics: Metrics) -> None:
        self._metrics = metrics
        self.usual_s = 0.0
        """How long a run takes lately: an estimate of the median."""
        self.current: _Job | None = None
        self.is_retired = False
        self._engine = engine
        self._jobs = jobs
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    @property
    def thread(self) -> int | None:
        """The identifier of the thread; None before it runs."""
        return self._thread.ident

    def is_alive(self) -> bool:
        """Whether the thread is still there."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self.is_retired and (job := self._jobs.get()) is not None:
            if not job.answer.done():
                self.current, job.started_s = job, perf_counter()
                self._metrics.observe(job.started_s - job.put_s, QUEUE_SECONDS)
                self._answer(job)
                self.current = None
                self._observe(perf_counter() - job.started_s)

    def _observe(self, elapsed_s: float) -> None:
        """One step towards where half of the runs lie above; one that hangs moves it as little."""
        usual_s = self.usual_s or elapsed_s
        self.usual_s = usual_s * (STEP if elapsed_s > usual_s else 1 / STEP)

    def _answer(self, job: _Job) -> None:
        try:
            result: Slate | Exception = self._engine.recommend(
                job.request, job.deadline_s, job.note
            )
        except Exception as error:
            result = error
        job.is_finished = True
        try:
            job.answer.get_loop().call_soon_threadsafe(self._deliver, job, result)
        except RuntimeError:
            logger.warning("an answer came after the server had stopped")

    def _deliver(self, job: _Job, result: Slate | Exception) -> None:
        """On the event loop: hand the answer over, unless the job's time is up."""
        if job.answer.done():
            return
        if isinstance(result, Slate):
            job.answer.set_result(result)
        elif isinstance(result, RequestError):
            job.answer.set_exception(result)
        else:
            logger.error("the engine fails", exc_info=result)
            _answer_popular(self._engine, job, Degraded("engine", Cause.FAILED))


def _answer_popular(engine: Engine, job: _Job, left_out: Degraded) -> None:
    """Settle a job with what sells."""
    try:
        job.answer.set_result(engine.recommend_popular(job.request, left_out, job.known))
    except Exception as error:
        job.answer.set_exception(error)


class Watchdog:
    """The engine for use on an event loop. Answers in time, whatever the pipeline does."""

    def __init__(self, engine: Engine, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self.recent: deque[Request] = deque(maxlen=NUM_RECENT)
        self._engine = engine
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._runner = _Runner(engine, self._jobs, self._metrics)
        self._metrics.read_from(self._jobs.qsize, WAITING)
        self._stuck: list[_Runner] = []
        self.is_lost = False
        """Whether so many threads are stuck that no new one is tried: the process must end."""

    async def recommend(self, request: Request, budget_s: float) -> Slate:
        """The slate within `budget_s` seconds; RequestError as from `Engine.recommend`.

        Raises OverloadedError at once when too many others wait for their turn.
        """
        num_waiting = self._jobs.qsize()
        wait_s = num_waiting * self._runner.usual_s
        if num_waiting >= MIN_QUEUE and wait_s > MAX_WAIT_SHARE * budget_s:
            raise OverloadedError("too many requests wait for their turn")
        loop = asyncio.get_running_loop()
        now_s = perf_counter()
        self.recent.append(request)
        job = _Job(request, now_s + PIPELINE_SHARE * budget_s, loop.create_future(), now_s)
        timer = loop.call_later(budget_s, self._expire, job)
        self._jobs.put(job)
        try:
            slate = await job.answer
        finally:
            timer.cancel()
        for left_out in slate.degraded:
            self._metrics.count(DEGRADED, left_out.stage, left_out.cause)
        return slate

    def close(self) -> None:
        """Let the thread end after the jobs that wait."""
        self._jobs.put(None)

    def _expire(self, job: _Job) -> None:
        if not job.answer.done():
            left_out = Degraded(self._late_stage(job), Cause.TIMED_OUT)
            _answer_popular(self._engine, job, left_out)
        running = self._runner.current
        if running is not None:
            wait_s = max(0.0, running.started_s + HANG_S - perf_counter())
            job.answer.get_loop().call_later(wait_s, self._replace_if_stuck, running)

    def _late_stage(self, job: _Job) -> str:
        """What the job waits for: a stage, or its turn behind others that are not late."""
        running = self._runner.current
        if running is job or (running is not None and running.answer.done()):
            return self._engine.running_stage(self._runner.thread) or "engine"
        return "queue"

    def _replace_if_stuck(self, job: _Job) -> None:
        if self._runner.current is not job:
            return
        self._stuck = [runner for runner in self._stuck if runner.is_alive()]
        if len(self._stuck) >= MAX_STUCK_THREADS:
            if not self.is_lost:
                logger.error("%d pipeline threads are stuck: nothing goes on", len(self._stuck))
            self.is_lost = True
            return
        logger.error("the pipeline is stuck in %s: a new thread goes on", self._late_stage(job))
        self._engine.leave_out_running_stage(self._runner.thread)
        self._runner.is_retired = True
        self._stuck.append(self._runner)
        self._runner = _Runner(self._engine, self._jobs, self._metrics)
