"""A bar of training steps with examples per second, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        return Text(f"{task.fields['examples'] / elapsed:,.0f} examples/s" if elapsed else "")


@contextmanager
def track(num_steps: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yields what is to be called once a step with its number of examples."""
    bar = Progress(
        TextColumn(f"  {'Two-tower':<28}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    seen = 0
    with bar:
        task = bar.add_task("train", total=num_steps, examples=0)

        def advance(num_examples: int) -> None:
            nonlocal seen
            seen += num_examples
            bar.update(task, advance=1, examples=seen)

        yield advance
