"""The metrics of all workers as Prometheus scrapes them, over HTTP on a thread of its own.

It knows how a family is written, not where its numbers come from.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from feature_store.errors import SettingsError
from online.metrics import FAMILIES, Family, Histogram, Metrics

INFINITY: Final = "+Inf"


class Exposition(Collector):
    """All families; `read` gives the numbers of the moment."""

    def __init__(self, read: Callable[[], Metrics]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        metrics = self._read()
        return [_written(family, metrics) for family in FAMILIES]


@contextmanager
def exposed(address: str, read: Callable[[], Metrics]) -> Iterator[None]:
    """Answer scrapes at `address`. Raises SettingsError when it cannot be had."""
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    registry.register(Exposition(read))
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"cannot listen on {address}: it is in use or not ours; "
            "set another with AISLE_METRICS_ADDRESS or --metrics-address"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _written(family: Family, metrics: Metrics) -> Metric:
    name, description, labels = family.name, family.description, family.labels
    if family.bounds:
        histograms = HistogramMetricFamily(name, description, labels=labels)
        for key, one in metrics.histograms.items():
            if key[0] == name:
                histograms.add_metric(key[1:], _buckets(family, one), one.total)
        return histograms
    kind = GaugeMetricFamily if family.is_level else CounterMetricFamily
    numbers = kind(name, description, labels=labels)
    for key, value in (metrics.levels if family.is_level else metrics.counts).items():
        if key[0] == name:
            numbers.add_metric(key[1:], value)
    return numbers


def _buckets(family: Family, histogram: Histogram) -> list[tuple[str, float]]:
    bounds = (*map(str, map(float, family.bounds)), INFINITY)
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
