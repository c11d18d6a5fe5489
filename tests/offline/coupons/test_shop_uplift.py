"""Uplift from a shop's own log of known truth: through real training to the answer that serves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_store.bundle import Bundle, open_bundle
from feature_store.coupons import MODELS_FILE, UPLIFT_REPORT, decode_learned
from feature_store.ids import Pseudonymizer
from feature_store.schema import Corpus
from feature_store.store import MemoryStore
from offline.coupons import shop_uplift
from offline.coupons.examples import read_goods
from offline.coupons.shop_uplift import (
    MIN_GROUP,
    NO_LOTS,
    NOT_ABOVE,
    UPLIFT,
    UPLIFT_FILE,
    ShopUplift,
    learn_uplift,
    offer_features,
)
from offline.dataset import Dataset, load_dataset
from offline.home import Home
from offline.materialize import materialize
from offline.progress import QUIET
from offline.recipe import AlsConfig, DataConfig, Recipe
from offline.train import train
from online.engine import Engine
from online.snapshot import open_snapshot
from online.types import Quota, Request
from tests.offline.coupons.offered_shop import (
    BASE,
    DAY,
    HOLD_OUT,
    LAST,
    SHOWN,
    START,
    Draw,
    is_regular,
    make_tables,
    user_of,
)
from tests.offline.coupons.offered_shop import (
    UPLIFT as TRUE_UPLIFT,
)
from tests.worlds import KEY

HORIZON = int(LAST.timestamp() * 1e6)
CUT = int((LAST - 10 * DAY).timestamp() * 1e6)
RECIPE = Recipe(
    "offered",
    data=DataConfig(min_users_per_item=1, cut_time=CUT),
    als=AlsConfig(num_factors=2),
    ranker=None,
)


def read(home: Path) -> Dataset:
    return load_dataset(home / "tables", RECIPE.data, HORIZON)


def learned(home: Path) -> ShopUplift:
    dataset = read(home)
    return learn_uplift(dataset, read_goods(dataset), seed=7)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("offered"), Draw())


@pytest.fixture(scope="module")
def bundle(shop: Path) -> Bundle:
    home = Home(shop, f"lmdb:{shop / 'store'}", None)
    trained = train(home.tables, home, RECIPE, "cpu", QUIET)
    assert "served; its Qini is above" in trained.uplift
    assert trained.uplift in trained.page.read_text()
    return open_bundle(home.bundles / trained.refit.bundle_id)


def test_the_log_says_who_could_have_it_and_what_became_of_it(shop: Path) -> None:
    offers = read(shop).coupons.offers
    assert offers["propensity"].unique().to_list() == [1 - HOLD_OUT]
    groups = {value: offers.filter(pl.col("treated") == value) for value in (True, False)}
    assert groups[True]["was_shown"].mean() == pytest.approx(SHOWN, abs=0.05)
    assert not groups[False]["was_shown"].any()
    effect = SHOWN * np.mean(list(TRUE_UPLIFT.values()))
    bought = {treated: rows["bought"].to_numpy().mean() for treated, rows in groups.items()}
    assert bought[False] == pytest.approx(np.mean(list(BASE.values())), abs=0.05)
    assert bought[True] - bought[False] == pytest.approx(effect, abs=0.06)


def test_the_answer_goes_to_who_is_moved(shop: Path, bundle: Bundle) -> None:
    """Regulars redeem more often and buy without it; the others are moved."""
    store = MemoryStore()
    materialize(shop / "tables", store, None, QUIET)
    engine = Engine(store, open_snapshot(bundle))
    pseudonyms = Pseudonymizer(KEY)
    offered: dict[bool, list[bool]] = {True: [], False: []}
    for number in range(300):
        request = Request(
            request_time=HORIZON,
            placement="home",
            user=pseudonyms.digest(user_of(number)),
            corpora=(Quota(Corpus.COUPON, 1),),
        )
        corpora = [item.corpus for item in engine.recommend(request).items]
        offered[is_regular(number)].append(Corpus.COUPON in corpora)
    assert np.mean(offered[False]) == pytest.approx(1 - HOLD_OUT, abs=0.15), "but for the held out"
    assert np.mean(offered[True]) < 0.1


def test_the_bundle_says_what_it_serves_and_why(bundle: Bundle) -> None:
    assert decode_learned(bundle.json(MODELS_FILE)).uplift == UPLIFT
    assert bundle.path(UPLIFT_FILE).stat().st_size > 100
    report = bundle.json(UPLIFT_REPORT)
    assert report["log"] == "randomised"
    assert report["is_served"]
    assert report["qini_low"] > 0


def test_learned_is_the_effect_of_showing(shop: Path) -> None:
    """Of who could have it not everybody is shown it: what is served is per showing."""
    dataset = read(shop)
    found = learn_uplift(dataset, read_goods(dataset), seed=7)
    assert found.model is not None
    features = offer_features(dataset, read_goods(dataset), dataset.coupons.offers)
    predicted, own = found.model(features), features[:, 1] > 0
    for regular, rows in ((True, own), (False, ~own)):
        assert predicted[rows].mean() == pytest.approx(TRUE_UPLIFT[regular], abs=0.07)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A campaign that half of who is held out were shown as well, before the lots were."""
    draw = Draw(num_users=4_800, leak=0.5)
    return read(make_tables(tmp_path_factory.mktemp("leaky"), draw))


