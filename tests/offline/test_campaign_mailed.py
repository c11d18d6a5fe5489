"""What comes back of a campaign: counted once, told in the report, and out when it is erased."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_store.people import Consent, consent_key
from feature_store.store import open_store
from offline.campaigns.effects import buyer_lift
from offline.campaigns.mailed import TOKEN, read_told, take_in
from offline.campaigns.parts import checksum
from offline.campaigns.report import print_report, report
from offline.erase import erase, open_tombstones
from offline.errors import CampaignError
from offline.exposures import scan_exposures
from offline.home import Home
from offline.ingest.tables import scan_events
from tests.offline.campaigns import CAMPAIGN, build_shop, campaign, export, pseudonym
from tests.worlds import HORIZON_TIME, World, user_id

LATER = datetime.fromtimestamp(HORIZON_TIME / 1e6, UTC) + timedelta(days=1)
TEXT = CAMPAIGN + '[hold_out]\nshare = 0.3\n[[arms]]\nname = "a"\n[[arms]]\nname = "b"\n'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build_shop(tmp_path / "home")


def home_of(world: World) -> Home:
    return Home(world.home, world.store_url, None)


def write_told(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A file of tokens, kinds and items, all of them a day after the send time."""
    lines = [f"{token},{kind},{LATER.isoformat()},{item},3.5" for token, kind, item in rows]
    path.write_text("\n".join([f"{TOKEN},kind,event_time,item,price", *lines]) + "\n")
    return path


def test_what_comes_back_is_in_the_report_once(world: World, tmp_path: Path) -> None:
    folder = export(world, campaign(tmp_path, TEXT), tmp_path / "out")
    mails = folder.scan_mails().filter(pl.col("rank") == 1).sort("pseudonym").collect()
    tokens, items = mails[TOKEN].to_list(), mails["item"].to_list()
    told = [(token, "sent", "") for token in tokens]
    told += [(token, "open", "") for token in tokens[:9]]
    told += [(tokens[0], "open", ""), (tokens[0], "click", items[0])]
    told += [(token, "purchase", item) for token, item in list(zip(tokens, items, strict=True))[:5]]
    told += [(tokens[3], "unsubscribe", "")]
    file = write_told(tmp_path / "told.csv", told)
    for _ in range(2):
        taken = take_in(home_of(world), tmp_path / "out", file, HORIZON_TIME)
        assert (taken.num_mails, taken.num_foreign) == (len(tokens), 0)
    arms = {one.arm: one for one in report(tmp_path / "out", world.home / "tables")}
    assert list(arms) == ["a", "b", "hold_out"]
    total = {name: sum(one.mails.get(name, 0) for one in arms.values()) for name in arms["a"].mails}
    assert total == {
        "mails": len(tokens), "sent": len(tokens), "opened": 9, "clicked": 1, "bought_from": 5,
        "unsubscribed": 1,
    }  # fmt: skip
    by_arm = mails.head(5)["arm"].value_counts()
    for arm, num in by_arm.iter_rows():
        assert arms[arm].outcome.num_buyers == num
        assert arms[arm].outcome.spend == pytest.approx(3.5 * num)
        assert arms[arm].buyers == buyer_lift(arms[arm].outcome, arms["hold_out"].outcome)
    assert arms["hold_out"].outcome.num_buyers == 0
    assert sum(one.outcome.num_people for one in arms.values()) == 40
    print_report(list(arms.values()), 14)
    store = open_store(world.store_url)
    consent = store.get_many([consent_key(bytes.fromhex(mails["pseudonym"][3]))])[0]
    store.close()
    assert Consent.decode(consent) == Consent(email=False)
    shown = scan_exposures(world.home / "tables").collect()
    assert len(shown) == len(tokens)
    assert set(shown["arm"]) == {"a", "b"}
    assert shown["items"].list.len().to_list() == [4] * len(tokens)
    clicks = scan_events(world.home / "tables").filter(pl.col("kind") == "mail_click").collect()
    assert clicks["user"].to_list() == [mails["pseudonym"][0]]


