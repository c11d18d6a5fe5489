"""The checkerboard shop with a store, tables, people and campaigns, for tests of exports."""

from pathlib import Path
from typing import Any

from feature_store.events import Event, with_event_id
from feature_store.ids import Pseudonymizer
from offline.campaigns.campaign import Campaign
from offline.campaigns.exporting import Job, export_campaign
from offline.campaigns.mailed import refresh
from offline.campaigns.parts import Folder
from offline.campaigns.reading import read_campaign
from offline.home import Home
from offline.ingest.files import Source, find_sources
from offline.ingest.job import IngestJob, ingest
from offline.ingest.mapping import ShopMapping
from offline.logged import event_table
from offline.progress import QUIET
from tests.worlds import (
    KEY,
    NUM_ITEMS,
    NUM_USERS,
    World,
    build_world,
    item_id,
    purchase_event,
    user_id,
)

PSEUDONYMS = Pseudonymizer(KEY)

CAMPAIGN = """
campaign = "spring"
title = "Spring things"
subject = "{name}, {top_title} and {num_products} more"
language = "user"

[audience]
file = "people.csv"
user_column = "id"

[slots]
products = 4
"""


def pseudonym(number: int) -> str:
    """The pseudonym of a user of the checkerboard shop."""
    return PSEUDONYMS.hexdigest(user_id(number))


def build_shop(home: Path) -> World:
    """The checkerboard world, with its purchases and users as tables too."""
    home.mkdir(parents=True)
    (home / "pseudonym.key").write_text(KEY.hex())
    world = build_world(home)
    tables = {"users": _users(home), "products": _products(home)}
    sources = {name: find_sources(str(path), ShopMapping().csv) for name, path in tables.items()}
    ingest(IngestJob(sources, home / "tables"), PSEUDONYMS)
    take_in(home, [purchase_event(one, PSEUDONYMS) for one in world.purchases])
    refresh(Home(home, world.store_url, None))
    return world


def _users(home: Path) -> Path:
    rows = [
        f"{user_id(n)},{'AB'[n % 2]},{('north', 'south')[n % 3 == 0]},{('en', 'zh', 'fr')[n % 3]}"
        for n in range(NUM_USERS)
    ]
    (home / "users.csv").write_text("\n".join(["user,segment,region,language", *rows]) + "\n")
    return home / "users.csv"


def _products(home: Path) -> Path:
    rows = [
        f"{item_id(n)},Thing {n},{'Even' if n % 2 == 0 else 'Odd'} > Aisle {n % 5}"
        for n in range(NUM_ITEMS)
    ]
    (home / "products.csv").write_text("\n".join(["item,title,category", *rows]) + "\n")
    return home / "products.csv"


def take_in(home: Path, events: list[Event]) -> None:
    """Add events with pseudonyms to the tables, by the real ingestion."""
    rows = event_table([with_event_id(event) for event in events])
    source = Source(f"{len(events)} events", rows["event_id"][0], len(rows), rows.lazy())
    ingest(IngestJob({"events": [source]}, home / "tables"), None)


def write_people(folder: Path, numbers: list[int]) -> None:
    """`people.csv` with raw ids and names."""
    rows = [f"{user_id(n)},Name{n}" for n in numbers]
    (folder / "people.csv").write_text("\n".join(["id,name", *rows]) + "\n")


def campaign(folder: Path, text: str = CAMPAIGN) -> Campaign:
    """The campaign of this text, written into a folder with a file of all people."""
    if not (folder / "people.csv").exists():
        write_people(folder, list(range(NUM_USERS)))
    (folder / "campaign.toml").write_text(text)
    return read_campaign(folder / "campaign.toml")


def job(world: World, one: Campaign, out: Path, **options: Any) -> Job:
    """An export in this process, of small parts."""
    home = Home(world.home, world.store_url, None)
    return Job(one, home, world.bundle, out, **({"people_per_part": 7} | options))


def export(world: World, one: Campaign, out: Path, **options: Any) -> Folder:
    """Export a campaign; its folder."""
    made = job(world, one, out, **options)
    export_campaign(made, QUIET)
    return made.folder
