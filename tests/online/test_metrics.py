"""Metrics: counted by every worker, summed, scraped."""

import json
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Callable
from functools import partial

import grpc
from prometheus_client.parser import text_string_to_metric_families

from online.metrics import DEGRADED, FAMILIES, REQUEST_SECONDS, Metrics, sum_of
from tests.online.serving import ROOT, Caller, Start, event, refused
from tests.online.test_supervisor import NUM_CALLERS, address_of, until
from tests.worlds import user_id

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def test_numbers_of_workers_are_summed() -> None:
    first, second = Metrics(), Metrics()
    for metrics in (first, second):
        metrics.count(DEGRADED, "source.als", "failed", by=2)
        metrics.observe(0.0004, REQUEST_SECONDS, "Recommend", "home")
    second.observe(100.0, REQUEST_SECONDS, "Recommend", "home")
    sent = [json.loads(json.dumps(metrics.as_json())) for metrics in (first, second)]
    total = sum_of(sent)
    assert total.counts == {(DEGRADED, "source.als", "failed"): 4}
    histogram = total.histograms[REQUEST_SECONDS, "Recommend", "home"]
    assert (histogram.counts[1], histogram.counts[-1], sum(histogram.counts)) == (2, 1, 3)
    assert round(histogram.total, 4) == 100.0008


def test_names_follow_the_conventions() -> None:
    for family in FAMILIES:
        assert family.name.startswith("aisle_")
        assert family.description.endswith(".")
        assert not family.name.endswith("_total")  # the exposition adds it


def test_a_scrape_sums_over_workers(start: Start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics_address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = start("--workers", "2", "--metrics-address", metrics_address)
    scrape = partial(samples, metrics_address)
    callers = [Caller(address_of(server)) for _ in range(NUM_CALLERS)]
    for user, caller in enumerate(callers):
        caller.recommend(user_id(user))
        caller.write(event(user_id="u", event_id="same"))
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            caller.recommend(placement="made up")

    assert_soon(scrape, NUM_CALLERS, "aisle_requests_total", "Recommend", "home", "OK")
    number_of = partial(number, scrape())
    assert number_of("aisle_requests_total", "Recommend", "unknown", "INVALID_ARGUMENT") == 8
    assert number_of("aisle_request_duration_seconds_count", "Recommend", "home") == NUM_CALLERS
    assert number_of("aisle_events_total", "accepted") == 1
    assert number_of("aisle_events_total", "duplicate") == NUM_CALLERS - 1
    assert number_of("aisle_workers") == 2
    assert number_of("aisle_bundle_info", server.ready_line.split()[3]) == 1
    assert number_of("aisle_stage_duration_seconds_count", "source.als") > NUM_CALLERS

    os.kill(server.workers()[0], signal.SIGKILL)
    assert_soon(scrape, 1, "aisle_worker_restarts_total", "died")
    assert_soon(scrape, NUM_CALLERS, "aisle_requests_total", "Recommend", "home", "OK")
    for caller in callers:
        caller.close()
    assert server.terminate() == 0


def samples(address: str) -> Samples:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


def number(samples: Samples, name: str, *labels: str) -> float:
    """The value of the sample of this name with these values of labels."""
    found = [
        value
        for (one, pairs), value in samples.items()
        if one == name and {label for _, label in pairs} == set(labels)
    ]
    return sum(found)


def assert_soon(scrape: Callable[[], Samples], value: float, name: str, *labels: str) -> None:
    """The sample gets this value once the workers have sent what they counted."""
    until(lambda: number(scrape(), name, *labels) == value, f"{name} {labels} {value}")


def test_the_dashboard_asks_for_what_there_is() -> None:
    panels = json.loads((ROOT / "infra" / "dashboards" / "aisle.json").read_text())["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    names = {family.name for family in FAMILIES}
    found = set(re.findall(r"aisle_[a-z_]+?(?=_total|_bucket|[^a-z_]|$)", asked))
    assert found <= names
    assert len(found) >= 10
