"""`python -m offline ingest`: the shell's way into `offline.ingest.job`."""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from feature_store.ids import KEY_VARIABLE, Pseudonymizer, load_key
from feature_store.schema import TABLES
from feature_store.tombstones import Tombstones, load_tombstone_key
from offline.adapters.complete_journey import complete_journey_sources
from offline.errors import MappingError, SourceError
from offline.home import Home
from offline.ingest.files import Source, find_sources
from offline.ingest.job import MAX_QUARANTINED, IngestJob, Limits, ingest
from offline.ingest.mapping import ShopMapping, read_mapping
from offline.ingest.report import print_summary
from offline.ingest.summary import Summary
from offline.progress import Progress
from offline.quality import check

SHOPS: Final[Mapping[str, Callable[[], Mapping[str, Sequence[Source]]]]] = {
    "completejourney": complete_journey_sources,
}

DESCRIPTION: Final = """\
Read a shop's Parquet, CSV or JSONL files, check every row, and store canonical tables in a folder.

A path is a file, a folder (all files in it) or a glob in quotes. Columns that have the
canonical names need no mapping; for others write a small TOML file:

    [events]
    event_time = { column = "ordered_at", timezone = "Europe/Berlin" }
    user = "customer_no"
    item = "sku"
    kind = { value = "purchase" }

    [products]
    item = "sku"
    title = "name"
    category = { columns = ["department", "group"] }
"""

EPILOG: Final = f"""\
examples:
  python -m offline ingest --events orders.csv --products products.csv \\
      --mapping mapping.toml
  python -m offline ingest --events "export/2026-*/*.parquet"    (adds what is new)
  python -m offline ingest --shop completejourney                (the demo's shop)

Rows that break the schema go to OUT/quarantine/TABLE.parquet with a reason; the summary counts
them. User and session ids are replaced by pseudonyms under the key in {KEY_VARIABLE},
or under one that is made on first use in HOME. Running again with the same input changes
nothing; new input is merged by event_id within each day, and by key in the other tables.

exit codes:  0 stored   2 a file or the mapping is not what it claims
             3 more rows than --max-quarantined break the schema; nothing was stored
             6 stored, but counts, nulls, ranges or drift of the newest days break a limit:
               see OUT/quality.json and `python -m offline quality`
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and declare its options on `parser`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name in TABLES:
        parser.add_argument(
            f"--{name}", metavar="PATH", action="append", default=[], help=f"file(s) of {name}"
        )
    parser.add_argument("--shop", choices=sorted(SHOPS), help="a known public shop instead")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="column mapping in TOML")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the tables (default: HOME/tables)"
    )
    Home.add_arguments(parser)
    parser.add_argument(
        "--max-quarantined",
        type=_share,
        default=MAX_QUARANTINED,
        metavar="SHARE",
        help="share of bad rows, 0 to 1, above which nothing is stored (default: 0.05)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")


def run(args: argparse.Namespace) -> int:
    """Ingest and print the summary; 0 when the tables were stored and are fit to learn from.

    Raises an OfflineError, or a SettingsError of the feature store, with one line that says
    what to do.
    """
    mapping = ShopMapping() if args.mapping is None else read_mapping(args.mapping)
    home = Home.from_arguments(args)
    out = home.tables if args.out is None else args.out
    job = IngestJob(
        sources=_sources(args, mapping),
        out=out,
        mapping=mapping,
        limits=Limits(max_quarantined=args.max_quarantined),
    )
    key = load_key(home.path)
    tombstones = Tombstones(home.path, load_tombstone_key(home.path, key))
    console = Console()

    def report(summary: Summary) -> None:
        print_summary(summary, out, console)

    ingest(job, Pseudonymizer(key), Progress(args.quiet), report, tombstones)
    return check(out, console)


def _sources(args: argparse.Namespace, mapping: ShopMapping) -> Mapping[str, Sequence[Source]]:
    given = {name: getattr(args, name) for name in TABLES if getattr(args, name)}
    if bool(args.shop) == bool(given):
        raise MappingError("say what to ingest: either --events PATH and others, or --shop NAME")
    if args.shop and args.mapping:
        raise MappingError("a known shop needs no --mapping; leave it out")
    if args.shop:
        return SHOPS[args.shop]()
    return {name: _found(paths, mapping) for name, paths in given.items()}


def _found(paths: Sequence[str], mapping: ShopMapping) -> list[Source]:
    """The sources at all paths; SourceError for a file found twice: its rows would count twice."""
    sources = [source for path in paths for source in find_sources(path, mapping.csv)]
    (name, times), *_ = Counter(source.name for source in sources).most_common(1)
    if times > 1:
        raise SourceError(f"{name} is named {times} times; name it once")
    return sources


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return share
