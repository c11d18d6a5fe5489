"""No reason names a source that says nothing for the item."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from feature_store.bundle import open_bundle
from feature_store.ranking import open_columns
from online.explain.causes import reasons_of
from online.stages.places import FROM_FALLBACK, FROM_PIN, Ranking
from online.stages.ranker import Ranker
from online.stages.sources import Popular
from online.together.queries import CandidatesTogether
from online.together.ragged import lists
from online.types import Candidates
from tests.offline.test_parity import any_ranker
from tests.online.shops import TestShop, items, open_shop, request
from tests.online.test_together import queries_of
from tests.worlds import NUM_ITEMS, UNAVAILABLE, World, item_id

NONE = np.nan
SCORES = np.array(
    [
        [5, 5, 5, 5, 5, 5],  # tells nothing apart
        [NONE, 3, 2, 1, 0, NONE],
        [NONE, NONE, 9, NONE, 0, -1],
        [0, 0, 0, 0, 7, 0],
    ],
    np.float32,
)
MAIN = [0, 1, 2, 1, 3, 0]


@pytest.fixture(scope="module")
def shop(pristine_world: World) -> TestShop:
    return open_shop(pristine_world)


def test_ties_rank_low_and_a_score_of_0_ranks_last(pristine_world: World, shop: TestShop) -> None:
    session = onnxruntime.InferenceSession(any_ranker().onnx)
    ranker = Ranker("scorer.ranker", open_columns(open_bundle(pristine_world.bundle)), session, ())
    requests = [request(2), request(3)]
    places, nothing = np.arange(len(MAIN), dtype=np.int32), (None,) * len(SCORES)
    query, _ = shop.engine.candidates(requests[0])
    alone = ranker.main_sources(query, Candidates(places, SCORES, nothing), places.astype(np.intp))
    assert alone.tolist() == MAIN
    twice = lists(np.tile(places, 2), np.repeat([0, 1], len(MAIN)), 2)
    candidates = CandidatesTogether(twice, np.tile(SCORES, 2), nothing)
    chosen = lists(np.arange(2 * len(MAIN), dtype=np.int32), twice.owner, 2)
    queries = queries_of(shop, requests)
    assert ranker.main_sources_together(queries, candidates, chosen).tolist() == 2 * MAIN


def test_a_score_of_0_is_no_reason(shop: TestShop) -> None:
    pipeline = shop.engine.snapshot.pipelines["home"]
    query, _ = shop.engine.candidates(request(2))
    promoted = pipeline.source_names.index("promoted")
    scores = np.full((len(pipeline.sources), 4), np.nan, np.float32)
    scores[promoted, :2] = [1, 0]
    sources = np.array([promoted, promoted, FROM_FALLBACK, FROM_PIN])
    chosen = Candidates(np.array([1, 3, 5, 7], np.int32), scores, (None,) * len(scores))
    ranking = Ranking(chosen, np.ones(4, np.float32), np.ones(4, np.float32), sources, ())
    codes = [reason.code for reason in reasons_of(pipeline, query, ranking)]
    assert codes == ["promoted", "chosen", "popular", "chosen"]
    unsold = pipeline.fallback
    assert isinstance(unsold, Popular)
    unsold = replace(unsold, score=np.zeros_like(unsold.score))
    codes = [one.code for one in reasons_of(replace(pipeline, fallback=unsold), query, ranking)]
    assert codes == ["promoted", "chosen", "chosen", "chosen"]


def test_a_promotion_is_named_only_where_there_is_one(
    pristine_world: World, shop: TestShop
) -> None:
    """The checkerboard has no promotions; what fills a slate is all that it sells."""
    bundle = open_bundle(pristine_world.bundle)
    assert not len(bundle.array("promoted/order"))
    for name in ("popular_recent", "popular_week", "rising"):
        assert (bundle.array(f"{name}/score") > 0).all()
    assert len(bundle.array("popular/order")) == NUM_ITEMS - 1
    sold = {item_id(number) for number in range(NUM_ITEMS)} - {UNAVAILABLE}
    slates = [shop.ask(user, page_size=NUM_ITEMS) for user in (None, *range(6))]
    assert all(set(items(slate)) == sold for slate in slates)
    assert "promoted" not in {item.reason.code for slate in slates for item in slate.items}
