"""Progress bars for long work, on standard error, silent when nobody watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

FAST: Final = 1_000.0
"""From so many steps a second on, the speed says more than the steps."""


class _Rate(ProgressColumn):
    """Steps a second, for work of many small steps."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{speed:,.0f}/s" if speed >= FAST else "")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where progress is shown. `quiet` shows nothing, for tests and libraries."""

    quiet: bool = False

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of `total` steps; the value yielded advances it."""
        bar = RichProgress(
            TextColumn("  {task.description:<28}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=self.quiet,
        )
        with bar:
            task = bar.add_task(title, total=total)
            yield lambda steps: bar.advance(task, steps)


QUIET = Progress(quiet=True)
