"""Searches: what fits leads, in both languages and with slips; where nothing fits, it is said."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.catalog_log import Change, Outcome, open_catalog_log
from feature_store.errors import EncoderError
from feature_store.events import Event, with_event_id
from feature_store.language.encoder import embedded_encoder
from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from feature_store.store import MemoryStore
from online.completion import complete
from online.delta.intake import CatalogIntake
from online.engine import Engine
from online.explain import reasons
from online.explain.explaining import Verdict
from online.feedback.changes import apply
from online.known import Known
from online.offering.rules import read_rules
from online.offering.shop import Shop
from online.placements import PLACEMENTS
from online.search.meaning import WaitingEncoder
from online.snapshot import Snapshot, open_snapshot
from online.types import Cause, Degraded, PurchaseMode
from tests.online.searches import (
    PATHS,
    PSEUDONYMS,
    TITLES,
    learn,
    paths,
    purchases,
    ready,
    request,
    titles,
    told,
    with_meaning,
)
from tests.worlds import HORIZON_TIME


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    filled = MemoryStore()
    events = [
        Event(
            event_id="",
            event_time=time,
            user=PSEUDONYMS.hexdigest(f"u{user}"),
            kind=EventKind.PURCHASE,
            item=f"{item:02}",
        )
        for user, item, time in purchases()
    ]
    apply([with_event_id(event) for event in events], filled)
    return filled


@pytest.fixture
def snapshot(bundle: Path) -> Snapshot:
    opened = open_snapshot(open_bundle(bundle, num_room=10))
    return with_meaning(opened, lambda one: replace(one, encoder=ready()))


@pytest.fixture
def engine(snapshot: Snapshot, store: MemoryStore) -> Engine:
    return Engine(store, snapshot)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("cheese", "Dairy > Cheese"),
        ("cheeses", "Dairy > Cheese"),
        ("chese", "Dairy > Cheese"),
        ("HAIR  care", "Care > Hair"),
        ("candies", "Snacks > Candy"),
        ("tools", "Home > Tools"),
        ("奶酪", "Dairy > Cheese"),
        ("牛奶", "Dairy > Milk"),
        ("家用工具", "Home > Tools"),
    ],
)
@pytest.mark.parametrize("user", [None, 3])
def test_what_fits_leads(engine: Engine, query: str, path: str, user: int | None) -> None:
    slate = engine.recommend(request(query, user))
    assert paths(slate)[:3] == [path] * 3
    assert len(slate.items) == 10
    assert not slate.degraded
    first = slate.items[0]
    assert first.source in ("search_words", "search_meaning")
    assert first.reason.code == "for_search"
    assert first.reason.parameters == {"query": " ".join(query.split())}


def test_the_last_word_says_what_it_is_and_neighbours_count(engine: Engine) -> None:
    assert titles(engine.recommend(request("chocolate milk")))[0] == "Chocolate milk"
    assert titles(engine.recommend(request("milk chocolate")))[0] == "Milk chocolate bar"


def test_what_the_user_likes_comes_first_of_what_fits_as_well(
    engine: Engine, store: MemoryStore
) -> None:
    loved = PSEUDONYMS.hexdigest("loves gel")
    times = [HORIZON_TIME - days * MICROSECONDS_PER_DAY for days in (3, 9, 15)]
    gel = TITLES.index("Hair gel")
    bought = [
        Event(event_id=f"gel {time}", event_time=time, user=loved, kind="purchase", item=f"{gel}")
        for time in times
    ]
    apply(bought, store)
    mine = replace(request("hair"), user=bytes.fromhex(loved))
    assert titles(engine.recommend(request("hair")))[0] != "Hair gel"
    assert titles(engine.recommend(mine))[0] == "Hair gel"
    assert paths(engine.recommend(replace(mine, query="cheese")))[:5] == ["Dairy > Cheese"] * 5


@pytest.mark.parametrize("query", ["qzxv wvutq", "!!!", "?"])
def test_where_nothing_fits_the_usual_slate_says_so(engine: Engine, query: str) -> None:
    usual = engine.recommend(request("", 3))
    slate = engine.recommend(request(query, 3))
    assert [item.item for item in slate.items] == [item.item for item in usual.items]
    for item, other in zip(slate.items, usual.items, strict=True):
        told = reasons.text(item.reason, "en")
        assert (item.reason.code, item.source) == (other.reason.code, other.source)
        if any(letter.isalpha() for letter in query):
            assert (
                told == f"Nothing found for “{query}”, instead: {reasons.text(other.reason, 'en')}"
            )
            assert query in reasons.text(item.reason, "zh")


def test_what_hardly_fits_is_not_said_to_be_for_the_search(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("online.search.relevance.LEAST_FIT", 2.0)
    slate = engine.recommend(request("cheese", 0, page_size=25))
    assert len(slate.items) == 25
    assert not any(item.reason.code == "for_search" for item in slate.items)
    assert all("unmatched_query" in item.reason.parameters for item in slate.items)


def test_without_the_encoder_words_go_on(snapshot: Snapshot, store: MemoryStore) -> None:
    class Broken:
        space, dimension = "none", 512

        def encode(self, texts: object) -> Any:
            raise EncoderError("it is gone")

    broken = WaitingEncoder(Broken(), is_ready=True)
    engine = Engine(store, with_meaning(snapshot, lambda one: replace(one, encoder=broken)))
    slate = engine.recommend(request("cheese", 3))
    assert slate.degraded == (Degraded("source.search_meaning", Cause.FAILED),)
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    unknown = engine.recommend(request("qzxv", 3))
    assert not any(told(item) for item in unknown.items)


@pytest.mark.parametrize("text", ["gummy dairy", "dairy gummy", "dairy milk"])
def test_a_common_word_brings_what_sells_best_and_counts_in_full(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Also where the rarer word is not what is looked for, wherever it stands."""
    assert snapshot.product_search is not None
    words = snapshot.product_search.words
    query, _ = complete(snapshot, request(text), Known())
    everything = words.retrieve(query, 25)
    shares = dict(zip(everything.items.tolist(), everything.scores.tolist(), strict=True))
    monkeypatch.setattr("online.search.words.COMMON", 9)  # ten products are dairy
    some = words.retrieve(query, 25)
    dairy = [item for item, path in enumerate(PATHS) if path.startswith("Dairy")]
    least_sold = min(dairy, key=lambda item: float(words.prior[item]))
    is_rare = path_or_title_has(text.replace("dairy", "").strip(), least_sold)
    assert set(shares) - set(some.items.tolist()) == (set() if is_rare else {least_sold})
    assert some.scores.tolist() == [shares[item] for item in some.items.tolist()]
    for found in (everything, some):
        assert found.rate is not None
        rated = found.rate(everything.items)
        assert rated.tolist() == pytest.approx(everything.scores.tolist())


