"""Content over gRPC, from a server over the small demo shop: found, shown, explained, learned."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aisle.bundle.v1 import bundle_pb2
from aisle.v1 import (
    content_pb2,
    content_pb2_grpc,
    context_pb2,
    corpus_pb2,
    event_pb2,
    recommendation_pb2,
    slate_pb2,
)
from aisle.v1.recommendation_pb2 import CorpusQuota, ExplainResponse
from feature_store.bundle import BundleWriter
from feature_store.content.columns import open_columns
from feature_store.language.encoder import embedded_encoder
from feature_store.pointer import Pointer, serving_folder, write_pointer
from feature_store.schema import MICROSECONDS_PER_DAY, PRODUCTS
from feature_store.store import open_store
from offline.compact import compact
from offline.content.dataset import ContentData, load_content
from offline.content.section import write_content
from offline.content.tuning import demo_content
from offline.exposures import scan_exposures
from online.completion import complete
from online.content.library import Library
from online.content.shelf import ContentShelf
from online.known import Known
from online.process.server import EVENT_LOG
from online.types import Request
from tests.online.libraries import HORIZON, Shelves, build_shelves
from tests.online.serving import TIMEOUT_S, Caller, event, serving, settings_of, statuses
from tests.worlds import World

CONTENT = corpus_pb2.CORPUS_CONTENT
PRODUCT = corpus_pb2.CORPUS_PRODUCT
LEARNED_KINDS = ["guide", "tip"]
READING = [CorpusQuota(corpus=CONTENT, count=4)]


@dataclass(frozen=True)
class Place:
    """A server, its home, and the small shop that it serves."""

    caller: Caller
    home: Path
    shelves: Shelves


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("library") / "home"
    shelves = build_shelves(serving_folder(home))
    directory = shelves.engine.snapshot.bundle.directory
    write_pointer(home, Pointer("champion", 1, directory.name, directory))
    world = World(home, directory, ())
    open_store(world.store_url).close()
    with serving(settings_of(world, currency="USD")) as (caller, _):
        yield Place(caller, home, shelves)
    shutil.rmtree(home)


@pytest.fixture
def reader(place: Place) -> Caller:
    return place.caller


def search(caller: Caller, query: str, **fields: object) -> content_pb2.SearchContentResponse:
    stub = content_pb2_grpc.ContentServiceStub(caller.channel)
    request = content_pb2.SearchContentRequest(query=query, **fields)  # type: ignore[arg-type]
    return stub.SearchContent(request, timeout=TIMEOUT_S)


def test_a_question_gets_a_passage_and_what_is_needed_to_show_it(reader: Caller) -> None:
    found = search(reader, "where is my refund, how long does it take")
    best = found.matches[0]
    assert best.item_id == "help-refunds"
    assert best.content.kind == "help"
    assert best.content.locale == "en"
    assert best.passage
    assert best.display.title
    assert 0 < best.confidence <= 1
    assert found.attribution_token
    assert found.model_version
    assert not found.degraded


def test_no_answer_is_an_empty_one(reader: Caller) -> None:
    assert not search(reader, "who won the football match last night").matches


def test_kinds_and_languages_hold(reader: Caller) -> None:
    found = search(
        reader,
        "how do I make dumplings at home",
        kinds=["recipe"],
        context=context_pb2.Context(locale="zh-Hans"),
        page_size=2,
    )
    assert [match.content.kind for match in found.matches] == ["recipe"] * len(found.matches)
    assert 0 < len(found.matches) <= 2
    assert {match.content.locale for match in found.matches} == {"zh"}


def test_products_and_content_come_in_one_slate(reader: Caller) -> None:
    response = reader.recommend(
        page_size=8,
        corpora=[CorpusQuota(corpus=CONTENT, count=2, kinds=["recipe", "guide"])],
        view=slate_pb2.ITEM_VIEW_FULL,
    )
    assert [item.corpus for item in response.items].count(CONTENT) == 2
    assert [item.corpus for item in response.items].count(PRODUCT) == 6
    for item in response.items:
        assert item.display.title
        assert item.HasField("content") == (item.corpus == CONTENT)
        assert item.reason.text
    kinds = {item.content.kind for item in response.items if item.corpus == CONTENT}
    assert kinds <= {"recipe", "guide"}
    assert not response.degraded


def explain(caller: Caller, item: str, **fields: object) -> ExplainResponse:
    asked = {"placement": "home", "page_size": 4, "corpora": READING, **fields}
    recommend = recommendation_pb2.RecommendRequest(**asked)  # type: ignore[arg-type]
    call = recommendation_pb2.ExplainRequest(item_id=item, recommend=recommend)
    return caller.recommendations.Explain(call, timeout=TIMEOUT_S)


def removed_by(response: ExplainResponse) -> list[str]:
    return [one.filter for one in response.filters if not one.kept]


def test_every_piece_gets_the_verdict_of_the_slate(place: Place) -> None:
    item = place.shelves.items["item"][0]
    page = {"user_id": "u3", "context": context_pb2.Context(item_ids=[item])}
    slate = place.caller.recommend("u3", page_size=4, corpora=READING, context=page["context"])
    chosen = {one.item_id: one for one in slate.items}
    ranks = []
    for piece in sorted(set(demo_content().rows["item"].to_list())):
        response = explain(place.caller, piece, **page)
        assert response.text
        assert response.model_version == slate.model_version
        terms = sum(one.value for one in response.score_terms)
        assert terms == pytest.approx(response.score, abs=1e-6)
        ranks.append(response.rank)
        if piece in chosen:
            assert response.verdict == ExplainResponse.VERDICT_SELECTED
            assert response.reason == chosen[piece].reason
            assert response.score == pytest.approx(chosen[piece].score)
        elif response.rank == 0:
            assert response.verdict == ExplainResponse.VERDICT_FILTERED
            assert removed_by(response) == ["dates"]
        else:
            assert response.verdict == ExplainResponse.VERDICT_OUTRANKED
            assert not response.HasField("reason")
    shown = sorted(rank for rank in ranks if rank)
    assert shown == list(range(1, len(shown) + 1))


def test_what_keeps_a_piece_out_is_named(reader: Caller) -> None:
    recipe = "recipe-pancakes"
    only_tips = [CorpusQuota(corpus=CONTENT, count=4, kinds=["tip"])]
    assert removed_by(explain(reader, recipe, corpora=only_tips)) == ["kinds"]
    assert removed_by(explain(reader, recipe, corpora=[])) == ["corpora"]
    assert removed_by(explain(reader, recipe, exclude_ids=[recipe])) == ["unwanted"]
    assert explain(reader, "nothing").verdict == ExplainResponse.VERDICT_UNKNOWN_ITEM


def act(caller: Caller, kind: str, item: str, *users: str) -> None:
    """Let users act on a piece, one after the other."""
    written: list[event_pb2.Event] = []
    for number, user in enumerate(users):
        one = event(item, kind, user_id=user, corpus=CONTENT)
        one.event_time.FromMicroseconds(HORIZON - MICROSECONDS_PER_DAY + number)
        written.append(one)
    assert set(statuses(caller.write(*written))) == {"accepted"}


def test_what_people_find_of_use_moves_up_and_the_rest_down(place: Place, tmp_path: Path) -> None:
    """Clicks and "was this helpful" go through the log and the tables into the next bundle."""
    caller = place.caller
    people = [f"reader{number}" for number in range(12)]
    kinds = [CorpusQuota(corpus=CONTENT, count=120, kinds=LEARNED_KINDS)]
    before = [one.item_id for one in caller.recommend("stranger", corpora=kinds).items]
    useless, useful = before[0], before[-1]
    act(caller, "CLICK", useful, *people[:6])
    act(caller, "LIKE", useful, *people[6:])
    act(caller, "DISLIKE", useless, *people)
    own = [one.item_id for one in caller.recommend(people[0], corpora=kinds).items]
    assert useless not in own, "at once, for who said so"
    tables = place.home / "tables"
    tables.mkdir(exist_ok=True)
    demo_content().rows.write_parquet(tables / "content.parquet")
    compact(place.home / EVENT_LOG, tables, HORIZON)
    data = load_content(tables, HORIZON)
    counts = dict(data.counts.select("item", "acted").iter_rows())
    assert (counts[useful], counts[useless]) == (12, -12)
    stale = ranks_with(place.shelves, tmp_path / "stale", ContentData(data.rows))
    learned = ranks_with(place.shelves, tmp_path / "learned", data)
    assert learned[useful] < stale[useful]
    assert learned[useful] == 1
    assert learned[useless] > stale[useless]


def ranks_with(shelves: Shelves, folder: Path, data: ContentData) -> dict[str, int]:
    """The rank of each guide and tip for a stranger, in a bundle made of `data`."""
    few = ContentData(data.rows.filter(pl.col("kind").is_in(LEARNED_KINDS)), data.counts)
    items = shelves.items.select(PRODUCTS.names)
    with BundleWriter(folder) as writer:
        write_content(writer, few, items, np.zeros(0, np.int32), embedded_encoder())
        bundle = writer.commit(
            horizon_time=HORIZON, seed=0, recipe={}, role=bundle_pb2.ROLE_REFIT, num_items={}
        )
    snapshot = shelves.engine.snapshot
    vectors = np.zeros((0, embedded_encoder().dimension), np.float16)
    shelf = ContentShelf(Library(open_columns(bundle), snapshot.catalog, vectors))
    query, _ = complete(snapshot, Request(HORIZON), Known())
    ranked = shelf.recommend(query, Known(), (), len(shelf.library))
    return {one.item: rank for rank, one in enumerate(ranked, 1)}


def test_new_pieces_get_their_chance_and_it_is_known_how_likely(place: Place) -> None:
    drawn = 0
    for number in range(24):
        response = place.caller.recommend(f"stranger{number}", page_size=4, corpora=READING)
        *best, last = response.items
        assert {one.propensity for one in best} == {1.0}
        assert 0 < last.propensity < 1
        drawn += last.source == "content_explored"
    assert 1 <= drawn <= 16
    assert num_drawn_by_chance(place) >= 24


def num_drawn_by_chance(place: Place) -> int:
    """In how many slates the tables have a last place with less than certainty, at most 24."""
    tables = place.home / "tables"
    for _ in range(50):
        compact(place.home / EVENT_LOG, tables, HORIZON)
        kept = scan_exposures(tables).select(pl.col("propensities").list.last()).collect()
        found = int((kept["propensities"] < 1).sum())
        if found >= 24:
            break
        time.sleep(0.1)  # exposures are written behind the answer
    return found
