"""Content in mails: what the page would answer, in the language of who is written to."""

from pathlib import Path

import polars as pl
import pytest

from feature_store.schema import Corpus
from offline.campaigns.campaign import Campaign, Slots
from offline.campaigns.mails import MAIL_SCHEMA, Writer
from offline.campaigns.planning import PLAN_SCHEMA
from online.explain import reasons
from online.feedback.attribution import TokenSigner
from tests.online.libraries import HORIZON, NUM_USERS, Shelves, build_shelves, user_of
from tests.worlds import KEY

CAMPAIGN = Campaign(campaign="read", slots=Slots(products=3, content=2))


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Shelves:
    return build_shelves(tmp_path_factory.mktemp("shelves"))


def plan() -> pl.DataFrame:
    """Everybody, every other one in Chinese."""
    names = [user_of(number).hex() for number in range(NUM_USERS)]
    rows = [
        {"user": name, "pseudonym": name, "arm": "all", "language": ("en", "zh")[n % 2]}
        for n, name in enumerate(names)
    ]
    fixed = {"region": "", "excluded": [], "variables": []}
    return pl.DataFrame([{**row, **fixed} for row in rows], PLAN_SCHEMA)


def test_a_mail_has_the_content_that_the_page_would_show(shelves: Shelves, tmp_path: Path) -> None:
    writer = Writer(CAMPAIGN, shelves.engine, TokenSigner(KEY), HORIZON)
    people = plan()
    mails, left_out = writer.write(people)
    assert mails.schema == MAIL_SCHEMA
    assert not len(left_out)
    by_user = mails.partition_by("pseudonym", as_dict=True)
    for person in people.to_dicts():
        rows = by_user[(person["pseudonym"],)]
        slate = shelves.engine.recommend(writer.request(person))
        assert rows["slot"].to_list() == [item.corpus.value for item in slate.items]
        assert rows["item"].to_list() == [item.item for item in slate.items]
        scores = [item.score for item in slate.items]
        assert rows["score"].to_list() == pytest.approx(scores, abs=1e-5)
        texts = [reasons.text(item.reason, person["language"]) for item in slate.items]
        assert rows["reason_text"].to_list() == texts
        content = rows.filter(pl.col("slot") == Corpus.CONTENT.value)
        cards = [item.card for item in slate.items if item.card is not None]
        assert content["title"].to_list() == [card.title for card in cards]
        assert content["url"].to_list() == [card.url for card in cards]
        assert len(content) == len(cards) == 2
    assert mails["rank"].to_list() == [1, 2, 3, 4, 5] * NUM_USERS
    mails.write_parquet(tmp_path / "mails.parquet")
    assert pl.read_parquet(tmp_path / "mails.parquet").equals(mails)
