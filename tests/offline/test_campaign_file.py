"""A campaign's file: what it may say, and that everything wrong in it is told at once."""

import shutil
from pathlib import Path

import pytest

from offline.campaigns.campaign import ONLY_ARM
from offline.campaigns.command import shard_of
from offline.campaigns.fields import LISTS, ROOT, SECTIONS, described
from offline.campaigns.planning import Shard
from offline.campaigns.reading import read_campaign
from offline.errors import CampaignError
from tests.architecture.tree import ROOT as REPOSITORY


def refused(folder: Path, text: str) -> str:
    (folder / "campaign.toml").write_text(text)
    with pytest.raises(CampaignError) as caught:
        read_campaign(folder / "campaign.toml")
    return str(caught.value)


def test_the_example_can_be_read() -> None:
    one = read_campaign(REPOSITORY / "infra" / "examples" / "campaign.toml")
    assert [arm.name for arm in one.arms] == ["usual", "varied"]
    assert one.audience.file is not None
    assert one.audience.file.is_file()


def test_little_is_needed(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text('campaign = "a"')
    one = read_campaign(tmp_path / "campaign.toml")
    assert [arm.name for arm in one.arms] == [ONLY_ARM]
    assert (one.slots.products, one.placement, one.send_time) == (4, "email", None)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        """
campaign = "two words"
languge = "en"
language = "tlh"
send_time = "soon"
subject = "{oops"
filter = "price <"
[audience]
file = "nobody.csv"
[slots]
products = 4.5
min_products = 9
[hold_out]
share = 2
[[caps]]
mails = 1
[[arms]]
name = "a"
share = 0
""",
    )
    for part in (
        "campaign: should be 1 to 64 letters",
        "languge: there is no such field; did you mean language?",
        "language: 'tlh' should be `user` or one of",
        "send_time: ",
        "subject: ",
        "filter: ",
        "audience.file: there is no file",
        "slots.products: 4.5 should be a whole number",
        "slots.min_products: is more than",
        "hold_out.share: 2 should lie between 0 and 0.9",
        "caps[1].days: is missing",
        "arms.share: all are 0",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("campaign = ", "cannot be read as TOML"),
        ('campaign = "a"\nsend_time = 2026-01-01T06:00:00', "with a time zone"),
        ('campaign = "a"\nplacement = "moon"', "there is no placement 'moon'"),
        ('campaign = "a"\nsubject = "{user.__class__}"', "is no name of a variable"),
        ('campaign = "a"\narms = 3', "arms: should be a list of tables"),
        ('campaign = "a"\nslots = 3', "slots: should be a table"),
        ('campaign = "a"\n[[arms]]\nname="x"\n[[arms]]\nname="x"', "two are called x"),
        ('campaign = "a"\n[[arms]]\nname="hold_out"', "choose another"),
        ('campaign = "a"\n[slots]\nproducts=0\nmin_products=0', "without anything in it"),
        ("", "campaign: is missing"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(tmp_path, text)


def test_the_help_describes_every_field() -> None:
    text = described()
    fields = [*ROOT, *(f for some in (*SECTIONS.values(), *LISTS.values()) for f in some)]
    assert all(field.name in text and field.about in text for field in fields)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "infra" / "examples" / "people.csv", tmp_path)
    (tmp_path / "campaign.toml").write_text('campaign = "a"\n[audience]\nfile = "people.csv"')
    assert read_campaign(tmp_path / "campaign.toml").audience.file == tmp_path / "people.csv"


def test_shards_are_read() -> None:
    assert shard_of("2/8") == Shard(2, 8)
    for text in ("0/2", "3/2", "2", "a/b", "-1/2"):
        with pytest.raises(CampaignError, match="i/n"):
            shard_of(text)