def path_or_title_has(word: str, item: int) -> bool:
    return word in f"{TITLES[item]} {PATHS[item]}".lower()


def test_what_would_be_late_is_left_out_and_named(engine: Engine) -> None:
    late = engine.recommend(request("cheese", 3), deadline_s=perf_counter() - 1)
    skipped = {one.stage for one in late.degraded if one.cause is Cause.SKIPPED}
    assert {"source.search_words", "source.search_meaning"} <= skipped
    assert len(late.items) == 10
    assert not any(told(item) for item in late.items)


def test_what_sells_is_answered_without_a_word_of_the_search(engine: Engine) -> None:
    stuck = Degraded("engine", Cause.FAILED)
    slate = engine.recommend_popular(request("cheese", 3), stuck)
    assert len(slate.items) == 10
    assert not any(told(item) for item in slate.items)


def test_a_bundle_without_vectors_is_searched_by_words(tmp_path: Path, store: MemoryStore) -> None:
    engine = Engine(store, open_snapshot(open_bundle(learn(tmp_path, reads=False))))
    slate = engine.recommend(request("cheese", 3))
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    assert not slate.degraded
    assert "unmatched_query" in engine.recommend(request("qzxv")).items[0].reason.parameters


@pytest.mark.parametrize("placement", ["home", "buy_again", "cart", "trending", "chat"])
def test_elsewhere_a_search_lifts_and_brings_nothing(engine: Engine, placement: str) -> None:
    asked = request("cheddar", 5, placement=placement, page_size=25)
    plain, hinted = (engine.recommend(one) for one in (replace(asked, query=""), asked))
    assert {item.item for item in plain.items} == {item.item for item in hinted.items}
    assert titles(hinted).index("Cheddar") <= titles(plain).index("Cheddar")
    assert all(item.reason.code != "for_search" for item in hinted.items)
    assert not hinted.degraded


