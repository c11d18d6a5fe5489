"""How a summary looks on a terminal: one table of counts, then what needs attention."""

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from feature_store.schema import TABLES
from offline.ingest.keyed import quarantine_path
from offline.ingest.summary import Summary, TableCount, time_text

_MANY_DUPLICATES: Final = 0.05


def print_summary(summary: Summary, root: Path, console: Console) -> None:
    """Print the counts of every table in `root`, and loudly what a person should look at."""
    grid = RichTable(title="Ingested", title_justify="left")
    for header in ("table", "read", "accepted", "quarantined", "duplicates", "new"):
        grid.add_column(header, justify="left" if header == "table" else "right", no_wrap=True)
    for count in summary.tables:
        grid.add_row(count.table, *(f"{number:,}" for number in _numbers(count)))
        for reason, rows in sorted(count.quarantined.items(), key=lambda entry: -entry[1]):
            grid.add_row(f"  {reason}", "", "", f"{rows:,}", "", "", style="yellow")
    console.print(grid)
    for count in summary.tables:
        for line in _lines(count, summary.max_quarantined, root):
            console.print(line, highlight=False, soft_wrap=True)


def _numbers(count: TableCount) -> tuple[int, ...]:
    return (
        count.num_read,
        count.num_accepted,
        count.num_quarantined,
        count.num_duplicates,
        count.num_new,
    )


def _lines(count: TableCount, max_quarantined: float, root: Path) -> list[str]:
    lines = []
    if count.first_time is not None and count.last_time is not None:
        lines.append(
            f"{count.table}: {time_text(count.first_time)} to {time_text(count.last_time)}, "
            f"about {count.num_users or 0:,} users and {count.num_items or 0:,} items"
        )
    if count.num_duplicates > _MANY_DUPLICATES * count.num_read:
        lines.append(
            f"[bold yellow]{count.num_duplicates:,} {count.table} repeat the key of another row "
            f"and were dropped.[/] {_DUPLICATE_ADVICE.get(count.table, '')}"
        )
    if count.num_quarantined:
        path = quarantine_path(root, TABLES[count.table])
        lines.append(
            f"{count.table}: quarantined rows, with their reasons, are in {escape(str(path))}"
        )
    if count.quarantined_share > max_quarantined:
        lines.append(
            f"[bold red]TOO MANY BAD ROWS: {count.quarantined_share:.1%} of the {count.table} "
            f"break the schema; {max_quarantined:.1%} are allowed. Nothing was stored.[/]"
        )
    return lines


_DUPLICATE_ADVICE: Final = {
    "events": "If event_id is an order number, map it as basket and leave event_id out."
}
