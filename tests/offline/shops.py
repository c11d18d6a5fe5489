"""The checkerboard shop as a shop's own export: CSV files, read by the real ingestion."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from offline.__main__ import main
from offline.recipe import AlsConfig, DataConfig, Recipe
from tests.worlds import (
    HORIZON_TIME,
    NUM_ITEMS,
    Purchase,
    draw_purchases,
    is_even,
    item_id,
    price,
    user_id,
)

WEEK = 7 * 86_400_000_000
CUT_TIME = HORIZON_TIME - WEEK

RECIPE = Recipe(
    "checkerboard",
    data=DataConfig(min_users_per_item=1, cut_time=CUT_TIME),
    als=AlsConfig(num_factors=2),
)


def write_csv(folder: Path, purchases: Iterable[Purchase]) -> None:
    """`events.csv` and `products.csv` with the canonical column names."""
    folder.mkdir(parents=True)
    rows = ["event_time,user,kind,item,quantity,price,basket"]
    for one in purchases:
        fields = (one.time, user_id(one.user), "purchase", item_id(one.item), 1, price(one.item))
        rows.append(",".join(map(str, (*fields, f"{one.user}-{one.time}"))))
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    rows = ["item,title,category"]
    for number in range(NUM_ITEMS):
        parity = "Even" if is_even(item_id(number)) else "Odd"
        rows.append(f"{item_id(number)},{parity} thing {number},{parity} > Aisle {number % 5}")
    (folder / "products.csv").write_text("\n".join(rows) + "\n")


def ingest(folder: Path, home: Path, *more: str) -> Path:
    """Read the CSV files of `folder` into canonical tables below `home`; returns where.

    `more` are words of the command line.
    """
    mapping = folder / "mapping.toml"
    mapping.write_text('[events]\nevent_time = { column = "event_time", unit = "us" }\n')
    words = ["ingest", "--quiet", "--home", str(home), "--out", str(home / "tables")]
    words += ["--mapping", str(mapping), "--events", str(folder / "events.csv")]
    assert main([*words, "--products", str(folder / "products.csv"), *more]) == 0
    return home / "tables"


def with_future(purchases: Iterable[Purchase]) -> list[Purchase]:
    """After the cut everybody turns: even users buy odd items only, and the reverse."""
    return [
        one if one.time < CUT_TIME else replace(one, item=one.item ^ 1, time=one.time)
        for one in purchases
    ]


def usual_tables(folder: Path) -> Path:
    """Tables of the shop as it is."""
    write_csv(folder / "csv", draw_purchases())
    return ingest(folder / "csv", folder / "home")
