"""The demo: a real shop's year of purchases in, recommendations over gRPC out.

Does with the library's own jobs what a shop would do by hand: ingest, train, materialize,
sync, serve, ask. The server is a process of its own, started and stopped here.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from rich.console import Console

from feature_store.ids import Pseudonymizer, load_key
from feature_store.pointer import read_pointer
from feature_store.registry import Registry
from feature_store.store import open_store
from offline.adapters.complete_journey import complete_journey_sources
from offline.beside import Beside
from offline.campaigns.command import print_manifest
from offline.campaigns.exporting import Job, export_campaign
from offline.campaigns.parts import PREVIEW
from offline.campaigns.reading import read_campaign
from offline.home import Home
from offline.ingest.job import IngestJob, ingest
from offline.ingest.report import print_summary
from offline.materialize import materialize
from offline.people import write_people
from offline.progress import QUIET, Progress
from offline.recipe import completejourney
from offline.report import print_judgements, print_verdict
from offline.serving import serving
from offline.sync import sync
from offline.train import Trained, train
from online.client import Client, print_coupons, print_found, print_slate
from online.talking import Talker, print_answer

CAMPAIGN: Final = """
campaign = "demo"
title = "From your shop"
subject = "{name}, {top_title} and more for you"
diversity = 0.3
preview_users = 9

[audience]
file = "people.csv"
user_column = "household"
filter = "num_orders >= 5"

[hold_out]
share = 0.1
"""

HOUSEHOLDS: Final = ("1", "718", "2120")
QUESTIONS: Final = (
    "can i return a toaster i opened",
    "牛奶过了日期还能喝吗",
    "who won the election",
)
"""Asked of the content search; the last has no answer in what the shop has to read."""
EXCHANGES: Final = (
    ("最近有哪些新品推荐？", "酸奶有吗，３美元以下的", "不要草莓的", "第一个配什么好？"),
    ("do you have coffee under $8? not instant", "anything cheaper?", "why the first one?"),
)
"""What two shoppers say to the chat, one line after the other."""
CART_PRODUCTS: Final = 24
"""How full the carts are for which coupons are shown."""

NUM_TIMED_REQUESTS: Final = 300
"""Requests whose median is printed, one after the other on one connection."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline demo`."""
    parser.add_argument(
        "--home", type=Path, default=Path("var/demo"), help="folder (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the whole path; the last line printed is one JSON object of figures."""
    home, progress = Home.at(args.home), Progress()
    step = _Steps(Console())
    step("Reading the shop Complete Journey: purchases, products, households, promotions")
    _ingest(home, progress)
    step("Learning, and judging on December 2017 through the engine that serves")
    with Beside(2) as beside:
        loaded = beside.start(_load_store, home)
        trained = train(home.tables, home, completejourney(), "auto", progress, processes=2)
        print_judgements(trained.judgements)
        print_verdict(trained.verdict, trained.refit)
        print(f"The page of this run: {trained.page}")
        step("Bringing user states to the online store, and the champion to the server")
        print(f"{loaded():,} user states in {home.store}, made while it learned")
    sync(Registry(home.path, home.tracking_uri), home.path)
    step("Serving: the product page asks over gRPC")
    with serving(home) as address, Client(address) as client:
        for household in HOUSEHOLDS:
            _show(client, household)
        for question in QUESTIONS:
            print_found(question, client.search_content(question))
        step("The chatbot asks, in Chinese and in English")
        for exchange in EXCHANGES:
            _talk(address, exchange)
        latencies_ms = _time_requests(client)
    step("Writing to 200 households: a campaign's mails, to be looked at before they are sent")
    preview = _campaign(home, progress)
    pages = {"preview": str(preview), "report": str(trained.page)}
    print(json.dumps(_figures(trained, latencies_ms) | pages))
    return 0


def _load_store(home: Home) -> int:
    """Everybody's state into the online store, as `python -m offline materialize` does."""
    with closing(open_store(home.store)) as store:
        num_users = materialize(home.tables, store, None, QUIET)
        write_people(home.tables, store)
    return num_users


def _campaign(home: Home, progress: Progress) -> Path:
    """Export a small campaign, as `python -m offline export --campaign` does; its preview page."""
    folder = home.path / "campaign"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    people = "".join(f"{number},Household {number}\n" for number in range(1, 201))
    (folder / "people.csv").write_text("household,name\n" + people)
    (folder / "campaign.toml").write_text(CAMPAIGN)
    campaign = read_campaign(folder / "campaign.toml")
    job = Job(campaign, home, read_pointer(home.path).directory, folder / "export")
    print_manifest(export_campaign(job, progress), job.folder.path)
    return job.folder.path / PREVIEW


def _ingest(home: Home, progress: Progress) -> None:
    job = IngestJob(sources=complete_journey_sources(), out=home.tables)
    key = Pseudonymizer(load_key(home.path))
    ingest(job, key, progress, lambda summary: print_summary(summary, home.tables, Console()))


def _show(client: Client, household: str) -> None:
    """What a household is shown, and what it can save on a cart of the first of it."""
    slate = client.recommend(household, page_size=8, num_content=2)
    print_slate(slate, f"Household {household}: six products and two pieces to read")
    products = client.recommend(household, page_size=CART_PRODUCTS).response.items
    cart = [item.item_id for item in products]
    coupons = client.recommend(household, basket=cart, channel="web", num_coupons=4)
    print_coupons(
        coupons, f"Coupons for household {household} with {len(cart)} products in the cart"
    )


def _talk(address: str, exchange: Sequence[str]) -> None:
    """One conversation of a household with the chat."""
    console = Console()
    with Talker(address, HOUSEHOLDS[1]) as talker:
        for utterance in exchange:
            console.print(f"[bold]you[/bold]   {utterance}")
            print_answer(*talker.say(utterance), console)


class _Steps:
    """Prints a numbered headline for each step."""

    def __init__(self, console: Console) -> None:
        self._console, self._number = console, 0

    def __call__(self, title: str) -> None:
        self._number += 1
        self._console.print(f"\n[bold]{self._number}. {title}[/bold]")


def _time_requests(client: Client) -> list[float]:
    """Milliseconds of requests for different households, one at a time."""
    latencies_ms = []
    for household in range(1, NUM_TIMED_REQUESTS + 1):
        started = perf_counter()
        client.recommend(str(household))
        latencies_ms.append(1000 * (perf_counter() - started))
    return latencies_ms


def _figures(trained: Trained, latencies_ms: list[float]) -> dict[str, float]:
    aisle = trained.judgements["aisle"]
    means = {name: round(value, 4) for name, value in aisle.means().items()}
    baselines = {
        f"{name}_recall_at_20_all": trained.judgements[title].means()["recall_at_20_all"]
        for name, title in (("popularity", "popularity"), ("own_frequency", "own frequency"))
    }
    return {
        **means,
        **{name: round(value, 4) for name, value in baselines.items()},
        "p50_ms": round(float(np.median(latencies_ms)), 2),
        "num_users": len(aisle.users),
    }