def test_filters_exclusions_and_modes_hold(engine: Engine) -> None:
    slate = engine.recommend(
        request("milk", 1, filter='category:"Dairy"', exclude_items=("05",), page_size=25)
    )
    assert len(slate.items) == 9
    assert set(paths(slate)) == {"Dairy > Milk", "Dairy > Cheese"}
    assert "Whole milk" not in titles(slate)
    new = engine.recommend(request("milk", 1, purchase_mode=PurchaseMode.NEW_ONLY))
    bought = {TITLES[item] for user, item, _ in purchases() if user == 1}
    assert not bought & set(titles(new))


def test_the_shop_may_lift_what_fits_but_not_what_does_not(
    snapshot: Snapshot, store: MemoryStore
) -> None:
    rules = [
        {"action": "boost", "items": ["24"], "factor": 90.0, "name": "saws"},
        {"action": "boost", "items": ["04"], "factor": 10.0, "name": "slices"},
    ]
    read = read_rules({"rules": rules}, tuple(PLACEMENTS))
    shop = Shop(snapshot.catalog, snapshot.shop.attributes, PLACEMENTS, read)
    slate = Engine(store, replace(snapshot, shop=shop)).recommend(request("cheese", 4))
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    assert slate.items[0].item == "04"


def test_what_a_sale_is_worth_does_not_lead_past_what_fits(
    snapshot: Snapshot, store: MemoryStore
) -> None:
    """Cheese is nearly worthless to the shop, the last one less so than the others."""
    worth = np.where([path == "Dairy > Cheese" for path in PATHS], 0.02, 1.0).astype(np.float32)
    worth[4] = 0.05
    attributes = replace(snapshot.shop.attributes, price=worth)
    rules = [{"action": "objective", "price": 3.0, "name": "dear"}]
    read = read_rules({"rules": rules}, tuple(PLACEMENTS))
    shop = Shop(snapshot.catalog, attributes, PLACEMENTS, read)
    engine = Engine(store, replace(snapshot, shop=shop))
    slate = engine.recommend(request("cheese", 4, page_size=25))
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    assert slate.items[0].item == "04"
    explained = engine.explain(request("cheese", 4), "04")
    assert explained.score == slate.items[0].score
    assert dict(explained.terms)["rules"] < 0 < dict(explained.terms)["search"]


def test_why_is_explained(engine: Engine) -> None:
    asked = request("cheese", 3)
    chosen = engine.explain(asked, "00")
    assert chosen.verdict is Verdict.SELECTED
    assert chosen.reason is not None
    assert chosen.reason.code == "for_search"
    assert dict(chosen.terms)["search"] > 0.5
    ranks = {one.source: one.rank for one in chosen.sources}
    assert ranks["search_words"] > 0
    assert ranks["search_meaning"] > 0
    other = engine.explain(asked, "20")
    assert other.rank > 5
    assert not {one.source: one.rank for one in other.sources}["search_words"]


def test_many_searches_are_answered_as_one_is(engine: Engine) -> None:
    asked = [request(query, 3) for query in ("cheese", "", "牛奶", "qzxv") for _ in range(9)]
    together = engine.recommend_many(asked)
    assert together == [engine.recommend(one) for one in asked]


def test_a_new_product_is_found(snapshot: Snapshot, store: MemoryStore, tmp_path: Path) -> None:
    with closing(open_catalog_log(tmp_path, store, is_shared=False)) as log:
        engine = Engine(store, snapshot, log=log)
        intake = CatalogIntake(log, engine, embedded_encoder())
        fields = {"title": "Blue cheese crumbles", "category": "Dairy > Cheese"}
        assert intake.write([Change("new", fields)], HORIZON_TIME).result() == [Outcome.CREATED]
        intake.close()
        slate = engine.recommend(request("cheese"))
        assert "new" in [item.item for item in slate.items][:6]


def test_a_long_query_is_cut_and_repeated_shortly(engine: Engine) -> None:
    slate = engine.recommend(request("cheese " * 140, 3))
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    assert len(slate.items[0].reason.parameters["query"]) == 60
