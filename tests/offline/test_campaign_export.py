"""The export of a campaign: the online answer, for everybody who may be written to, whole."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from aisle.v1 import context_pb2, slate_pb2
from feature_store.events import Event
from feature_store.people import Consent, consent_key
from feature_store.schema import EventKind
from feature_store.store import open_store
from offline.campaigns.mails import LEFT_OUT_SCHEMA, MAIL_SCHEMA
from offline.campaigns.parts import checksum, folders_of
from offline.campaigns.planning import Shard
from offline.erase import open_tombstones
from offline.errors import CampaignError
from tests.offline.campaigns import (
    CAMPAIGN,
    build_shop,
    campaign,
    export,
    job,
    pseudonym,
    take_in,
    write_people,
)
from tests.online.serving import ServerProcess
from tests.worlds import HORIZON_TIME, KEY, NUM_USERS, World, is_even, user_id

DAY = 86_400_000_000
EXPORT = """
import sys
from pathlib import Path
from offline.campaigns.exporting import Job, export_campaign
from offline.campaigns.reading import read_campaign
from offline.home import Home
from offline.progress import QUIET

if __name__ == "__main__":
    home, bundle, file, out, workers = sys.argv[1:]
    home = Home(Path(home), f"lmdb:{home}/store", None)
    job = Job(read_campaign(Path(file)), home, Path(bundle), Path(out), workers=int(workers),
              people_per_part=2)
    export_campaign(job, QUIET)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_shop(tmp_path_factory.mktemp("shop") / "home")


@pytest.fixture
def own(world: World, tmp_path: Path) -> World:
    return world.copy(tmp_path / "home")


def left_out(folder: Path) -> dict[str, str]:
    rows = pl.read_parquet(folder / "left-out-*.parquet")
    assert rows.schema == LEFT_OUT_SCHEMA
    return dict(rows.select("user", "reason").iter_rows())


def test_the_mail_is_what_the_server_answers(world: World, tmp_path: Path) -> None:
    folder = export(world, campaign(tmp_path), tmp_path / "out")
    mails = folder.scan_mails().collect()
    assert mails.schema == MAIL_SCHEMA
    languages = ("en", "zh", "en")
    server = ServerProcess(world)
    try:
        caller = server.wait_until_ready()
        for number in range(NUM_USERS):
            response = caller.recommend(
                user_id(number),
                placement="email",
                page_size=4,
                context=context_pb2.Context(locale=languages[number % 3], channel="mail"),
                view=slate_pb2.ITEM_VIEW_FULL,
            )
            mail = mails.filter(pl.col("user") == user_id(number)).sort("rank")
            assert mail["item"].to_list() == [item.item_id for item in response.items]
            scores = [item.score for item in response.items]
            assert mail["score"].to_list() == pytest.approx(scores, abs=1e-5)
            assert mail["reason_text"].to_list() == [item.reason.text for item in response.items]
            assert mail["title"].to_list() == [item.display.title for item in response.items]
            assert mail["url"].to_list() == [item.display.url for item in response.items]
    finally:
        server.kill()


