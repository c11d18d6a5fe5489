"""Export: a campaign's mails, or one slate for every user, by the engine that answers the RPC.

With --campaign FILE: who may be written to gets a mail as the file says, in Parquet, CSV and JSON
Lines, with a preview page; who gets none is in a second file, with the reason. Stopped at any
moment, run it again: it goes on. Without --campaign: a slate for every user who allows mails, as
Parquet.

The files lie in --out; `manifest.json` with their checksums is written last, so that an export
with a manifest is whole.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import polars as pl
from threadpoolctl import threadpool_limits

from feature_store.bundle import open_bundle
from feature_store.durable import replace_file
from feature_store.people import CONSENT_PREFIX, Consent, Moved, consent_key
from feature_store.registry import Registry
from feature_store.state import STATE_PREFIX
from feature_store.store import OnlineStore, open_store
from offline.campaigns import command as campaigns
from offline.catalog_changes import changes_of
from offline.home import Home
from offline.progress import Progress
from online.engine import Engine
from online.explain import reasons
from online.snapshot import open_snapshot
from online.types import Request, Slate

USERS_PER_PART: Final = 20_000
REQUESTS_PER_CALL: Final = 256

SCHEMA: Final = pl.Schema(
    {
        "user": pl.String(),
        "rank": pl.Int32(),
        "item": pl.String(),
        "title": pl.String(),
        "score": pl.Float32(),
        "source": pl.String(),
        "reason_code": pl.String(),
        "reason_text": pl.String(),
        "propensity": pl.Float32(),
        "model_version": pl.String(),
    }
)
"""The columns of an export: one row for each place of each slate, `user` the pseudonym."""


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What every user is asked for; `request_time` None: the bundle's horizon."""

    placement: str = "email"
    page_size: int = 20
    locale: str = "en"
    request_time: int | None = None


def export_slates(
    engine: Engine, store: OnlineStore, config: ExportConfig, out: Path, progress: Progress
) -> int:
    """Write a slate for each user in the store who allows mails into `out`; returns how many."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)
    users = _mailable(store)
    files = {}
    with progress.task("Exporting", len(users)) as advance, threadpool_limits(1):
        for number, part in enumerate(_chunks(iter(users), USERS_PER_PART)):
            rows = []
            for chunk in _chunks(iter(part), REQUESTS_PER_CALL):
                rows += _slate_rows(engine, config, chunk)
                advance(len(chunk))
            path = out / f"part-{number:05d}.parquet"
            pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(path)
            files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "model_version": engine.snapshot.model_version,
        "num_users": len(users),
        "placement": config.placement,
        "files": files,
    }
    replace_file(out / "manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
    return len(users)


def _mailable(store: OnlineStore) -> list[bytes]:
    """The users with a state of their own who allow mails, sorted."""
    refusals = dict(store.scan(CONSENT_PREFIX))
    return sorted(
        user
        for key, value in store.scan(STATE_PREFIX)
        if Consent.decode(refusals.get(consent_key(user := key.removeprefix(STATE_PREFIX)))).email
        and Moved.decode(value) is None
    )


def _chunks(users: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while chunk := list(islice(users, size)):
        yield chunk


def _slate_rows(
    engine: Engine, config: ExportConfig, users: list[bytes]
) -> list[tuple[object, ...]]:
    time = config.request_time
    if time is None:
        time = engine.snapshot.bundle.horizon_time
    requests = [
        Request(time, config.placement, user, page_size=config.page_size, locale=config.locale)
        for user in users
    ]
    return [
        row
        for user, slate in zip(users, engine.recommend_many(requests), strict=True)
        for row in _rows(engine, config, user, slate)
    ]


def _rows(
    engine: Engine, config: ExportConfig, user: bytes, slate: Slate
) -> Iterator[tuple[object, ...]]:
    titles = engine.snapshot.catalog.title
    for rank, item in enumerate(slate.items, 1):
        yield (
            user.hex(),
            rank,
            item.item,
            titles[item.index],
            item.score,
            item.source,
            item.reason.code,
            reasons.text(item.reason, config.locale),
            item.propensity,
            slate.model_version,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline export`."""
    parser.add_argument("--alias", default="champion", help="model to use (default: %(default)s)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="folder to write into")
    where.add_argument(
        "--abandon",
        type=Path,
        metavar="DIR",
        help="this export is not sent: free the money set aside for its coupons, write nothing",
    )
    parser.add_argument("--placement", default="email", help="default: %(default)s")
    parser.add_argument("--page-size", type=int, default=20, help="items a user (default: 20)")
    parser.add_argument("--locale", default="en", help="language of the reasons (default: en)")
    Home.add_arguments(parser)
    campaigns.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Resolve the alias, open its bundle and write the mails or slates."""
    if args.abandon is not None or args.campaign is not None:
        return campaigns.run(args)
    home = Home.from_arguments(args)
    registry = Registry(home.path, home.tracking_uri)
    bundle = open_bundle(registry.fetch(registry.resolve(args.alias), home.bundles))
    store = open_store(home.store)
    with closing(store), closing(changes_of(home, store)) as changes:
        engine = Engine(store, open_snapshot(bundle), log=changes)
        config = ExportConfig(args.placement, args.page_size, args.locale)
        num_users = export_slates(engine, store, config, args.out, Progress())
    print(f"{num_users:,} slates are in {args.out}")
    return 0
