"""The benchmark of the stores runs, small, and prints what it says it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--users", "60", "--reads", "20", "--batches", "1", "--effects", "3")
FIGURES = {
    "state_kb",
    "get_us_p50",
    "get_us_p99",
    "events_per_s",
    "applied_events_per_s",
    "event_to_effect_ms_p50",
    "event_to_effect_ms_p99",
    "rss_mb",
    "load_average",
}


def test_each_store_gets_a_line(tmp_path: Path) -> None:
    nowhere = "redis://127.0.0.1:1"
    done = subprocess.run(
        [
            sys.executable,
            "infra/bench_store.py",
            "--directory",
            tmp_path,
            "--redis",
            nowhere,
            *SMALL,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    memory, lmdb, redis = (json.loads(line) for line in done.stdout.splitlines())
    assert {memory["store"], lmdb["store"], redis["store"]} == {"memory", "lmdb", "redis"}
    assert lmdb.keys() == FIGURES | {"store", "missed"}
    assert all(lmdb[name] > 0 for name in FIGURES)
    assert memory.keys() < lmdb.keys()
    assert "server failed" in redis["unavailable"]
    assert list(tmp_path.iterdir()) == []
