"""The serving bench in small: real processes, all keys, loads of a second."""

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from infra.bench.bench_serving import Plan, measure
from infra.bench.processes import BenchError, cpu_seconds, family, private_bytes, serving
from infra.bench.shop import Shop

KEYS = {
    "qps", "echo_qps", "ratio", "cpu_us_per_request", "p50_ms", "p99_ms", "whole_share", "ready_s",
    "swap_failed", "num_users",
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
    figures = measure(shop, plan, rows.append)
    assert figures.keys() >= KEYS
    assert [row.get("round") for row in rows] == [0, 1, None]
    assert figures["whole_share"] > 0.9
    assert figures["cpu_us_per_request"] > figures["echo_cpu_us_per_request"] > 0
    assert 0 < figures["ratio"] < 1
    assert figures["ready_s"] > 0


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
