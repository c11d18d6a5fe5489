"""Notes the features of some answers, for `python -m offline parity` to compute again.

The ranker hands over the very matrix that it scored. What is noted with it lets an offline job
ask the same question of the same knowledge. It changes no answer.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from feature_store.served import PARITY_FOLDER, Served, ServedLog
from online.snapshot import Snapshot
from online.stages.ranker import Ranker
from online.stages.visitors import ForVisitors
from online.types import Indexes, Query, Request, Scorer, Scores

Observe = Callable[[Query, Indexes, Scores], None]


class Sampler:
    """Notes the features of a share of the requests of known users."""

    def __init__(self, log: ServedLog, share: float, read_clock: Callable[[], int]) -> None:
        """`share` is from 0 to 1; `read_clock` gives the wall clock, microseconds UTC."""
        self._log = log
        self._limit = share * 2**32
        self._read_clock = read_clock

    def watch(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with rankers that tell of what they score.

        Not of answers in which a product plays a part that the bundle lacks: what stood in its
        columns is kept nowhere.
        """
        num_items = len(snapshot.catalog)

        def observe(query: Query, items: Indexes, features: Scores) -> None:
            came_later = max(int(items[-1]), int(query.owned.max(initial=-1))) >= num_items
            if query.request.user and _dice(query.request) < self._limit and not came_later:
                self._log.keep(self._served(query, items, features, snapshot.model_version))

        return observed(snapshot, observe)

    def _served(self, query: Query, items: Indexes, features: Scores, version: str) -> Served:
        seen = query.state.seen
        return Served(
            request=to_json(query.request),
            read_time=self._read_clock(),
            last_event=int(seen[-1]) if len(seen) else 0,
            num_events=int(query.state.totals["num_events"][0]),
            model_version=version,
            items=items,
            features=features,
        )


@contextmanager
def sampling(
    home: Path, worker: int, share: float, read_clock: Callable[[], int]
) -> Iterator[Callable[[Snapshot], Snapshot] | None]:
    """What makes a worker's snapshots note a share of the requests; None for no share."""
    if not share:
        yield None
        return
    with closing(ServedLog(home / PARITY_FOLDER, worker)) as log:
        yield Sampler(log, share, read_clock).watch


def observed(snapshot: Snapshot, observe: Observe) -> Snapshot:
    """The snapshot with rankers that call `observe` with what they have scored."""
    pipelines = {
        name: replace(pipeline, scorer=_observed(pipeline.scorer, observe))
        for name, pipeline in snapshot.pipelines.items()
    }
    return replace(snapshot, pipelines=pipelines)


def _observed(scorer: Scorer, observe: Observe) -> Scorer:
    if isinstance(scorer, ForVisitors):
        return replace(scorer, ranker=replace(scorer.ranker, observe=observe))
    return replace(scorer, observe=observe) if isinstance(scorer, Ranker) else scorer


def to_json(request: Request) -> dict[str, Any]:
    """A request as JSON values, pseudonyms in hexadecimal."""
    values = asdict(request)
    return values | {"user": request.user.hex(), "session": request.session.hex()}


def _dice(request: Request) -> int:
    """The same number from 0 to 2^32 - 1 for the same request."""
    return crc32(request.user + request.request_time.to_bytes(8, "little", signed=True))
