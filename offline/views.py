"""Print every feature as it is declared: whose it is, what it is made of, how long it counts."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from feature_store.ranking import RATED_SOURCES
from feature_store.schema import EVENT_KINDS
from feature_store.views import View, all_views, fingerprint

HEADERS = ("feature", "of", "kept in", "made of", "counts", "type", "default")
MANY_KINDS = 8


def row(view: View) -> tuple[str, ...]:
    """A view as texts, in the order of HEADERS."""
    default = "-" if view.default is None else f"{view.default:g}"
    return (view.name, view.entity, view.kept, _kinds(view), _span(view), view.dtype, default)


def markdown(views: Sequence[View]) -> str:
    """The table as Markdown."""
    rows = [HEADERS, ("---",) * len(HEADERS), *map(row, views)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _kinds(view: View) -> str:
    if not view.kinds:
        return "promotions"
    if len(view.kinds) == len(EVENT_KINDS):
        return "all events"
    if len(view.kinds) > MANY_KINDS:
        absent = [kind for kind in EVENT_KINDS if kind not in view.kinds]
        return "all but " + ", ".join(absent)
    return ", ".join(view.kinds)


def _span(view: View) -> str:
    """How far back events count, and until when the value stays."""
    parts = []
    if view.half_life_days:
        parts.append("half-life " + ", ".join(f"{days:g}" for days in view.half_life_days) + " d")
    if view.window_days is not None:
        parts.append(f"last {view.window_days:g} d")
    if view.cap is not None:
        parts.append(f"latest {view.cap:,}")
    if view.ttl_days is not None:
        parts.append(f"gone after {view.ttl_days:g} d")
    return "; ".join(parts) or "for ever"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline features`."""
    parser.add_argument("--markdown", action="store_true", help="as Markdown, for a document")


def run(args: argparse.Namespace) -> int:
    """Print the table and the fingerprint of all declarations."""
    views = all_views(RATED_SOURCES)
    if args.markdown:
        print(markdown(views))
        return 0
    table = Table(*HEADERS, title=f"{len(views)} features, fingerprint {fingerprint(views)}")
    for view in views:
        table.add_row(*row(view))
    Console().print(table)
    return 0