def test_where_the_held_out_were_shown_it_nothing_is_learned(leaky: Dataset) -> None:
    found = learn_uplift(leaky, read_goods(leaky), seed=7)
    assert found.model is None
    share = leaky.coupons.offers.filter(~pl.col("treated"))["was_shown"].to_numpy().mean()
    assert share == pytest.approx(SHOWN / 2, abs=0.03)
    assert f"held out of campaign tea {share:.0%} were shown its offers" in found.report.statement()
    assert found.report.num_people == 0


def test_a_campaign_that_did_not_keep_its_lots_does_not_take_the_others_with_it(shop: Path) -> None:
    dataset = read(shop)
    data = dataset.coupons
    name = {"campaign": pl.lit("mixed")}
    again = data.offers.with_columns(**name, was_shown=pl.lit(True))
    coupon = data.coupons.with_columns(**name, item=pl.lit("mixed-3"))
    both = replace(
        data,
        campaigns=pl.concat([data.campaigns, data.campaigns.with_columns(**name)]),
        coupons=pl.concat([data.coupons, coupon]).sort("item"),
        offers=pl.concat([data.offers, again]),
    )
    mixed = replace(dataset, coupons=both)
    found, alone = (learn_uplift(one, read_goods(one), seed=7) for one in (mixed, dataset))
    assert found.report.num_people == alone.report.num_people == len(data.offers)
    assert found.report.effect == alone.report.effect
    assert found.report.is_served
    assert "campaign mixed 100% were shown" in found.report.statement()
    assert "mixed" not in alone.report.statement()


def test_the_effect_of_showing_is_per_who_was_shown_it_more(
    leaky: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were such a log let in: as 40% of the held out saw it, half the contrast is left."""
    monkeypatch.setattr(shop_uplift, "MAX_HELD_SHOWN", 1.0)
    found = learn_uplift(leaky, read_goods(leaky), seed=7)
    report, truth = found.report, float(np.mean(list(TRUE_UPLIFT.values())))
    assert report.shown_share == pytest.approx(SHOWN, abs=0.03)
    assert report.held_shown_share == pytest.approx(SHOWN / 2, abs=0.03)
    assert f"and of the others {report.held_shown_share:.0%}" in report.statement()
    assert report.effect / report.shown_more == pytest.approx(truth, abs=0.05)
    assert found.model is not None
    features = offer_features(leaky, read_goods(leaky), leaky.coupons.offers)
    assert found.model(features).mean() == pytest.approx(truth, abs=0.05)


def test_without_an_effect_nothing_is_served(tmp_path: Path) -> None:
    found = learned(make_tables(tmp_path, Draw(moves=False)))
    assert found.model is None
    assert found.report.reason == NOT_ABOVE
    assert not found.report.is_served
    assert found.report.qini_low <= 0


def test_too_few_are_said_to_be_too_few(tmp_path: Path) -> None:
    found = learned(make_tables(tmp_path, Draw(num_users=MIN_GROUP)))
    assert found.model is None
    assert "too few people" in found.report.statement()


def test_without_lots_it_is_weighted_and_said_plainly(tmp_path: Path) -> None:
    """The shop showed it to regulars above all, who buy anyhow: a plain comparison would err."""
    dataset = read(make_tables(tmp_path, Draw(hold_out=0.0, chosen=True, num_users=4_000)))
    offers = dataset.coupons.offers
    shown, others = (offers.filter(pl.col("treated") == value)["bought"] for value in (True, False))
    naive = float(shown.to_numpy().mean() - others.to_numpy().mean())
    found = learn_uplift(dataset, read_goods(dataset), seed=7)
    assert found.report.log == "observational"
    assert "Not a randomised estimate" in found.report.statement()
    truth = float(np.mean(list(TRUE_UPLIFT.values())))
    assert abs(found.report.effect - truth) < 0.05 < abs(naive - truth)
    assert found.model is None, "nobody said that it may serve"
    assert NO_LOTS in found.report.statement()
    trusted = learn_uplift(dataset, read_goods(dataset), seed=7, acts_on_observed=True)
    assert trusted.report.is_served
    assert trusted.model is not None
    assert "Not a randomised estimate" in trusted.report.statement()
    features = offer_features(dataset, read_goods(dataset), offers)
    predicted, is_own = trusted.model(features), features[:, 1] > 0
    assert predicted[~is_own].mean() > predicted[is_own].mean() + 0.1


def test_nothing_of_after_the_horizon_is_in_the_log(shop: Path) -> None:
    tables, early = shop / "tables", int((START + 20 * DAY).timestamp() * 1e6)
    offers = load_dataset(tables, RECIPE.data, early).coupons.offers
    assert 0 < len(offers) < len(read(shop).coupons.offers)
    assert offers["start_time"].max() < START + 6 * DAY  # type: ignore[operator]


def test_who_never_bought_is_in_the_log_too(shop: Path) -> None:
    dataset = read(shop)
    rows = dataset.coupons.offers.head(3).with_columns(user=pl.lit("00" * 32))
    features = offer_features(dataset, read_goods(dataset), rows)
    assert (features[:, 1] == 0).all()


def test_a_shop_without_a_log_is_told_how_to_get_one(shop: Path) -> None:
    dataset = read(shop)
    coupons = replace(dataset.coupons, offers=dataset.coupons.offers.clear())
    found = learn_uplift(replace(dataset, coupons=coupons), read_goods(dataset), seed=7)
    assert "hold_out makes one" in found.report.statement()
