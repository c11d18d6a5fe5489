"""Changes of products under load, on two workers of a real server, and after `kill -9`."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.online.serving import Caller, ServerProcess, Start
from tests.online.test_service_catalog import EVEN, delete, everything, product, upsert
from tests.worlds import user_id

NUM_CALLERS = 6
"""So many connections are spread over both workers, but for one chance in thirty-two."""


@dataclass
class Load:
    """Callers that ask all the time; `num_answers` says how many answers they got."""

    num_answers: int = 0
    errors: list[Exception] = field(default_factory=list)


@contextmanager
def asking(address: str, num_threads: int = 4) -> Iterator[Load]:
    """Ask the server for home pages as fast as it answers, from several connections."""
    load, is_over = Load(), threading.Event()

    def ask(number: int) -> None:
        caller = Caller(address)
        for turn in itertools.count():
            if is_over.is_set():
                break
            try:
                caller.recommend(user_id((number + 7 * turn) % 40))
                load.num_answers += 1
            except Exception as error:  # told to the test at the end
                load.errors.append(error)
        caller.close()

    with ThreadPoolExecutor(num_threads) as threads:
        for number in range(num_threads):
            threads.submit(ask, number)
        try:
            yield load
        finally:
            is_over.set()


def callers_of(server: ServerProcess) -> list[Caller]:
    address = server.ready_line.split()[-1]
    return [Caller(address) for _ in range(NUM_CALLERS)]


def test_changes_are_in_the_next_answer_of_every_worker_under_load(start: Start) -> None:
    server = start("--workers", "2")
    callers = callers_of(server)
    waits_s = []
    with asking(callers[0].address) as load:
        for number in range(12):
            writer, item = callers[number % NUM_CALLERS], f"new{number:02}"
            upsert(writer, product(item, title="Even new thing", category=EVEN))
            acknowledged_s = time.perf_counter()
            for caller in callers:
                assert item in everything(caller)
            waits_s.append((time.perf_counter() - acknowledged_s) / NUM_CALLERS)
        for number in range(0, 30, 2):
            item = f"p{number:02}"
            if number % 4:
                delete(callers[number % NUM_CALLERS], item)
            else:
                sold_out = product(item, num_in_stock=0)
                upsert(callers[number % NUM_CALLERS], sold_out, mask="product.num_in_stock")
            for caller in callers:
                assert item not in everything(caller)
    assert not load.errors
    assert load.num_answers > 0
    assert max(waits_s) < 1.0
    for caller in callers:
        caller.close()


def test_acknowledged_changes_survive_a_kill(start: Start) -> None:
    server = start("--workers", "2")
    (caller, *others) = callers_of(server)
    for number in range(5):
        upsert(caller, product(f"new{number}", title="Even new thing", category=EVEN))
    delete(caller, "p00")
    sold_out = product("p02", available=False)
    upsert(caller, sold_out, mask="product.available")
    server.kill()
    again = start("--workers", "2")
    for caller in callers_of(again):
        found = everything(caller)
        assert {f"new{number}" for number in range(5)} <= set(found)
        assert {"p00", "p02"}.isdisjoint(found)
        caller.close()
    for caller in others:
        caller.close()


def test_a_worker_that_is_replaced_knows_what_changed(start: Start) -> None:
    server = start("--workers", "2")
    (caller, *_) = callers_of(server)
    upsert(caller, product("tea", title="Even tea", category=EVEN))
    first, _ = server.workers()
    os.kill(first, signal.SIGKILL)
    server.read_log_until("serves again")
    for one in callers_of(server):
        assert "tea" in everything(one)
        one.close()


@pytest.mark.prove
def test_ten_thousand_new_products(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A shop's whole delivery between two trainings, while it is asked; prints its times."""
    server = start("--workers", "2")
    callers = callers_of(server)
    acknowledged_s, shown_s = [], []
    with asking(callers[0].address) as load:
        for batch in range(10):
            items = [
                product(f"b{batch}n{n:03}", title=f"Even batch{batch} {n}", category=EVEN)
                for n in range(1_000)
            ]
            started_s = time.perf_counter()
            upsert(callers[0], *items)
            acknowledged_s.append(time.perf_counter() - started_s)
            for caller in callers:
                asked_s = time.perf_counter()
                while not everything(caller, filter=f"text:batch{batch}"):
                    assert time.perf_counter() - asked_s < 1.0
                shown_s.append(time.perf_counter() - asked_s)
    assert not load.errors
    assert max(shown_s) < 1.0
    figures = {
        "num_products": 10_000,
        "acknowledged_s_for_1000_p50": round(float(np.median(acknowledged_s)), 3),
        "next_answer_s_p50": round(float(np.median(shown_s)), 4),
        "next_answer_s_max": round(max(shown_s), 4),
        "answers_meanwhile": load.num_answers,
    }
    with capsys.disabled():
        print(json.dumps(figures))
