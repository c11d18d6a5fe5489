"""Coupons in mails: their expected cost comes out of the page's budgets, and never overspends."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_store.coupons import campaign_account, coupon_account, expectation_name
from feature_store.events import Event
from feature_store.ledger import Ask, Charge, Ledger, Verdict, open_ledger
from feature_store.schema import (
    AUDIENCES,
    CAMPAIGNS,
    COUPONS,
    MICROSECONDS_PER_DAY,
    EventKind,
    Table,
)
from offline.__main__ import main
from offline.campaigns import exporting
from offline.campaigns.coupon_money import HOLD_DAYS
from offline.campaigns.parts import Folder
from offline.coupons.dataset import CouponData
from offline.errors import CampaignError
from offline.ingest.tables import polars_schema
from tests.offline.campaigns import campaign, export, take_in, write_people
from tests.worlds import HORIZON_TIME, KEY, NUM_USERS, World, build_world, user_id

TEXT = """
campaign = "coupons"
[slots]
products = 2
coupons = 1
"""
OTHER = TEXT.replace('"coupons"', '"others"')
MICROS = 1_000_000
VALUE = 380_000
BUDGET = 0.4


def table(given: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    named = [{name: row.get(name) for name in given.names} for row in rows]
    return pl.DataFrame(named, schema=polars_schema(given))


def build(home: Path, budget: float | None, own: float | None = None, **fields: Any) -> World:
    fields["budget"] = own
    offer = {"item": "off", "campaign": "c", "title": "Off", "discount": "amount", **fields}
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


def test_a_coupon_for_mails_alone_is_in_mails(tmp_path: Path) -> None:
    world = build(tmp_path / "home", None, channel=["mail"])
    folder = export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    assert len(coupons_in(folder)) == folder.manifest()["num_users"] > 0


def test_no_more_is_expected_than_the_page_has_left(world: World, tmp_path: Path) -> None:
    """The page takes money after the campaign is planned, and before its mails are written."""
    taken = 380_000
    planned = export(world, campaign(tmp_path, TEXT), tmp_path / "out").path
    for path in (planned / "manifest.json", *planned.glob("part-*"), *planned.glob("coupons-*")):
        path.unlink()
    with ledger_of(world) as ledger:
        ledger.expire(2**60)
        charge = Charge(campaign_account("c"), round(BUDGET * MICROS))
        assert ledger.reserve_expected("the page", charge, taken, HORIZON_TIME, 2**61)
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


def test_whose_only_coupon_is_not_paid_for_is_left_out(tmp_path: Path) -> None:
    world = build(tmp_path / "home", None)
    text = TEXT.replace("[slots]", "coupon_budget = 0.05\n[slots]\nmin_products = 0")
    text = text.replace("products = 2", "products = 0", 1)
    text += '[audience]\nfile = "people.csv"\nuser_column = "id"\n'
    folder = export(world, campaign(tmp_path, text), tmp_path / "out")
    manifest = folder.manifest()
    left_out = pl.read_parquet(folder.path / "left-out-*.parquet")
    assert 0 < manifest["num_users"] < NUM_USERS
    assert manifest["left_out"] == {"nothing_to_say": NUM_USERS - manifest["num_users"]}
    written = set(folder.scan_mails().collect()["user"])
    assert written | set(left_out["user"]) == {user_id(n) for n in range(NUM_USERS)}
    assert not written & set(left_out["user"])


def test_another_plan_of_the_same_file_sets_its_own_money_aside(
    world: World, tmp_path: Path
) -> None:
    one = campaign(tmp_path, TEXT + '[audience]\nfile = "people.csv"\nuser_column = "id"\n')
    write_people(tmp_path, [1])
    first = coupons_in(export(world, one, tmp_path / "first"))
    write_people(tmp_path, list(range(9)))
    second = coupons_in(export(world, one, tmp_path / "second"))
    assert not set(first["mailing"]) & set(second["mailing"])
    assert expected(world) == micros(second) > micros(first) > 0, "the first was not sent"


def test_what_was_sent_keeps_its_money(world: World, tmp_path: Path) -> None:
    one = campaign(tmp_path, TEXT + '[audience]\nfile = "people.csv"\nuser_column = "id"\n')
    write_people(tmp_path, [1, 2])
    first = coupons_in(export(world, one, tmp_path / "first"))
    sent = Event(
        event_id="sent", event_time=HORIZON_TIME, user=first["pseudonym"][0],
        kind=EventKind.MAIL_SENT, attribution_token=first["tracking_token"][0],
    )  # fmt: skip
    take_in(world.home, [sent])
    write_people(tmp_path, [1, 2, 3])
    second = coupons_in(export(world, one, tmp_path / "second"))
    assert expected(world) == micros(first) + micros(second)


def test_an_abandoned_export_costs_nothing_and_can_be_made_again(
    world: World, tmp_path: Path
) -> None:
    one, out = campaign(tmp_path, TEXT), tmp_path / "out"
    folder = export(world, one, out)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    held = expected(world)
    assert held > 0
    assert main(["export", "--abandon", str(out), "--home", str(world.home)]) == 0
    assert expected(world) == 0
    with pytest.raises(CampaignError, match="holds no whole export"):
        folder.manifest()
    export(world, one, out)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    assert expected(world) == held
    assert main(["export", "--abandon", str(tmp_path), "--home", str(world.home)]) != 0


def test_the_campaigns_own_budget_holds_too(tmp_path: Path) -> None:
    world = build(tmp_path / "home", None)
    text = TEXT.replace("[slots]", "coupon_budget = 0.2\n[slots]")
    rows = coupons_in(export(world, campaign(tmp_path, text), tmp_path / "out"))
    assert 0 < micros(rows) <= 0.2 * MICROS
    other = text.replace("[slots]", 'send_time = "2024-03-01T06:00:00Z"\n[slots]')
    later = coupons_in(export(world, campaign(tmp_path, other), tmp_path / "other"))
    assert micros(rows) + micros(later) <= 0.2 * MICROS


def test_a_coupons_own_budget_holds_in_mails(tmp_path: Path) -> None:
    """What its mails are expected to take is set aside in both budgets, and its claims use both."""
    own, part = 0.4, 2_000
    world = build(tmp_path / "home", 2.0, own)
    accounts = coupon_account("off"), campaign_account("c")
    charges = Charge(accounts[0], round(own * MICROS)), Charge(accounts[1], 2 * MICROS)
    planned = export(world, campaign(tmp_path, TEXT), tmp_path / "out").path
    for path in (planned / "manifest.json", *planned.glob("part-*"), *planned.glob("coupons-*")):
        path.unlink()
    with ledger_of(world) as ledger:
        ledger.expire(2**60)
        assert ledger.reserve_expected("the page", charges[0], VALUE, HORIZON_TIME, 2**61)
    folder = export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    rows = coupons_in(folder)
    assert 0 < len(rows) < folder.manifest()["num_users"], "its own money does not reach for all"
    names = tuple(expectation_name(rows["mailing"][0], name) for name in (accounts[0], "c"))
    with ledger_of(world) as ledger:
        held = ledger.changes(0).accounts
        assert [held[name].expected for name in accounts] == [VALUE + micros(rows), micros(rows)]
        until = HORIZON_TIME + 10**15
        page = Ask("page", "off", "u1", VALUE, charges, HORIZON_TIME, until)
        mailed = Ask("mail", "off", "u2", part, charges, HORIZON_TIME, until, names)
        assert ledger.claim(page).verdict is Verdict.BUDGET_SPENT
        assert ledger.claim(mailed).verdict is Verdict.GRANTED
        after = ledger.changes(0).accounts
        for name in accounts:
            assert after[name].spent == held[name].spent
            assert after[name].expected == held[name].expected - part


def test_claims_of_mails_and_of_the_page_never_overspend(tmp_path: Path) -> None:
    budget = 2.0
    world = build(tmp_path / "home", budget)
    rows = coupons_in(export(world, campaign(tmp_path, TEXT), tmp_path / "out"))
    charge = Charge(campaign_account("c"), round(budget * MICROS))
    mailing, until = rows["mailing"][0], HORIZON_TIME + 10**15
    with ledger_of(world) as ledger:
        verdicts = []
        for number in range(20):
            expectation = (expectation_name(mailing, "c"),) if number % 2 else ()
            ask = Ask(f"claim-{number}", "off", f"u{number}", VALUE, (charge,),
                      HORIZON_TIME, until, expectation)  # fmt: skip
            verdicts.append(ledger.claim(ask).verdict)
            spent = ledger.changes(0).accounts[campaign_account("c")].spent
            assert spent <= budget * MICROS
    assert set(verdicts) == {Verdict.GRANTED, Verdict.BUDGET_SPENT}


def test_what_is_never_sent_costs_nothing_in_the_end(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_sent = export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    assert expected(world) == micros(coupons_in(never_sent)) > 0
    now, hold = time.time_ns() // 1_000, HOLD_DAYS * MICROSECONDS_PER_DAY
    left = round(BUDGET * MICROS) - VALUE
    with ledger_of(world) as ledger:
        late = now + 2 * hold
        assert ledger.reserve_expected("others", Charge(campaign_account("c")), left, now, late)
    too_soon = export(world, campaign(tmp_path, OTHER), tmp_path / "too-soon")
    assert len(coupons_in(too_soon)) == 0, "the budget is taken"
    monkeypatch.setattr(exporting, "_now", lambda: now + hold + MICROSECONDS_PER_DAY)
    again = export(world, campaign(tmp_path, OTHER), tmp_path / "again")
    assert len(coupons_in(again)) > 0
    assert expected(world) == left + micros(coupons_in(again))
