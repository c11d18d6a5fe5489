"""`python -m offline export --campaign FILE`: from the options to an export, told in a table."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from feature_store.registry import Registry
from offline.campaigns.abandoning import abandon
from offline.campaigns.exporting import Job, export_campaign
from offline.campaigns.fields import described
from offline.campaigns.planning import Shard
from offline.campaigns.reading import read_campaign
from offline.errors import CampaignError
from offline.home import Home
from offline.progress import Progress

MAX_SHARDS: Final = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that concern campaigns."""
    group = parser.add_argument_group("campaigns")
    group.add_argument("--campaign", type=Path, help="the campaign's file (TOML), see below")
    group.add_argument("--shard", default="1/1", help="part i of n of the people, as 2/8")
    group.add_argument("--preview", type=int, help="how many mails the preview page shows")
    group.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes; 0: none beside this one (default: %(default)s)",
    )
    parser.epilog = described()


def run(args: argparse.Namespace) -> int:
    """Export the campaign, or abandon an export; exit code 0 when it is whole, or gone."""
    home = Home.from_arguments(args)
    if args.abandon is not None:
        num_sums = abandon(home, args.abandon)
        print(f"{num_sums:,} sums that {args.abandon} held are free; do not send it")
        return 0
    campaign = read_campaign(args.campaign)
    if args.preview is not None:
        campaign = replace(campaign, preview_users=args.preview)
    registry = Registry(home.path, home.tracking_uri)
    bundle = registry.fetch(registry.resolve(args.alias), home.bundles)
    job = Job(campaign, home, bundle, args.out, shard_of(args.shard), args.workers)
    manifest = export_campaign(job, Progress())
    print_manifest(manifest, job.folder.path)
    return 0


def shard_of(text: str) -> Shard:
    """The shard of a text such as `2/8`. Raises CampaignError."""
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= MAX_SHARDS:
        return Shard(int(number), int(count))
    raise CampaignError(f"--shard {text} should be i/n with i from 1 to n, such as 2/8")


def print_manifest(manifest: dict[str, Any], folder: Path) -> None:
    """Who was written to, who was not, and where it is."""
    table = Table(title=f"Campaign {manifest['campaign']}, model {manifest['model_version']}")
    table.add_column("people")
    table.add_column("number", justify="right")
    table.add_row("get a mail", f"{manifest['num_users']:,}")
    for reason, num in manifest["left_out"].items():
        table.add_row(f"none: {reason.replace('_', ' ')}", f"{num:,}")
    console = Console()
    console.print(table)
    console.print(f"Look at {folder / 'preview.html'} before you send it.", soft_wrap=True)
