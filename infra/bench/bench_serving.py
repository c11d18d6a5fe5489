"""`make bench-serving`: what one worker gives over a shop of a million products, as JSON lines.

The real server and an echo server of the same contract are driven by the same loads in turns,
so that what the machine does to one it does to the other. The bundle has a ranker of the usual
size, unless told otherwise. Each round prints a line, the last line holds the medians. It knows the
server from outside only: its command line, its contract, its metrics and the pointer that it
follows.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

from infra.bench.load import Load, Outcome, send
from infra.bench.processes import (
    ROOT,
    BenchError,
    Served,
    echoing,
    environment,
    family,
    free_address,
    private_bytes,
    serving,
)
from infra.bench.ranked import as_champion
from infra.bench.scraping import Work
from infra.bench.shop import Shop, add_arguments, from_arguments, point_to, user_id
from infra.bench.twins import second_bundle

FIRST_RATE: Final = 100.0
LAST_RATE: Final = 20_000.0
GROWTH: Final = 1.6
NUM_BISECTIONS: Final = 3
PROBE_SECONDS: Final = 3.0
SATURATED_P50_MS: Final = 25.0
HEARTBEATS_S: Final = 1.5
"""What the server counts is seen from outside a moment later."""

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long is measured; users are drawn from the first `num_users`."""

    num_users: int
    num_rounds: int = 5
    round_seconds: float = 10.0
    num_swaps: int = 20
    swap_seconds: float = 3.0
    swap_timeout_s: float = 20.0
    probe_seconds: float = PROBE_SECONDS
    max_rate: float = LAST_RATE

    def load(self, served: Served, rate: float, seconds: float, seed: int) -> Load:
        """A load for a server and all processes that it consists of."""
        pids = tuple(family(served.pid))
        return Load(served.address, rate, seconds, self.num_users, seed=seed, cpu_of=pids)


def saturating_rate(served: Served, plan: Plan) -> float:
    """The highest rate in requests a second that the server keeps up with.

    It does while at least 99% of the replies are whole and the median latency stays short:
    above saturation the queue, and with it the median of an open loop, grows without end.
    """
    good, bad = 0.0, 0.0
    rate = FIRST_RATE
    while not bad and rate <= plan.max_rate:
        good, bad = (rate, 0.0) if _keeps_up(served, plan, rate) else (good, rate)
        rate *= GROWTH
    for _ in range(NUM_BISECTIONS if bad else 0):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if _keeps_up(served, plan, middle) else (good, middle)
    return good or FIRST_RATE / GROWTH


def _keeps_up(served: Served, plan: Plan, rate: float) -> bool:
    outcome = send(plan.load(served, rate, plan.probe_seconds, seed=int(rate)))
    return outcome.whole_share >= 0.99 and outcome.latency(50) < SATURATED_P50_MS