def test_all_formats_say_the_same(world: World, tmp_path: Path) -> None:
    folder = export(world, campaign(tmp_path), tmp_path / "out")
    manifest = folder.manifest()
    assert manifest["files"] == {name: checksum(folder.path / name) for name in manifest["files"]}
    mails = folder.scan_mails().collect()
    lines = [
        json.loads(line)
        for path in sorted(folder.path.glob("part-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    rows = pl.concat(
        [pl.read_csv(path, infer_schema=False) for path in sorted(folder.path.glob("part-*.csv"))]
    )
    names = ["user", "rank", "item", "title", "subject", "tracking_token", "reason_text"]
    assert mails.select(names).rows() == [tuple(line[name] for name in names) for line in lines]
    assert mails.select(pl.col(names).cast(pl.String)).equals(rows.select(names))
    assert mails["subject"][0].startswith("Name")
    assert mails.group_by("tracking_token").agg(pl.col("user").n_unique())["user"].max() == 1
    assert mails["tracking_token"].n_unique() == NUM_USERS == manifest["num_users"]
    assert all(
        is_even(item) == (int(user[1:]) % 2 == 0)
        for user, item in mails.select("user", "item").iter_rows()
    )
    page = (folder.path / "preview.html").read_text()
    assert page.count('<article class="mail"') == 12
    assert sum(title in page for title in mails["title"].unique()) > 12
    assert page.count("data:image/png;base64,") == 3  # nobody is left out, so no picture of that


def test_who_gets_no_mail_and_why(own: World, tmp_path: Path) -> None:
    store = open_store(own.store_url)
    for number, consent in ((0, Consent(email=False)), (1, Consent(personalization=False))):
        value = consent.encode()
        assert value is not None
        store.put_many([(consent_key(bytes.fromhex(pseudonym(number))), value)])
    store.close()
    write_people(tmp_path, list(range(NUM_USERS)))
    (tmp_path / "suppressed.csv").write_text(f"id\n{user_id(2)}\n")
    mailed = Event(
        event_id="a/1", event_time=HORIZON_TIME - DAY // 2, user=pseudonym(3),
        kind=EventKind.MAIL_SENT, item="p01", attribution_token="a",
    )  # fmt: skip
    take_in(own.home, [mailed])
    text = CAMPAIGN.replace(
        'user_column = "id"', 'user_column = "id"\nsuppression = "suppressed.csv"\n'
        "unpersonalized = false",
    )  # fmt: skip
    text += "\n[[caps]]\nmails = 1\ndays = 1\n[hold_out]\nshare = 0.2\n"
    folder = export(own, campaign(tmp_path, text), tmp_path / "out")
    reasons = left_out(folder.path)
    named = {user_id(0): "consent", user_id(1): "personalization", user_id(2): "suppressed"}
    assert {user: reasons[user] for user in named} == named
    assert reasons[user_id(3)] == "cap"
    others = {user for user in reasons if user not in {*named, user_id(3)}}
    assert {reasons[user] for user in others} == {"hold_out"}
    written = set(folder.scan_mails().collect()["user"])
    assert written | set(reasons) == {user_id(n) for n in range(NUM_USERS)}
    assert not written & set(reasons)
    assert folder.manifest()["num_users"] == len(written)


def test_after_a_change_of_keys_nobody_is_written_to_who_left_or_refused(
    own: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks and consent lie under what people were called before."""
    tombstones = open_tombstones(own.home)
    former = [bytes.fromhex(pseudonym(number)) for number in range(3)]
    tombstones.add([tombstones.marker.of_id(user_id(0)), tombstones.marker.of_pseudonym(former[1])])
    store, refused = open_store(own.store_url), Consent(email=False).encode()
    assert refused is not None
    store.put_many([(consent_key(former[2]), refused)])
    store.close()
    (own.home / "pseudonym.key").write_text(bytes(32).hex())
    reasons = left_out(export(own, campaign(tmp_path), tmp_path / "after").path)
    assert reasons == {user_id(0): "erased"}
    monkeypatch.setenv("AISLE_PSEUDONYM_KEY_PREVIOUS", KEY.hex())
    reasons = left_out(export(own, campaign(tmp_path), tmp_path / "meanwhile").path)
    assert reasons == {user_id(0): "erased", user_id(1): "erased", user_id(2): "consent"}


def test_arms_and_hold_out_stick_to_people(world: World, tmp_path: Path) -> None:
    text = CAMPAIGN + "\n[hold_out]\nshare = 0.3\n"
    text += '[[arms]]\nname = "a"\n[[arms]]\nname = "b"\nsubject = "B"\nshare = 3\n'
    first = export(world, campaign(tmp_path, text), tmp_path / "first")
    other = text.replace('"spring"', '"summer"')
    second = export(world, campaign(tmp_path, other), tmp_path / "second")
    held = [user for user, why in left_out(first.path).items() if why == "hold_out"]
    assert sorted(held) == sorted(left_out(second.path))
    assert 4 <= len(held) <= 20
    mails = first.scan_mails().collect()
    assert set(mails.filter(pl.col("arm") == "b")["subject"]) == {"B"}
    arms = mails.group_by("arm").agg(pl.col("user").n_unique())
    assert dict(arms.iter_rows())["b"] > dict(arms.iter_rows())["a"]
    again = export(world, campaign(tmp_path, text), tmp_path / "again")
    assert again.manifest() == first.manifest()


def test_nothing_to_say(world: World, tmp_path: Path) -> None:
    text = 'campaign = "none"\nfilter = "price < 0"\n'
    folder = export(world, campaign(tmp_path, text), tmp_path / "out")
    assert set(left_out(folder.path).values()) == {"nothing_to_say"}
    assert folder.manifest()["num_users"] == 0
    assert (folder.path / "preview.html").exists()


def test_shards_are_all_of_it_and_nothing_twice(world: World, tmp_path: Path) -> None:
    whole = export(world, campaign(tmp_path), tmp_path / "whole").scan_mails().collect()
    for number in (1, 2, 3):
        with pytest.raises(CampaignError, match="holds"):
            folders_of(tmp_path / "parts")
        export(world, campaign(tmp_path), tmp_path / "parts", shard=Shard(number, 3))
    parts = [folder.scan_mails().collect() for folder in folders_of(tmp_path / "parts")]
    assert pl.concat(parts).sort("pseudonym", "rank").equals(whole.sort("pseudonym", "rank"))


def test_a_folder_holds_one_export(world: World, tmp_path: Path) -> None:
    export(world, campaign(tmp_path), tmp_path / "out")
    other = campaign(tmp_path, CAMPAIGN.replace("products = 4", "products = 5"))
    with pytest.raises(CampaignError, match="another campaign"):
        export(world, other, tmp_path / "out")


def test_an_unknown_variable_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match=r"\{shoe\} is not known; known: top_title"):
        export(world, campaign(tmp_path, CAMPAIGN.replace("{name}", "{shoe}")), tmp_path / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed_and_resumed(world: World, tmp_path: Path, num_kills: int, workers: int) -> None:
    """Kill an export at random moments, again and again, and let it end."""
    one = campaign(tmp_path)
    whole = export(world, one, tmp_path / "whole", people_per_part=2)
    script = tmp_path / "export_once.py"
    script.write_text(EXPORT)
    out = tmp_path / "killed"
    words = [sys.executable, str(script), str(world.home), str(world.bundle)]
    words += [str(tmp_path / "campaign.toml"), str(out), str(workers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    rng = random.Random(17)
    num_killed = 0
    while num_killed < num_kills:
        seen = len(list(out.glob("part-*.json"))) if out.exists() else 0
        process = subprocess.Popen(words, env=environment)
        wait_for_parts(out, seen, process)
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        num_killed += process.wait() == -signal.SIGKILL
        if (out / "manifest.json").exists() and num_killed < num_kills:
            (out / "manifest.json").unlink()
            for path in rng.sample(sorted(out.glob("part-*.json")), 12):
                path.unlink()
    subprocess.run(words, env=environment, check=True)
    assert contents(out) == contents(whole.path)


def wait_for_parts(out: Path, seen: int, process: "subprocess.Popen[bytes]") -> None:
    """Until the export has begun to write, or has ended."""
    while process.poll() is None and len(list(out.glob("part-*.json"))) <= seen:
        time.sleep(0.005)


@pytest.mark.parametrize(("num_kills", "workers"), [(2, 0), (1, 2)])
def test_killed_and_resumed_it_is_the_same(
    world: World, tmp_path: Path, num_kills: int, workers: int
) -> None:
    killed_and_resumed(world, tmp_path, num_kills, workers)


@pytest.mark.prove
def test_killed_at_twenty_moments_it_is_the_same(world: World, tmp_path: Path) -> None:
    killed_and_resumed(world, tmp_path, 20, 2)


def test_processes_write_what_one_writes(world: World, tmp_path: Path) -> None:
    one = export(world, campaign(tmp_path), tmp_path / "one")
    two = export(world, campaign(tmp_path), tmp_path / "two", workers=2)
    assert contents(one.path) == contents(two.path)


def test_a_plan_is_not_made_twice(world: World, tmp_path: Path) -> None:
    made = job(world, campaign(tmp_path), tmp_path / "out")
    export(world, campaign(tmp_path), tmp_path / "out")
    before = (made.folder.path / "plan.parquet").stat().st_mtime_ns
    export(world, campaign(tmp_path), tmp_path / "out")
    assert (made.folder.path / "plan.parquet").stat().st_mtime_ns == before
