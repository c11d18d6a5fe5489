"""SearchContent and content in a slate over gRPC, from a server over the small demo shop."""

import shutil
from collections.abc import Iterator

import pytest

from aisle.v1 import content_pb2, content_pb2_grpc, context_pb2, corpus_pb2, slate_pb2
from aisle.v1.recommendation_pb2 import CorpusQuota
from feature_store.pointer import Pointer, serving_folder, write_pointer
from feature_store.store import open_store
from tests.online.libraries import build_shelves
from tests.online.serving import TIMEOUT_S, Caller, serving, settings_of
from tests.worlds import World

CONTENT = corpus_pb2.CORPUS_CONTENT
PRODUCT = corpus_pb2.CORPUS_PRODUCT


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    home = tmp_path_factory.mktemp("library") / "home"
    shelves = build_shelves(serving_folder(home))
    directory = shelves.engine.snapshot.bundle.directory
    write_pointer(home, Pointer("champion", 1, directory.name, directory))
    world = World(home, directory, ())
    open_store(world.store_url).close()
    with serving(settings_of(world, currency="USD")) as (caller, _):
        yield caller
    shutil.rmtree(home)


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
