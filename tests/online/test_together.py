"""Many requests answered together get what each of them gets alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import onnxruntime
import pytest

from feature_store.events import Event
from feature_store.ranking import open_columns
from feature_store.schema import MICROSECONDS_PER_DAY, Corpus, EventKind
from feature_store.two_tower import rated_sources
from online.completion import complete
from online.engine import Engine
from online.feedback.changes import apply
from online.known import Known, known_of, read_records, record_keys
from online.placements import PLACEMENTS
from online.snapshot import Snapshot
from online.stages.ranker import Ranker
from online.stages.searching import search_together
from online.stages.vectors import VectorIndex
from online.together.completing import complete_together
from online.together.queries import Queries
from online.types import PurchaseMode, Quota, Request, Slate
from tests.offline.test_parity import any_ranker
from tests.online.shops import TestShop, open_shop, pseudonym
from tests.worlds import HORIZON_TIME, NUM_ITEMS, NUM_USERS, World, item_id

TOLERANCE = 1e-5
HOUR = 3_600_000_000
RULES: tuple[dict[str, Any], ...] = (
    {"name": "boost", "action": "boost", "filter": "price > 9", "factor": 1.5},
    {"name": "bury", "action": "bury", "items": [item_id(3)], "factor": 2.0},
    {"name": "worth", "action": "objective", "margin": 0.5, "freshness": 0.3, "price": 0.5},
)
FIRM: tuple[dict[str, Any], ...] = (
    {"name": "pin", "action": "pin", "items": [item_id(7)], "slot": 2},
    {"name": "cap", "action": "cap", "by": "brand", "count": 3},
    {"name": "block", "action": "block", "items": [item_id(8)]},
)


@pytest.fixture(autouse=True)
def nothing_fails(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """What fails together would be answered one by one, and prove nothing."""
    yield
    if "fails" not in request.node.name:
        assert not caplog.records


def assert_same(together: list[Slate], alone: list[Slate]) -> None:
    """The same slates, but for swaps of items whose scores are within the tolerance."""
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.model_version, ours.missing, ours.degraded) == (
            theirs.model_version,
            theirs.missing,
            theirs.degraded,
        )
        scores = [item.score for item in theirs.items]
        assert [item.score for item in ours.items] == pytest.approx(scores, abs=TOLERANCE)
        by_item = {(item.corpus, item.item): item for item in theirs.items}
        for place, item in zip(ours.items, theirs.items, strict=True):
            same = by_item[place.corpus, place.item]
            assert same.score == pytest.approx(item.score, abs=TOLERANCE)
            assert replace(place, score=same.score) == same


def compare(engine: Engine, requests: list[Request]) -> None:
    """Answer them all at once, and each of them."""
    alone = [engine.recommend(request) for request in requests]
    assert_same(engine.recommend_many(requests), alone)


def lived_in(world: World, *rules: dict[str, Any], **placement: Any) -> TestShop:
    """A shop whose users looked, liked, disliked and were shown and mailed things of late."""
    shop, dice = open_shop(world, *rules, **placement), np.random.default_rng(3)
    kinds = (
        *(EventKind.VIEW, EventKind.DISLIKE, EventKind.LIKE, EventKind.IMPRESSION),
        *(EventKind.MAIL_SENT, EventKind.CART_ADD),
    )
    events = [
        Event(
            event_id=f"{number}",
            event_time=HORIZON_TIME - int(dice.exponential(2 * MICROSECONDS_PER_DAY)) - HOUR // 4,
            user=pseudonym(int(dice.integers(NUM_USERS))).hex(),
            kind=kinds[number % len(kinds)],
            item=item_id(int(dice.integers(NUM_ITEMS))),
        )
        for number in range(40 * NUM_USERS)
    ]
    apply(events, shop.store)
    return shop


def everybody(placement: str, **fields: Any) -> list[Request]:
    """A request of each user, of strangers and of nobody, each with something left out."""
    people = [pseudonym(number) for number in range(NUM_USERS + 5)] + [b""]
    return [
        Request(
            HORIZON_TIME,
            placement,
            user,
            exclude_items=("x", *(item_id((7 * n + k) % NUM_ITEMS) for k in range(n % 4))),
            **fields,
        )
        for n, user in enumerate(people)
    ]


@pytest.mark.parametrize("placement", sorted(PLACEMENTS))
@pytest.mark.parametrize("mode", list(PurchaseMode))
def test_of_every_placement(pristine_world: World, placement: str, mode: PurchaseMode) -> None:
    shop = lived_in(pristine_world)
    compare(shop.engine, everybody(placement, purchase_mode=mode))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"filter": "price < 4"},
        {"filter": "price > 999"},
        {"region": "north", "page_size": 30},
        {"diversity": 0.5, "page_size": 4},
        {"page_size": 60},
        {"explores": True},
        {"category": "Even"},
        {"session_items": (item_id(4), item_id(9))},
        {"context_items": (item_id(4),)},
    ],
)
@pytest.mark.parametrize("rules", [(), RULES, RULES + FIRM], ids=["plain", "scores", "all"])
def test_whatever_is_asked(
    pristine_world: World, fields: dict[str, Any], rules: tuple[dict[str, Any], ...]
) -> None:
    shop = lived_in(pristine_world, *rules)
    for placement in ("email", "chat", "trending"):
        compare(shop.engine, everybody(placement, **fields))


def test_of_several_kinds_at_once(pristine_world: World) -> None:
    shop = lived_in(pristine_world, *RULES)
    requests = [
        one
        for pair in zip(
            everybody("email", page_size=4),
            everybody("home"),
            everybody("email", region="south"),
            everybody("cart", basket_items=(item_id(5),)),
            strict=True,
        )
        for one in pair
    ]
    compare(shop.engine, requests)


def test_a_stage_that_fails_together_is_asked_one_by_one(
    pristine_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Alone:
        name = "repeat"

        def retrieve(self, query: Any, limit: int) -> Any:
            return repeat.retrieve(query, limit)

        def retrieve_together(self, _queries: Any, _limits: Any) -> Any:
            raise ValueError("together is too much")

    shop = lived_in(pristine_world)
    snapshot = shop.engine.snapshot
    email = snapshot.pipelines["email"]
    repeat = email.sources[0].source
    broken = replace(email, sources=(replace(email.sources[0], source=Alone()), *email.sources[1:]))
    shop.engine.snapshot = replace(snapshot, pipelines={**snapshot.pipelines, "email": broken})
    compare(shop.engine, everybody("email"))
    assert "together is too much" in caplog.text


def known_by(shop: TestShop, requests: list[Request]) -> list[Known]:
    keys = [key for request in requests for key in record_keys(request)]
    found = read_records(shop.store, list(dict.fromkeys(keys)))
    return [known_of(request, found) for request in requests]


def queries_of(shop: TestShop, requests: list[Request]) -> Queries:
    return complete_together(shop.engine.snapshot, requests, known_by(shop, requests))


@pytest.mark.parametrize("placement", ["email", "home", "product_similar"])
def test_queries_are_what_each_would_be(pristine_world: World, placement: str) -> None:
    shop = lived_in(pristine_world)
    requests = everybody(placement)
    known = known_by(shop, requests)
    for query, request, one in zip(queries_of(shop, requests).each, requests, known, strict=True):
        right, _ = complete(shop.engine.snapshot, request, one)
        names = ("owned", "session", "context", "basket", "blocked", "not_new", "tired", "visit")
        for name in names:
            theirs = getattr(right, name)
            assert getattr(query, name).tolist() == theirs[theirs >= 0].tolist() or name == "owned"
        assert query.owned.tolist() == right.owned.tolist()
        for name in ("items", "rows", "bought", "decayed", "days_since"):
            np.testing.assert_array_equal(
                getattr(query.history, name), getattr(right.history, name)
            )
        assert query.offer is right.offer
        assert query.num_wanted == right.num_wanted


@pytest.mark.parametrize("filter_text", ["", "price > 6"])
@pytest.mark.parametrize("num_probes", [2, 16])
def test_vectors_are_found_as_alone(
    pristine_world: World, filter_text: str, num_probes: int
) -> None:
    dice = np.random.default_rng(5)
    vectors = dice.standard_normal((NUM_ITEMS, 8)).astype(np.float32)
    index: Any = faiss.index_factory(8, "IVF16,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = num_probes
    shop = lived_in(pristine_world)
    snapshot = shop.engine.snapshot
    requests = everybody("email", filter=filter_text)
    queries = queries_of(shop, requests)
    allowed = replace(queries.each[0].offer.allowed, few=None)  # as where there are many
    each = tuple(
        replace(query, offer=replace(query.offer, allowed=allowed)) for query in queries.each
    )
    queries = replace(queries, each=each)
    wanted = dice.standard_normal((len(queries), 8)).astype(np.float32)
    asked = np.flatnonzero(np.arange(len(queries)) % 7)
    limits = np.where(np.arange(len(queries)) % 2, 5, 9)
    found = search_together(VectorIndex(index, vectors), queries, asked, wanted, limits)
    assert not np.isin(found.lists.owner, np.setdiff1d(np.arange(len(queries)), asked)).any()
    for number in asked.tolist():
        limit = int(limits[number])
        alone = VectorIndex(index, vectors).search(each[number], wanted[number], limit)
        own = slice(*found.lists.starts[number : number + 2].tolist())
        assert sorted(found.lists.of(number).tolist()) == sorted(alone.items.tolist())
        np.testing.assert_allclose(
            np.sort(found.scores[own]), np.sort(alone.scores), rtol=1e-5, atol=1e-5
        )
    assert snapshot is shop.engine.snapshot


def test_ranked(pristine_world: World) -> None:
    shop = lived_in(pristine_world, *RULES)
    shop.engine.snapshot = ranked(shop.engine.snapshot)
    for placement in ("email", "home"):
        compare(shop.engine, everybody(placement, page_size=12))


def ranked(snapshot: Snapshot) -> Snapshot:
    """The snapshot with a network that says something of the features."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    rated = rated_sources(snapshot.bundle)
    session = onnxruntime.InferenceSession(any_ranker(rated).onnx, options)
    columns = open_columns(snapshot.bundle)
    pipelines = {
        name: replace(
            pipeline,
            scorer=Ranker("scorer.ranker", columns, session, (), rated_sources=rated).over(
                pipeline.source_names
            ),
        )
        if snapshot.placements[name].is_ranked
        else pipeline
        for name, pipeline in snapshot.pipelines.items()
    }
    return replace(snapshot, pipelines=pipelines)


def test_mixed_slates(pristine_world: World) -> None:
    shop = lived_in(pristine_world)
    corpora = (Quota(Corpus.PRODUCT, 3), Quota(Corpus.COUPON, 1))
    compare(shop.engine, everybody("email", page_size=4, corpora=corpora))