def test_what_was_mailed_is_not_in_the_next_answer(world: World, tmp_path: Path) -> None:
    first = export(world, campaign(tmp_path), tmp_path / "first").scan_mails().collect()
    file = write_told(tmp_path / "told.csv", [(t, "sent", "") for t in first[TOKEN].unique()])
    take_in(home_of(world), tmp_path / "first", file, HORIZON_TIME)
    moment = (LATER + timedelta(hours=1)).isoformat()
    text = CAMPAIGN.replace('language = "user"', f'language = "en"\nsend_time = "{moment}"')
    text = text.replace('"spring"', '"next"').replace(
        "[audience]", "no_repeat_days = 0\n[audience]"
    )
    second = export(world, campaign(tmp_path, text), tmp_path / "second").scan_mails().collect()
    both = second.join(first, on=["user", "item"], how="semi")
    assert both.is_empty()
    assert second["user"].n_unique() == 40


def test_who_is_erased_leaves_the_exports(world: World, tmp_path: Path) -> None:
    folder = export(world, campaign(tmp_path), tmp_path / "out")
    names = (pseudonym(3), "Name3,", user_id(3))
    tombstones = open_tombstones(world.home)
    tombstones.add([tombstones.marker.of_pseudonym(bytes.fromhex(pseudonym(3)))])
    erase(home_of(world), world.home / "tables", tombstones, HORIZON_TIME, [tmp_path / "out"])
    for path in folder.path.iterdir():
        text = path.read_bytes().decode(errors="ignore")
        if path.suffix == ".parquet":
            text = pl.read_parquet(path).write_ndjson()
        assert not [name for name in names if name in text], path
    manifest = folder.manifest()
    assert manifest["files"] == {name: checksum(folder.path / name) for name in manifest["files"]}
    assert manifest["num_users"] == 39
    assert folder.scan_mails().collect()["user"].n_unique() == 39


def test_erased_between_death_and_resumption_only_the_erased_are_gone(
    world: World, tmp_path: Path
) -> None:
    """Somebody of a part that is whole, and all people of the last, which is not."""
    one = campaign(tmp_path)
    folder = export(world, one, tmp_path / "out")
    whole = folder.scan_mails().collect()
    names = sorted(pseudonym(n) for n in range(40))
    gone = [pseudonym(3), names[0], *names[35:]]
    for name in ("manifest.json", *(f"part-0000{n}.json" for n in (1, 3, 5))):
        (folder.path / name).unlink()
    tombstones = open_tombstones(world.home)
    tombstones.add([tombstones.marker.of_pseudonym(bytes.fromhex(name)) for name in gone])
    erase(home_of(world), world.home / "tables", tombstones, HORIZON_TIME, [tmp_path / "out"])
    export(world, one, tmp_path / "out")
    manifest, mails = folder.manifest(), folder.scan_mails().collect()
    assert mails.equals(whole.filter(~pl.col("pseudonym").is_in(gone)))
    assert manifest["num_users"] == 40 - len(set(gone)) == mails["user"].n_unique()
    assert manifest["num_rows"] == len(mails)
    assert manifest["files"] == {name: checksum(folder.path / name) for name in manifest["files"]}


def test_an_audience_of_nobody(world: World, tmp_path: Path) -> None:
    text = 'campaign = "a"\n[audience]\nfilter = "spend < 0"\n'
    folder = export(world, campaign(tmp_path, text), tmp_path / "out")
    assert folder.manifest()["num_users"] == 0


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("token\nx\n", f"has no column {TOKEN}"),
        (f"{TOKEN},kind\nx,burned\n", "says `burned`"),
        (f"{TOKEN},event_time\nx,yesterday\n", "should be 2026-12-01T06:00:00Z"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str, part: str) -> None:
    (tmp_path / "told.csv").write_text(content)
    with pytest.raises(CampaignError, match=part):
        read_told(tmp_path / "told.csv", 0)
