"""Several corpora in one slate: exact quotas, values, pins, and shelves that fail."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from feature_store.schema import CORPORA, Corpus
from online.corpora import num_places, quotas_of
from online.engine import Engine
from online.explain.explaining import Verdict
from online.explain.findings import Standing
from online.known import Known
from online.mixing import Offered, mix, product_values
from online.types import Cause, Degraded, Query, Quota, Reason, Request, Slate, SlateItem
from tests.online.shops import TestShop, open_shop, request
from tests.worlds import NUM_ITEMS, World, item_id

PRODUCT, CONTENT, COUPON = CORPORA


@dataclass(frozen=True)
class ArrayShelf:
    """Items in columns: what each is worth to an even and to an odd number of owned products."""

    corpus: Corpus
    values: NDArray[np.float32]
    kinds: NDArray[np.str_]

    def recommend(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], num: int
    ) -> tuple[SlateItem, ...]:
        values = self.values[len(query.owned) % 2]
        wanted = query.request.kinds(self.corpus)
        fits = np.isin(self.kinds, wanted) if wanted else np.ones(len(values), bool)
        best = [place for place in np.argsort(-values, kind="stable") if fits[place]][:num]
        return tuple(
            SlateItem(
                *(f"{self.corpus}-{place}", int(place), self.corpus, float(values[place])),
                *("array", 1.0, Reason("chosen")),
            )
            for place in best
        )

    def stand(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], item_id: str
    ) -> Standing | None:
        return None


@dataclass(frozen=True)
class BrokenShelf:
    """A shelf whose data cannot be read."""

    corpus: Corpus = CONTENT

    def recommend(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], num: int
    ) -> tuple[SlateItem, ...]:
        raise ValueError("damaged")

    def stand(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], item_id: str
    ) -> Standing | None:
        raise ValueError("damaged")


def shelf(corpus: Corpus, num_items: int, seed: int = 1) -> ArrayShelf:
    dice = np.random.default_rng(seed)
    values = dice.uniform(0.0, 0.1, (2, num_items)).astype(np.float32)
    return ArrayShelf(
        corpus, values, np.array(["guide", "help", "recipe"])[np.arange(num_items) % 3]
    )


@pytest.fixture(scope="module")
def shop(pristine_world: World) -> TestShop:
    opened = open_shop(pristine_world)
    shelves = {CONTENT: shelf(CONTENT, 30), COUPON: shelf(COUPON, 7, seed=2)}
    opened.engine.snapshot = replace(opened.engine.snapshot, shelves=shelves)
    return opened


def counts(slate: Slate) -> tuple[int, ...]:
    corpora = [item.corpus for item in slate.items]
    return tuple(corpora.count(corpus) for corpus in CORPORA)


def test_ten_thousand_mixed_slates_hold_their_quotas(shop: TestShop) -> None:
    dice = np.random.default_rng(6)
    for _ in range(10_000):
        wanted = dice.integers(1, 8, 3).tolist()
        order = dice.permutation(3).tolist()
        asked = tuple(Quota(CORPORA[place], wanted[place]) for place in order)
        slate = shop.ask(int(dice.integers(40)), corpora=asked)
        assert counts(slate) == tuple(wanted)
        assert len({item.item for item in slate.items}) == sum(wanted)
        assert not slate.degraded


def test_places_that_are_left_go_to_products_that_were_not_named(shop: TestShop) -> None:
    assert counts(shop.ask(1, page_size=10, corpora=(Quota(CONTENT, 3),))) == (7, 3, 0)
    assert counts(shop.ask(1, corpora=(Quota(CONTENT, 3),))) == (0, 3, 0)


def test_a_corpus_with_too_few_items_leaves_its_places_to_open_quotas(shop: TestShop) -> None:
    few = Quota(COUPON, 9)
    assert counts(shop.ask(1, page_size=12, corpora=(few,))) == (5, 0, 7)
    assert counts(shop.ask(1, corpora=(few, Quota(PRODUCT, 3)))) == (3, 0, 7)
    assert counts(shop.ask(1, page_size=12, corpora=(few, Quota(CONTENT)))) == (0, 5, 7)


def test_open_quotas_share_by_value(shop: TestShop) -> None:
    slate = shop.ask(1, page_size=10, corpora=(Quota(PRODUCT), Quota(CONTENT), Quota(COUPON, 1)))
    offered = shop.ask(1, page_size=40, corpora=(Quota(PRODUCT, 10), Quota(CONTENT, 10)))
    best = sorted((item.score for item in offered.items), reverse=True)[:9]
    shown = [item.score for item in slate.items if item.corpus is not COUPON]
    assert shown == pytest.approx(best)
    assert counts(slate)[2] == 1
    scores = [item.score for item in slate.items]
    assert scores == sorted(scores, reverse=True)


def test_only_the_kinds_that_are_wanted(shop: TestShop) -> None:
    slate = shop.ask(1, corpora=(Quota(CONTENT, 9, ("help",)),))
    assert len(slate.items) == 9
    assert {item.index % 3 for item in slate.items} == {1}


def test_products_only_are_as_ever(shop: TestShop, pristine_world: World) -> None:
    plain = open_shop(pristine_world)
    assert shop.ask(1).items == plain.ask(1).items
    assert [item.item for item in shop.ask(1, corpora=(Quota(PRODUCT),)).items] == [
        item.item for item in plain.ask(1).items
    ]


def test_a_pin_keeps_its_slot(pristine_world: World) -> None:
    rule = {"name": "pin", "action": "pin", "items": ["p07"], "slot": 3}
    opened = open_shop(pristine_world, rule)
    many = replace(shelf(CONTENT, 30), values=np.full((2, 30), 0.5, np.float32))
    opened.engine.snapshot = replace(opened.engine.snapshot, shelves={CONTENT: many})
    slate = opened.ask(1, page_size=8, corpora=(Quota(CONTENT, 5),))
    assert slate.items[2].item == "p07"
    assert counts(slate) == (3, 5, 0)


def test_only_what_is_in_the_mixed_slate_is_selected(shop: TestShop) -> None:
    corpora = (Quota(PRODUCT, 5), Quota(CONTENT, 3))
    slate = shop.ask(1, page_size=8, corpora=corpora)
    shown = {item.item: item for item in slate.items if item.corpus is PRODUCT}
    assert len(shown) == 5
    asked = request(1, page_size=8, corpora=corpora)
    for place in range(NUM_ITEMS):
        found = shop.engine.explain(asked, item_id(place))
        assert (found.verdict is Verdict.SELECTED) == (item_id(place) in shown)
        reason = shown[item_id(place)].reason if item_id(place) in shown else None
        assert found.reason == reason


def test_a_product_is_filtered_where_the_request_has_no_places_for_it(shop: TestShop) -> None:
    found = shop.engine.explain(request(1, corpora=(Quota(CONTENT, 3),)), "p01")
    assert found.verdict is Verdict.FILTERED
    assert found.rank == 0
    assert "corpora" in [one.name for one in found.filters if not one.kept]


def test_a_shelf_that_fails_or_lacks_is_named_and_products_fill(pristine_world: World) -> None:
    opened = open_shop(pristine_world)
    opened.engine.snapshot = replace(opened.engine.snapshot, shelves={CONTENT: BrokenShelf()})
    slate = opened.ask(1, page_size=8, corpora=(Quota(CONTENT, 2), Quota(COUPON, 2)))
    assert counts(slate) == (8, 0, 0)
    assert slate.degraded == (
        Degraded("shelf.content", Cause.FAILED),
        Degraded("shelf.coupon", Cause.UNAVAILABLE),
    )


def test_the_answer_for_a_stuck_pipeline_keeps_the_quota_of_products(shop: TestShop) -> None:
    engine: Engine = shop.engine
    asked = request(1, corpora=(Quota(PRODUCT, 4), Quota(CONTENT, 2)))
    slate = engine.recommend_popular(asked, Degraded("engine", Cause.TIMED_OUT), Known())
    assert counts(slate) == (4, 0, 0)
    assert slate.degraded == (Degraded("engine", Cause.TIMED_OUT),)


def test_quotas_never_add_up_to_more_than_the_page() -> None:
    asked = Request(0, corpora=(Quota(CONTENT, 6), Quota(COUPON, 6)), page_size=8)
    assert [quota.num for quota in quotas_of(asked, num_places(asked, 20))] == [6, 2]


def test_how_long_a_slate_is() -> None:
    exact = (Quota(CONTENT, 2), Quota(COUPON, 1))
    assert num_places(Request(0), 20) == 20
    assert num_places(Request(0, corpora=exact), 20) == 3
    assert num_places(Request(0, corpora=exact, page_size=9), 20) == 9
    assert num_places(Request(0, corpora=(*exact, Quota(PRODUCT))), 20) == 20


def test_measured_values_go_on_as_the_prior_fades() -> None:
    measured = np.array([0.4, 0.2], np.float32)
    values = product_values(NUM_ITEMS, measured)
    assert values[:2] == pytest.approx(measured)
    assert values[7] == pytest.approx(0.2 * (8 / 2) ** -0.5)
    assert (np.diff(product_values(NUM_ITEMS)) < 0).all()


def test_mixing_agrees_with_the_naive_way() -> None:
    """Open quotas: the best of all, while each corpus keeps its order."""
    dice = np.random.default_rng(3)
    for _ in range(200):
        offered = {
            corpus: [
                Offered(SlateItem(f"{corpus}{n}", n, corpus, value, "s", 1.0, Reason("chosen")))
                for n, value in enumerate(sorted(dice.random(9).tolist(), reverse=True))
            ]
            for corpus in CORPORA
        }
        quotas = (Quota(PRODUCT, 2), Quota(CONTENT), Quota(COUPON))
        mixed = mix(8, quotas, offered)
        rivals = sorted(
            (one.item for corpus in (CONTENT, COUPON) for one in offered[corpus]),
            key=lambda item: -item.score,
        )
        expected = [*(one.item for one in offered[PRODUCT][:2]), *rivals[:6]]
        assert list(mixed) == sorted(expected, key=lambda item: -item.score)
