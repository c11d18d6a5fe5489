"""What a worker counts: plain numbers, cheap to add to, sent as JSON and summed over workers.

Counting takes no lock: each key is counted by one thread. It knows no wire format and no
HTTP; what a family means is said here once, for the code and for the scrape.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

SECONDS: Final = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01),
    *(0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
STAGE_SECONDS: Final = (
    0.00001,
    0.00002,
    0.00005,
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.05,
)
NUMBERS: Final = (10, 20, 50, 100, 200, 300, 500, 1_000, 2_000)

Key = tuple[str, ...]
"""The name of a family and the values of its labels."""


class Family(NamedTuple):
    """What is counted under one name; `bounds` makes it a histogram, `is_level` a gauge."""

    name: str
    description: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    is_level: bool = False


REQUESTS: Final = "aisle_requests"
REQUEST_SECONDS: Final = "aisle_request_duration_seconds"
QUEUE_SECONDS: Final = "aisle_queue_duration_seconds"
STAGE_DURATION: Final = "aisle_stage_duration_seconds"
DEGRADED: Final = "aisle_degraded_stages"
CANDIDATES: Final = "aisle_candidates"
EVENTS: Final = "aisle_events"
WAITING: Final = "aisle_waiting_requests"
EXPOSURES_DROPPED: Final = "aisle_exposures_dropped"
WORKERS: Final = "aisle_workers"
RESTARTS: Final = "aisle_worker_restarts"
SWAPS: Final = "aisle_swaps"
BUNDLE: Final = "aisle_bundle_info"

FAMILIES: Final = (
    Family(REQUESTS, "Calls, by how they ended.", ("method", "placement", "code")),
    Family(REQUEST_SECONDS, "Time of a call in the server.", ("method", "placement"), SECONDS),
    Family(QUEUE_SECONDS, "Time that a request waited for its turn.", (), SECONDS),
    Family(STAGE_DURATION, "Time of a stage of the pipeline.", ("stage",), STAGE_SECONDS),
    Family(DEGRADED, "Stages that answers had to do without.", ("stage", "cause")),
    Family(CANDIDATES, "Candidates that were scored.", (), NUMBERS),
    Family(EVENTS, "Events that were written, by what became of them.", ("outcome",)),
    Family(WAITING, "Requests that wait for their turn.", (), is_level=True),
    Family(EXPOSURES_DROPPED, "Exposures that could not be kept.", ()),
    Family(WORKERS, "Workers that serve.", (), is_level=True),
    Family(RESTARTS, "Workers that were replaced.", ("cause",)),
    Family(SWAPS, "Bundles that were to be served.", ("outcome",)),
    Family(BUNDLE, "The bundle that is served.", ("bundle",), is_level=True),
)
BOUNDS: Final = {family.name: family.bounds for family in FAMILIES if family.bounds}


@dataclass(slots=True)
class Histogram:
    """How many values lie at or below each bound and above the one before; the last: above all."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Metrics:
    """Numbers by key; also the sum of those of several processes."""

    counts: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    levels: dict[Key, float] = field(default_factory=dict)
    _readers: dict[Key, Callable[[], float]] = field(default_factory=dict)

    def count(self, *key: str, by: float = 1) -> None:
        """Add to a count."""
        self.counts[key] = self.counts.get(key, 0) + by

    def observe(self, value: float, *key: str) -> None:
        """Add a value to a histogram."""
        histogram = self.histograms.get(key)
        if histogram is None:
            histogram = self.histograms[key] = Histogram([0] * (1 + len(BOUNDS[key[0]])))
        histogram.counts[bisect_left(BOUNDS[key[0]], value)] += 1
        histogram.total += value

    def read_from(self, reader: Callable[[], float], *key: str) -> None:
        """Ask `reader` for a number whenever all are sent."""
        self._readers[key] = reader

    def as_json(self) -> dict[str, Any]:
        """All numbers, as `add` takes them."""
        levels = {family.name for family in FAMILIES if family.is_level}
        read = [(key, float(reader())) for key, reader in self._readers.items()]
        return {
            "counts": [*self.counts.items(), *(one for one in read if one[0][0] not in levels)],
            "levels": [one for one in read if one[0][0] in levels],
            "histograms": [
                (key, list(one.counts), one.total) for key, one in list(self.histograms.items())
            ],
        }

    def add(self, numbers: Mapping[str, Any], *, with_levels: bool = True) -> None:
        """Add what a process sent; one that has ended has no levels any more."""
        for key, value in numbers.get("counts", ()):
            self.count(*key, by=value)
        for key, counts, total in numbers.get("histograms", ()):
            mine = self.histograms.setdefault(tuple(key), Histogram([0] * len(counts)))
            mine.counts = [a + b for a, b in zip(mine.counts, counts, strict=True)]
            mine.total += total
        for key, value in numbers.get("levels", ()) if with_levels else ():
            self.levels[tuple(key)] = self.levels.get(tuple(key), 0) + value


def sum_of(numbers: Iterable[Mapping[str, Any]]) -> Metrics:
    """The numbers of several processes together."""
    total = Metrics()
    for one in numbers:
        total.add(one)
    return total