def measure(shop: Shop, plan: Plan, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The figures of one worker beside the echo server."""
    metrics = free_address()
    with serving(shop.home, "--metrics-address", metrics) as ours:
        reply = ours.ask(user_id(0)).SerializeToString()
        with echoing(reply, shop.home) as echo:
            qps = saturating_rate(ours, plan)
            echo_qps = saturating_rate(echo, plan)
            before = _work(metrics)
            rounds = _alternate(ours, echo, qps / 2, plan, report)
        figures = _figures(qps, echo_qps, rounds) | _work(metrics).since(before)
        figures |= {"ready_s": round(ours.ready_s, 3), "reply_bytes": len(reply)}
        report(figures)
        return figures | _swaps(shop, ours, qps / 4, plan)


def _work(metrics_address: str) -> Work:
    """What the server has done until now."""
    time.sleep(HEARTBEATS_S)
    return Work.of(metrics_address)


def _alternate(
    ours: Served, echo: Served, rate: float, plan: Plan, report: Callable[[dict[str, Any]], None]
) -> list[tuple[Load, Outcome, Outcome]]:
    """The load, our outcome and the echo's for each round."""
    rounds = []
    for number in range(plan.num_rounds):
        load = plan.load(ours, rate, plan.round_seconds, seed=number)
        outcome = send(load)
        echoed = send(plan.load(echo, rate, plan.round_seconds, seed=number))
        rounds.append((load, outcome, echoed))
        report({"round": number, "rate": round(rate, 1), **_row(outcome, echoed)})
    return rounds


def _row(ours: Outcome, echo: Outcome) -> dict[str, Any]:
    return {
        "cpu_us_per_request": round(ours.cpu_us, 1),
        "echo_cpu_us_per_request": round(echo.cpu_us, 1),
        "ratio": round(echo.cpu_us / ours.cpu_us, 4),
        "p50_ms": round(ours.latency(50), 3),
        "p99_ms": round(ours.latency(99), 3),
        "echo_p99_ms": round(echo.latency(99), 3),
        "late_p99_ms": ours.late_p99_ms,
        "whole_share": round(ours.whole_share, 5),
        "statuses": ours.statuses,
    }


def _figures(
    qps: float, echo_qps: float, rounds: list[tuple[Load, Outcome, Outcome]]
) -> dict[str, Any]:
    """Medians over the rounds; shares and users over all of them."""
    rows = [_row(ours, echo) for _, ours, echo in rounds]
    numbers = {
        name: median(row[name] for row in rows)
        for name in rows[0]
        if name not in {"statuses", "whole_share"}
    }
    num_sent = sum(ours.num_sent for _, ours, _ in rounds)
    num_whole = sum(ours.num_whole for _, ours, _ in rounds)
    users = {user for load, _, _ in rounds for user in load.users().tolist()}
    return {
        "qps": round(qps, 1),
        "echo_qps": round(echo_qps, 1),
        **numbers,
        "whole_share": round(num_whole / num_sent, 5),
        "num_requests": num_sent,
        "num_users": len(users),
    }


def _swaps(shop: Shop, served: Served, rate: float, plan: Plan) -> dict[str, Any]:
    """What changes of the champion do to a quarter of the saturating load.

    `swap_failed` is None when the server does not follow the pointer.
    """
    bundles = (second_bundle(shop), shop.bundle)
    seconds = plan.num_swaps * plan.swap_seconds
    calm = send(plan.load(served, rate, seconds, seed=101))
    try:
        if _swap(shop, served, bundles, 0, plan) is None:
            return {"swap_failed": None, "num_swaps": 0}
        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(send, plan.load(served, rate, seconds, seed=102))
            swap_s = [
                _swap(shop, served, bundles, 1 + number, plan) for number in range(plan.num_swaps)
            ]
            busy = loaded.result()
    finally:
        point_to(shop, shop.bundle)
    done = [elapsed_s for elapsed_s in swap_s if elapsed_s is not None]
    return {
        "swap_failed": busy.num_failed,
        "num_swaps": len(done),
        "swap_s": round(median(done), 3) if done else None,
        "swap_whole_share": round(busy.whole_share, 5),
        "calm_p99_ms": round(calm.latency(99), 3),
        "swap_p99_ms": round(busy.latency(99), 3),
        "swap_p99_ratio": round(busy.latency(99) / calm.latency(99), 3),
    }


def _swap(
    shop: Shop, served: Served, bundles: tuple[Path, Path], number: int, plan: Plan
) -> float | None:
    """Move the pointer; seconds until a reply names the new bundle, None when none does.

    Returns when the next change is due, at the earliest.
    """
    started_s = perf_counter()
    bundle = bundles[number % 2]
    point_to(shop, bundle, version=number + 2)
    elapsed_s = None
    while elapsed_s is None and perf_counter() - started_s < plan.swap_timeout_s:
        time.sleep(0.1)
        if served.ask(user_id(0)).model_version == bundle.name:
            elapsed_s = perf_counter() - started_s
    time.sleep(max(0.0, started_s + plan.swap_seconds - perf_counter()))
    return elapsed_s


def second_worker_mb(shop: Shop, plan: Plan) -> float | None:
    """Private memory in MiB of the second of two workers after some load.

    None when the server has no workers to choose. The workers are the two processes with most
    memory of their own, of which the smaller counts the least: it is the larger that is given.
    """
    said = subprocess.run(
        [sys.executable, "-m", "online", "serve", "--help"],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "--workers" not in said:
        return None
    with serving(shop.home, "--workers", "2") as served:
        send(plan.load(served, FIRST_RATE, plan.round_seconds, seed=201))
        sizes = sorted(private_bytes(pid) for pid in family(served.pid)[1:])
    return round(sizes[-1] / MIB, 1) if len(sizes) >= 2 else None


def main() -> int:
    """Build the shop if needed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--plain", action="store_true", help="without a ranker")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round (%(default)s)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        with as_champion(from_arguments(args), is_plain=args.plain) as shop:
            plan = Plan(min(shop.num_users, 100_000), args.rounds, args.seconds)
            figures = measure(shop, plan, _print) | {"is_ranked": not args.plain}
            _print(figures | {"second_worker_mb": second_worker_mb(shop, plan)})
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _print(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
