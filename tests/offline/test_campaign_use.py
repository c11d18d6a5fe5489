"""Coupons in mails after claims: what the server would answer, frozen when the plan is made."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_store.bundle import open_bundle
from feature_store.ledger import Ask, Ledger, Verdict
from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, Corpus
from feature_store.store import open_store
from offline.campaigns.mails import Writer
from offline.coupons.dataset import CouponData
from online.coupons.live import charges_of
from online.coupons.shelf import CouponShelf
from online.engine import Engine
from online.feedback.attribution import TokenSigner
from online.known import user_name
from online.process.coupons import following_use
from online.snapshot import open_snapshot
from tests.offline.campaigns import campaign, export, pseudonym
from tests.offline.test_campaign_coupons import TEXT, ledger_of, table
from tests.worlds import HORIZON_TIME, KEY, NUM_USERS, World, build_world

ONE = 1_000_000
LONG = 10**15
HORIZON = datetime.fromtimestamp(HORIZON_TIME / 1e6, UTC)


def offer(item: str, campaign: str, value: float, **fields: Any) -> dict[str, Any]:
    fixed = {"item": item, "campaign": campaign, "title": item, "discount": "amount"}
    return {**fixed, "value": value, **fields}


@pytest.fixture
def world(tmp_path: Path) -> World:
    home = tmp_path / "home"
    home.mkdir()
    (home / "pseudonym.key").write_text(KEY.hex())
    dates = {"start_time": HORIZON - timedelta(days=5), "end_time": HORIZON + timedelta(days=5)}
    data = CouponData(
        campaigns=table(
            CAMPAIGNS, {"campaign": "paced", "budget": 60.0, **dates}, {"campaign": "free"}
        ),
        coupons=table(
            COUPONS,
            offer("once", "paced", 0.4, max_claims_per_user=1),
            offer("few", "free", 0.3, max_claims=3, max_claims_per_user=1),
            offer("rest", "free", 0.2),
        ),
        audiences=table(AUDIENCES),
    )
    return build_world(home, data)


def claim(world: World, ledger: Ledger, item: str, number: int, name: str) -> None:
    """Claim as the server does."""
    shelf = open_snapshot(open_bundle(world.bundle)).shelves[Corpus.COUPON]
    assert isinstance(shelf, CouponShelf)
    user = user_name(bytes.fromhex(pseudonym(number)))
    place = shelf.coupons.index[item]
    micros = int(shelf.coupons.face_value[place])
    charges = charges_of(shelf.coupons, place, user)
    ask = Ask(name, item, user, micros, charges, HORIZON_TIME - 1, HORIZON_TIME + LONG)
    assert ledger.claim(ask).verdict is Verdict.GRANTED


def answered(world: World, ledger: Ledger, text: str, folder: Path) -> dict[str, list[str]]:
    """What an engine like the server's puts into each person's mail."""
    one = campaign(folder, text)
    with closing(open_store(world.store_url)) as store:
        snapshot = open_snapshot(open_bundle(world.bundle))
        engine = Engine(store, snapshot, following_use(ledger, store, None))
        writer = Writer(one, engine, TokenSigner(KEY), HORIZON_TIME)
        fixed = {"arm": "all", "language": "en", "region": "", "excluded": []}
        names = [pseudonym(number) for number in range(NUM_USERS)]
        requests = [writer.request({"pseudonym": name, **fixed}) for name in names]
        slates = engine.recommend_many(requests)
    return {
        name: [item.item for item in slate.items] for name, slate in zip(names, slates, strict=True)
    }


def test_after_claims_the_coupons_are_those_of_the_server(world: World, tmp_path: Path) -> None:
    text = TEXT.replace("coupons = 1", "coupons = 2")
    with ledger_of(world) as ledger:
        before = answered(world, ledger, text, tmp_path)
        for number, item in ((0, "once"), (1, "once"), (2, "few"), (3, "few"), (4, "few")):
            claim(world, ledger, item, number, f"claim-{number}")
        ledger.redeem("claim-0", "basket", 1, HORIZON_TIME - 1)
        right = answered(world, ledger, text, tmp_path)
    assert right[pseudonym(0)] != before[pseudonym(0)]
    assert "once" not in right[pseudonym(0)]
    assert "once" in right[pseudonym(1)]
    assert "few" in right[pseudonym(2)]
    assert "few" not in right[pseudonym(9)]
    folder = export(world, campaign(tmp_path, text), tmp_path / "out")
    rows = folder.scan_mails().sort("pseudonym", "rank").collect()
    mails = rows.group_by("pseudonym").agg(pl.col("item"))
    assert dict(mails.iter_rows()) == right
    held = rows.filter(pl.col("reason_code") == "coupon_claimed")
    assert set(held["pseudonym"]) == {pseudonym(number) for number in (1, 2, 3, 4)}


def test_what_is_claimed_later_changes_nothing_in_an_export(world: World, tmp_path: Path) -> None:
    one = campaign(tmp_path, TEXT)
    folder = export(world, one, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with ledger_of(world) as ledger:
        for number in range(3):
            claim(world, ledger, "few", number, f"few-{number}")
            claim(world, ledger, "once", number, f"once-{number}")
    for path in (*folder.path.glob("part-*"), folder.path / "manifest.json"):
        path.unlink()
    export(world, one, tmp_path / "out", workers=1)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
