"""Coupons in mails: their expected cost comes out of the page's budgets, and never overspends."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_store.coupons import campaign_account, expectation_name
from feature_store.ledger import Ask, Charge, Ledger, Verdict, open_ledger
from feature_store.schema import AUDIENCES, CAMPAIGNS, COUPONS, MICROSECONDS_PER_DAY, Table
from offline.campaigns.parts import Folder
from offline.coupons.dataset import CouponData
from offline.ingest.tables import polars_schema
from tests.offline.campaigns import campaign, export
from tests.worlds import HORIZON_TIME, KEY, World, build_world

TEXT = """
campaign = "coupons"
[slots]
products = 2
coupons = 1
"""
MICROS = 1_000_000
VALUE = 380_000
BUDGET = 0.4


def table(given: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    named = [{name: row.get(name) for name in given.names} for row in rows]
    return pl.DataFrame(named, schema=polars_schema(given))


def build(home: Path, budget: float | None) -> World:
    offer = {"item": "off", "campaign": "c", "title": "Off", "discount": "amount"}
    data = CouponData(
        campaigns=table(CAMPAIGNS, {"campaign": "c", "budget": budget}),
        coupons=table(COUPONS, {**offer, "value": VALUE / MICROS, "terms": "Once."}),
        audiences=table(AUDIENCES),
    )
    home.mkdir(parents=True)
    (home / "pseudonym.key").write_text(KEY.hex())
    return build_world(home, data)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("shop") / "home", BUDGET)


@pytest.fixture
def world(shop: World, tmp_path: Path) -> World:
    return shop.copy(tmp_path / "home")


@contextmanager
def ledger_of(world: World) -> Iterator[Ledger]:
    with closing(open_ledger(f"sqlite:{world.home / 'ledger' / 'ledger.sqlite'}")) as ledger:
        yield ledger


def coupons_in(folder: Folder) -> pl.DataFrame:
    return folder.scan_mails().filter(pl.col("slot") == "coupon").collect()


def expected(world: World) -> int:
    with ledger_of(world) as ledger:
        account = ledger.changes(0).accounts.get(campaign_account("c"))
    return account.expected if account else 0


def micros(rows: pl.DataFrame) -> int:
    return round(float(rows["expected_cost"].sum()) * MICROS)


def test_without_a_limit_everybody_gets_one(tmp_path: Path) -> None:
    world = build(tmp_path / "home", None)
    folder = export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    rows = coupons_in(folder)
    assert len(rows) == folder.manifest()["num_users"]
    assert set(rows["terms"]) == {"Once."}
    assert expected(world) == micros(rows) > 0


def test_no_more_is_expected_than_the_page_has_left(world: World, tmp_path: Path) -> None:
    taken = 380_000
    with ledger_of(world) as ledger:
        charge = Charge(campaign_account("c"), round(BUDGET * MICROS))
        assert ledger.reserve_expected("the page", charge, taken, HORIZON_TIME, 2**60)
    folder = export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    rows = coupons_in(folder)
    assert 0 < len(rows) < folder.manifest()["num_users"]
    assert expected(world) == taken + micros(rows) <= BUDGET * MICROS
    one = float(rows["expected_cost"].max())  # type: ignore[arg-type]
    assert taken + micros(rows) > (BUDGET - 2 * one) * MICROS
    mails = folder.scan_mails().collect()
    ranks = mails.group_by("pseudonym").agg(pl.col("rank"))["rank"].to_list()
    assert all(sorted(one) == list(range(1, len(one) + 1)) for one in ranks)


def test_stopped_and_gone_on_with_it_decides_the_same(world: World, tmp_path: Path) -> None:
    one = campaign(tmp_path, TEXT)
    folder = export(world, one, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    for name in ("manifest.json", "part-00002.json", "part-00003.json", "part-00003.csv"):
        (folder.path / name).unlink()
    export(world, one, tmp_path / "out", workers=2)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    assert expected(world) == micros(coupons_in(folder))


def test_the_campaigns_own_budget_holds_too(tmp_path: Path) -> None:
    world = build(tmp_path / "home", None)
    text = TEXT.replace("[slots]", "coupon_budget = 0.2\n[slots]")
    rows = coupons_in(export(world, campaign(tmp_path, text), tmp_path / "out"))
    assert 0 < micros(rows) <= 0.2 * MICROS
    other = coupons_in(
        export(world, campaign(tmp_path, text + "\n[hold_out]\nshare = 0.1"), tmp_path / "other")
    )
    assert micros(rows) + micros(other) <= 0.2 * MICROS


def test_claims_of_mails_and_of_the_page_never_overspend(tmp_path: Path) -> None:
    budget = 2.0
    world = build(tmp_path / "home", budget)
    rows = coupons_in(export(world, campaign(tmp_path, TEXT), tmp_path / "out"))
    charge = Charge(campaign_account("c"), round(budget * MICROS))
    mailing, until = rows["mailing"][0], HORIZON_TIME + 10**15
    with ledger_of(world) as ledger:
        verdicts = []
        for number in range(20):
            expectation = expectation_name(mailing, "c") if number % 2 else ""
            ask = Ask(f"claim-{number}", "off", f"u{number}", VALUE, (charge,),
                      HORIZON_TIME, until, expectation)  # fmt: skip
            verdicts.append(ledger.claim(ask).verdict)
            spent = ledger.changes(0).accounts[campaign_account("c")].spent
            assert spent <= budget * MICROS
    assert set(verdicts) == {Verdict.GRANTED, Verdict.BUDGET_SPENT}


def test_what_is_never_sent_costs_nothing_in_the_end(world: World, tmp_path: Path) -> None:
    export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    assert expected(world) > 0
    with ledger_of(world) as ledger:
        ledger.expire(HORIZON_TIME + 10_000 * MICROSECONDS_PER_DAY)
    assert expected(world) == 0
