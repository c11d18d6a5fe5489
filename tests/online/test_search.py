"""Searches: what fits leads, in both languages and with slips; where nothing fits, it is said."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from aisle.v1 import context_pb2, recommendation_pb2
from feature_store.bundle import open_bundle
from feature_store.catalog_log import Change, Outcome, open_catalog_log
from feature_store.errors import EncoderError
from feature_store.events import Event, with_event_id
from feature_store.ids import Pseudonymizer
from feature_store.language.encoder import embedded_encoder
from feature_store.language.gazetteer import Gazetteer
from feature_store.language.labels import SlotKind
from feature_store.language.names import Name
from feature_store.schema import MICROSECONDS_PER_DAY, PRODUCTS, EventKind
from feature_store.store import MemoryStore
from offline.build import build_bundle
from offline.dataset import Dataset, Purchases
from offline.item_texts import centres
from offline.progress import QUIET
from offline.recipe import AlsConfig, Recipe
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
from online.search.meaning import SearchMeaning, WaitingEncoder
from online.search.reading import QueryReader
from online.snapshot import Snapshot, open_snapshot
from online.types import Cause, Degraded, PurchaseMode, Request, Slate, SlateItem
from tests.online.serving import TIMEOUT_S, Caller, degraded, ids
from tests.worlds import HORIZON_TIME, KEY, item_id

SHELVES = {
    "Dairy > Cheese": ("Cheddar", "Cream spread", "Aged gouda", "Mozzarella", "Swiss slices"),
    "Dairy > Milk": ("Whole milk", "Skim milk", "Chocolate milk", "Oat drink", "Buttermilk"),
    "Snacks > Candy": ("Milk chocolate bar", "Gummy bears", "Chocolate bar", "Mints", "Toffee"),
    "Care > Hair": ("Shampoo", "Hair conditioner", "Hair spray", "Hair gel", "Dry shampoo"),
    "Home > Tools": ("Claw hammer", "Cordless drill", "Wood screws", "Pliers", "Hand saw"),
}
TITLES = [title for titles in SHELVES.values() for title in titles]
PATHS = [path for path, titles in SHELVES.items() for _ in titles]
PSEUDONYMS = Pseudonymizer(KEY)
NUM_USERS = 30


def purchases() -> list[tuple[int, int, int]]:
    """User, item and time: user n buys from shelf n modulo five, from first to last less often."""
    rng = np.random.default_rng(5)
    days = 30 * MICROSECONDS_PER_DAY
    rows = [
        (user, 5 * (user % 5) + int(item), HORIZON_TIME - days + int(rng.random() * days))
        for user in range(NUM_USERS)
        for item in rng.choice(5, 6, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    ]
    return sorted(rows, key=lambda row: row[2])


def learn(folder: Path, *, reads: bool = True) -> Path:
    rows = [
        {"item": f"{n:02}", "title": title, "category": path, "available": True}
        for n, (title, path) in enumerate(zip(TITLES, PATHS, strict=True))
    ]
    items = pl.DataFrame(rows).with_columns(
        pl.lit(None).alias(name) for name in PRODUCTS.names if name not in rows[0]
    )
    user, item, time = (np.array(column) for column in zip(*purchases(), strict=True))
    bought = Purchases(
        user.astype(np.int32), item.astype(np.int32), time, np.ones(len(time), np.float32)
    )
    users = tuple(PSEUDONYMS.hexdigest(f"u{n}") for n in range(NUM_USERS))
    dataset = Dataset(users, items, bought, HORIZON_TIME)
    recipe, role = Recipe("shelves", als=AlsConfig(num_factors=3)), bundle_pb2.ROLE_REFIT
    encoder = embedded_encoder() if reads else None
    built = build_bundle(dataset, recipe, folder, role, "cpu", QUIET, encoder=encoder)
    return built.directory


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


def ready() -> WaitingEncoder:
    return WaitingEncoder(embedded_encoder(), is_ready=True)


def with_meaning(snapshot: Snapshot, change: Callable[[SearchMeaning], SearchMeaning]) -> Snapshot:
    search = snapshot.product_search
    assert search is not None
    assert isinstance(search.meaning, SearchMeaning)
    return replace(snapshot, product_search=replace(search, meaning=change(search.meaning)))


def request(query: str, user: int | None = None, **fields: Any) -> Request:
    who = b"" if user is None else PSEUDONYMS.digest(f"u{user}")
    everything = {"placement": "search_empty", "page_size": 10, **fields}
    return Request(request_time=HORIZON_TIME, user=who, query=query, **everything)


def paths(slate: Slate) -> list[str]:
    return [PATHS[int(item.item)] for item in slate.items]


def titles(slate: Slate) -> list[str]:
    return [TITLES[int(item.item)] for item in slate.items]


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


def test_common_words_count_and_bring_nothing(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert snapshot.product_search is not None
    words = snapshot.product_search.words
    query, _ = complete(snapshot, request("dairy milk"), Known())
    everything = words.retrieve(query, 25)
    monkeypatch.setattr("online.search.words.COMMON", 9)  # ten products are dairy
    rare = words.retrieve(query, 25)
    shares = dict(zip(everything.items.tolist(), everything.scores.tolist(), strict=True))
    assert {TITLES[item] for item in rare.items} == {
        title
        for title, path in zip(TITLES, PATHS, strict=True)
        if "milk" in f"{title} {path}".lower().split() or path.endswith("Milk")
    }
    assert rare.scores.tolist() == [shares[item] for item in rare.items.tolist()]
    assert len(rare.items) < len(everything.items)


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


def told(item: SlateItem) -> bool:
    """Whether the reason speaks of a search."""
    return item.reason.code == "for_search" or "unmatched_query" in item.reason.parameters


def test_nobody_waits_while_the_encoder_is_loaded(bundle: Path, store: MemoryStore) -> None:
    waiting = WaitingEncoder(embedded_encoder(), is_ready=False)
    with pytest.raises(EncoderError):
        waiting.encode("milk")
    assert waiting._loading is not None
    waiting._loading.join(60)
    assert waiting.encode("milk").shape == (512,)


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
        {"action": "boost", "items": ["04"], "factor": 3.0, "name": "slices"},
    ]
    read = read_rules({"rules": rules}, tuple(PLACEMENTS))
    shop = Shop(snapshot.catalog, snapshot.shop.attributes, PLACEMENTS, read)
    slate = Engine(store, replace(snapshot, shop=shop)).recommend(request("cheese", 4))
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    assert slate.items[0].item == "04"


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


def names(*rows: Name) -> QueryReader:
    pairs = [(one.kind, one.text, number) for number, one in enumerate(rows)]
    return QueryReader(None, rows, Gazetteer(pairs))


def test_a_query_is_read_by_the_names_of_the_shop() -> None:
    reader = names(
        Name(SlotKind.CATEGORY, "chocolate milk", ("chocolate milk",), ("Dairy > Flavoured",)),
        Name(SlotKind.CATEGORY, "chocolate", ("chocolate",), ("Candy",)),
        Name(SlotKind.CATEGORY, "巧克力牛奶", ("chocolate milk",), ("Dairy > Flavoured",)),
        Name(SlotKind.TAG, "organic", ("organic",), tags=("organic",)),
        Name(SlotKind.MAX_PRICE, "cheap", ("cheap",)),
    )
    tag, kind = reader.read("Organic CHOCOLATE  milks").parts
    assert (tag.tags, kind.paths) == (("organic",), ("Dairy > Flavoured",))
    (chinese,) = reader.read("巧克力牛奶").parts
    assert chinese.paths == ("Dairy > Flavoured",)
    assert chinese.phrases == ("巧克力牛奶", "chocolate milk")
    read = reader.read("choclate milk for the kids")
    assert read.text == "chocolate milk for the kid"
    assert [part.phrases[0] for part in read.parts] == ["chocolate milk", "kid"]
    assert [part.phrases for part in reader.read("cheap").parts] == [("cheap",)]
    assert reader.read("...").parts == ()


def test_a_long_query_is_cut_and_repeated_shortly(engine: Engine) -> None:
    slate = engine.recommend(request("cheese " * 140, 3))
    assert paths(slate)[:5] == ["Dairy > Cheese"] * 5
    assert len(slate.items[0].reason.parameters["query"]) == 60


def test_centres_are_directions_of_means() -> None:
    vectors = np.array([[1, 0], [0, 1]], np.float16)
    found = centres(vectors, np.array([0, 0, 1]), np.array([1, 2, 2], np.int32), 4)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[0, 0], [1, 0], [half, half], [0, 0]], atol=1e-6)


def test_over_grpc(read_only_server: Caller) -> None:
    """The checkerboard has no vectors: words alone find the thing, also for who likes others."""
    for text in ("odd thing 07", "07"):
        answer = read_only_server.recommend(
            "u02", placement="search_empty", context={"query": text}
        )
        assert ids(answer)[0] == item_id(7)
        assert answer.items[0].source == "search_words"
        assert answer.items[0].reason.text == f"For your search “{text}”"
        assert not degraded(answer)
    nothing = read_only_server.recommend(
        "u02", placement="search_empty", context={"query": "zzz", "locale": "zh"}
    )
    usual = read_only_server.recommend("u02", placement="search_empty")
    assert ids(nothing) == ids(usual)
    assert all(item.reason.text.startswith("没有找到“zzz”") for item in nothing.items)


def test_blanks_are_no_search(read_only_server: Caller) -> None:
    answers = [
        read_only_server.recommend("u02", placement="search_empty", context={"query": query})
        for query in ("", " \t ")
    ]
    assert ids(answers[0]) == ids(answers[1])
    assert not any("unmatched_query" in item.reason.parameters for item in answers[1].items)


def test_explained_over_grpc(read_only_server: Caller) -> None:
    asked = recommendation_pb2.RecommendRequest(
        user_id="u02",
        placement="search_empty",
        context=context_pb2.Context(query="odd thing 07"),
    )
    explained = read_only_server.recommendations.Explain(
        recommendation_pb2.ExplainRequest(item_id=item_id(7), recommend=asked), timeout=TIMEOUT_S
    )
    assert explained.verdict == recommendation_pb2.ExplainResponse.VERDICT_SELECTED
    assert explained.score_terms[0].name == "search"
    assert {one.source: one.rank for one in explained.sources}["search_words"] == 1
    assert explained.reason.code == "for_search"
