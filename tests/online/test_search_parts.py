"""The parts of a search: how a query is read, who waits for the encoder; and all over gRPC."""

import numpy as np
import pytest

from aisle.v1 import context_pb2, recommendation_pb2
from feature_store.errors import EncoderError
from feature_store.language.encoder import embedded_encoder
from feature_store.language.gazetteer import Gazetteer
from feature_store.language.labels import SlotKind
from feature_store.language.names import Name
from offline.item_texts import centres
from online.search.meaning import WaitingEncoder
from online.search.reading import QueryReader
from tests.online.serving import TIMEOUT_S, Caller, degraded, ids
from tests.worlds import item_id


def test_nobody_waits_while_the_encoder_is_loaded() -> None:
    waiting = WaitingEncoder(embedded_encoder(), is_ready=False)
    with pytest.raises(EncoderError):
        waiting.encode("milk")
    assert waiting._loading is not None
    waiting._loading.join(60)
    assert waiting.encode("milk").shape == (512,)


def names(*rows: Name) -> QueryReader:
    pairs = [(one.kind, one.text, number) for number, one in enumerate(rows)]
    return QueryReader(None, rows, Gazetteer(pairs))


def test_a_query_is_read_by_the_names_of_the_shop() -> None:
    reader = names(
        Name(SlotKind.CATEGORY, "chocolate milk", ("chocolate milk",), ("Dairy > Flavoured",)),
        Name(SlotKind.CATEGORY, "chocolate", ("chocolate",), ("Candy",)),
        Name(SlotKind.CATEGORY, "chocolate cake", ("chocolate cake",), ("Pastry",)),
        Name(SlotKind.CATEGORY, "cake mix", ("cake mix",), ("Baking",)),
        Name(SlotKind.CATEGORY, "巧克力牛奶", ("chocolate milk",), ("Dairy > Flavoured",)),
        Name(SlotKind.TAG, "organic", ("organic",), tags=("organic",)),
        Name(SlotKind.MAX_PRICE, "cheap", ("cheap",)),
    )
    tag, kind = reader.read("Organic CHOCOLATE  milks").parts
    assert (tag.tags, kind.paths) == (("organic",), ("Dairy > Flavoured",))
    sweets, cake = reader.read("chocolate cake mix").parts
    assert (sweets.paths, cake.paths) == (("Candy",), ("Baking",))
    (chinese,) = reader.read("巧克力牛奶").parts
    assert chinese.paths == ("Dairy > Flavoured",)
    assert chinese.phrases == ("巧克力牛奶", "chocolate milk")
    read = reader.read("choclate milk for the kids")
    assert read.text == "chocolate milk for the kid"
    assert [part.phrases[0] for part in read.parts] == ["chocolate milk", "kid"]
    assert [part.phrases for part in reader.read("cheap").parts] == [("cheap",)]
    assert reader.read("...").parts == ()


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
