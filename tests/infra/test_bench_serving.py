"""The serving bench in small: real processes, all keys, loads of a second."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from feature_store.bundle import open_bundle
from feature_store.pointer import read_pointer
from feature_store.ranking import FEATURES_FILE, MODEL_FILE
from infra.bench import ranked
from infra.bench.bench_serving import Plan, measure
from infra.bench.processes import BenchError, cpu_seconds, family, private_bytes, serving
from infra.bench.ranked import as_champion, ranked_bundle
from infra.bench.scraping import Work
from infra.bench.shop import Shop

KEYS = {
    "qps", "echo_qps", "ratio", "cpu_us_per_request", "p50_ms", "p99_ms", "whole_share", "ready_s",
    "swap_failed", "num_users", "num_sources", "num_candidates",
}  # fmt: skip


def test_both_servers_are_measured(shop: Shop) -> None:
    rows: list[dict[str, Any]] = []
    plan = Plan(
        shop.num_users,
        num_rounds=2,
        round_seconds=1.0,
        num_swaps=2,
        swap_seconds=0.5,
        swap_timeout_s=1.0,
        probe_seconds=0.5,
        max_rate=100.0,
    )
    with as_champion(shop, is_plain=False) as measured:
        figures = measure(measured, plan, rows.append)
    assert figures.keys() >= KEYS
    assert [row.get("round") for row in rows] == [0, 1, None]
    assert figures["whole_share"] > 0.9
    assert figures["cpu_us_per_request"] > figures["echo_cpu_us_per_request"] > 0
    assert 0 < figures["ratio"] < 1
    assert figures["ready_s"] > 0
    assert figures["num_sources"] >= 5
    assert figures["num_candidates"] >= 20
    assert read_pointer(shop.home).directory == shop.bundle


def test_the_ranked_bundle_has_what_the_shop_has_and_a_ranker(shop: Shop) -> None:
    twin = open_bundle(ranked_bundle(shop))
    first = open_bundle(shop.bundle)
    more = {MODEL_FILE, FEATURES_FILE}
    assert twin.manifest.files.keys() == first.manifest.files.keys() | more
    assert ranked_bundle(shop) == twin.directory


def test_a_ranked_bundle_of_other_features_is_made_anew(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ranked_bundle(shop)
    monkeypatch.setattr(ranked, "feature_names", lambda _: ("count_log", "other"))
    after = ranked_bundle(shop)
    assert after != before
    assert json.loads((after / FEATURES_FILE).read_bytes()) == ["count_log", "other"]


def test_work_is_counted_between_two_looks() -> None:
    before = Work(10.0, 100.0, {"source.a": 10.0, "source.b": 30.0})
    after = Work(20.0, 4_100.0, {"source.a": 20.0, "source.b": 30.0, "source.c": 10.0})
    assert after.since(before) == {"num_sources": 2, "num_candidates": 400.0}


def test_cpu_time_is_that_of_the_process() -> None:
    before_s, own_s = cpu_seconds([os.getpid()]), time.process_time()
    sum(range(2_000_000))
    used_s = cpu_seconds([os.getpid()]) - before_s
    assert used_s == pytest.approx(time.process_time() - own_s, rel=0.2, abs=0.01)


def test_children_and_their_memory_are_found() -> None:
    code = "import time; block = bytearray(64 << 20); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in family(os.getpid())
        assert 64 << 20 < private_bytes(child.pid) < 128 << 20
        child.kill()


def test_a_server_that_does_not_start_says_why(shop: Shop) -> None:
    with (
        pytest.raises(BenchError, match="champion"),
        serving(shop.home, "--home", str(shop.home / "nowhere")),
    ):
        pass
