"""Work that needs nothing of what goes on meanwhile, in a process beside it.

Learning is long and much of it takes one core, so a second process halves the wait. It holds its
own data, so it costs memory too: with one process the same work is done when it is asked for.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Beside:
    """Starts work beside the caller's. Use it as a context manager."""

    def __init__(self, processes: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:  # spawned: forked processes hang in Polars, FAISS and torch
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes - 1, context)

    def __enter__(self) -> Self:
        """The starter itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for what runs, and start nothing that waits."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
        """Start `work`; calling what is returned waits for its result and raises its errors.

        With more than one process, `work` is a function of a module, and it, its arguments and
        its result are pickled.
        """
        if self._pool is None:
            return lambda: work(*args, **kwargs)
        return self._pool.submit(work, *args, **kwargs).result
