"""A shop with a campaign whose truth is known: who buys it anyhow, and whom it moves.

Regulars buy the coupon's goods every week, and buy again with or without the coupon. Others never
did, and many of them buy if they are shown it. Regulars redeem it more often, so who ranks by that
gives it to the wrong half.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from feature_store.coupons import is_held_out
from feature_store.events import Exposure
from feature_store.ids import Pseudonymizer
from offline.__main__ import main
from offline.exposures import exposure_table, merge_exposures
from online.known import user_name
from tests.worlds import KEY

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
START, END, LAST = BEGIN + 60 * DAY, BEGIN + 90 * DAY, BEGIN + 120 * DAY
NUM_USERS, NUM_ITEMS = 2_400, 20
HOLD_OUT = 0.4
SHOWN = 0.8
BASE = {True: 0.5, False: 0.15}
"""How likely regulars, and others, buy in the days after they came."""

UPLIFT = {True: 0.0, False: 0.3}
"""What being shown the coupon adds to it."""

FACE, BASKET = 3.0, 40.0
UNUSUAL = 6


@dataclass(frozen=True)
class Draw:
    """One shop: with whom the lots are drawn, and whom the shop itself chose.

    `leak` is the share of who is held out to whom it is open nonetheless.
    """

    seed: int = 1
    hold_out: float = HOLD_OUT
    moves: bool = True
    chosen: bool = False
    num_users: int = NUM_USERS
    leak: float = 0.0


def user_of(number: int) -> str:
    return f"u{number:05}"


def is_regular(number: int) -> bool:
    return number % 2 == 0


def make_tables(folder: Path, draw: Draw) -> Path:
    """The shop's log as canonical tables; returns the home that has them."""
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "pseudonym.key").write_text(KEY.hex())
    events, exposures = _log(draw)
    csv = folder / "csv"
    csv.mkdir()
    pl.DataFrame(events, orient="row", schema=EVENT_COLUMNS).write_csv(csv / "events.csv")
    items = {"item": [f"p{n:02}" for n in range(NUM_ITEMS)], "title": ["t"] * NUM_ITEMS}
    pl.DataFrame(items).write_csv(csv / "products.csv")
    share = draw.hold_out or None
    campaigns = {"campaign": ["tea"], "start_time": [START], "end_time": [LAST + 99 * DAY]}
    pl.DataFrame({**campaigns, "hold_out": [share]}).write_csv(csv / "campaigns.csv")
    coupon = {"item": "tea-3", "campaign": "tea", "title": "3.00 off tea", "discount": "amount"}
    pl.DataFrame([{**coupon, "value": FACE, "products": "p00"}]).write_csv(csv / "coupons.csv")
    words = ["ingest", "--quiet", "--home", str(home), "--out", str(home / "tables")]
    for name in ("events", "products", "campaigns", "coupons"):
        words += [f"--{name}", str(csv / f"{name}.csv")]
    assert main(words) in (0, UNUSUAL), "a shop of one campaign is no usual one"
    if exposures:
        merge_exposures(home / "tables", exposure_table(exposures), folder)
    return home


EVENT_COLUMNS = ("event_time", "user", "kind", "corpus", "item", "price", "basket")


def _log(draw: Draw) -> tuple[list[tuple[object, ...]], list[Exposure]]:
    rng, pseudonyms = np.random.default_rng(draw.seed), Pseudonymizer(KEY)
    events: list[tuple[object, ...]] = []
    exposures: list[Exposure] = []

    def buy(number: int, time: datetime, item: str, price: float = BASKET) -> str:
        basket = f"{number}-{time.timestamp()}"
        events.append(
            (time.isoformat(), user_of(number), "purchase", "product", item, price, basket)
        )
        return basket

    for number in range(draw.num_users):
        regular = is_regular(number)
        for week in range(1, 8):
            if rng.random() < 0.7:
                item = "p00" if regular else f"p{rng.integers(1, NUM_ITEMS):02}"
                buy(number, BEGIN + (7 * week + 7 * rng.random()) * DAY, item)
        came = START + (1 + 25 * rng.random()) * DAY
        pseudonym = pseudonyms.digest(user_of(number))
        is_open = not is_held_out(user_name(pseudonym), "tea", draw.hold_out)
        is_open |= draw.leak > 0 and rng.random() < draw.leak
        likely = (SHOWN if regular else 1 - SHOWN) if draw.chosen else SHOWN
        is_shown = is_open and rng.random() < likely
        items = ("p05", "tea-3") if is_shown else ("p05",)
        exposures.append(
            Exposure(
                attribution_token=f"t{number}",
                request_time=int(came.timestamp() * 1e6),
                user=pseudonym.hex(),
                placement="home",
                items=items,
                corpora=("product", "coupon")[: len(items)],
                propensities=(1.0, 1.0 - draw.hold_out)[: len(items)],
                model_version="1",
            )
        )
        chance = BASE[regular] + (UPLIFT[regular] if is_shown and draw.moves else 0.0)
        if rng.random() < chance:
            time = came + (0.1 + 3 * rng.random()) * DAY
            basket = buy(number, time, "p00")
            if is_shown:
                row = (time.isoformat(), user_of(number), "coupon_redeem", "coupon", "tea-3")
                events.append((*row, FACE, basket))
        if number % 20 < 2:
            buy(number, LAST - (1 + 5 * rng.random()) * DAY, "p00" if regular else "p07")
    return events, exposures
