"""Which coupons are offered, in which order, at which prices: the shelf, its models, its pacing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter, open_bundle
from feature_store.coupon_demand import FIRST_MONDAY_H, HOUR
from feature_store.coupon_features import COUPON_FEATURES, coupon_features
from feature_store.coupons import (
    HOURS_OF_WEEK,
    MODELS_FILE,
    Campaign,
    Coupon,
    Discount,
    DiscountKind,
    Learned,
    Model,
    encode_learned,
)
from feature_store.ledger import Ask, Ledger, open_ledger
from feature_store.people import Consent
from feature_store.ranking import History
from feature_store.schema import Corpus
from feature_store.state import HALF_LIVES_DAYS, ITEM_DTYPE
from feature_store.store import MemoryStore, open_store
from online.catalog import Catalog, open_catalog
from online.completion import complete
from online.coupons.columns import Coupons
from online.coupons.live import LiveCoupons, charges_of
from online.coupons.shelf import CouponShelf
from online.coupons.usual import Usual
from online.coupons.valuing import Models, base_rates_only, open_models
from online.errors import SnapshotError
from online.known import Known, known_of, read_records, record_keys
from online.snapshot import Snapshot, open_snapshot
from online.types import BasketLine, Quota
from tests.online.coupons import DAY, ONE, columns, coupon
from tests.online.shops import pseudonym, request
from tests.worlds import HORIZON_TIME, World

NOW = HORIZON_TIME
PLANNED = (Campaign("spring", budget=100 * ONE, start_time=NOW - 5 * DAY, end_time=NOW + 5 * DAY),)


@pytest.fixture(scope="module")
def snapshot(pristine_world: World) -> Snapshot:
    return open_snapshot(open_bundle(pristine_world.bundle))


@pytest.fixture(scope="module")
def catalog(pristine_world: World) -> Catalog:
    return open_catalog(open_bundle(pristine_world.bundle))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_ledger(f"sqlite:{tmp_path / 'ledger'}")
    yield ledger
    ledger.close()


def amount(units: float) -> Discount:
    return Discount(DiscountKind.AMOUNT, amount=round(units * ONE))


def offered(
    shelf: CouponShelf, snapshot: Snapshot, known: Known | None = None, num: int = 9, **fields: Any
) -> list[str]:
    known = known or Known()
    query, _ = complete(snapshot, request(None, **fields), known)
    return [item.item for item in shelf.recommend(query, known, (), num)]


def shelf_of(coupons: Coupons, catalog: Catalog, models: Models | None = None) -> CouponShelf:
    return CouponShelf(coupons, catalog, models or base_rates_only(coupons))


def each_its_own(*coupons: Coupon) -> list[Coupon]:
    """Each in a campaign of its own, so that none takes another's place."""
    return [replace(one, campaign=one.item) for one in coupons]


def test_what_costs_less_for_the_same_effect_comes_first(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    priced = [coupon(name, discount=amount(cost)) for name, cost in (("a", 3), ("b", 1), ("c", 2))]
    shelf = shelf_of(columns(catalog, *each_its_own(*priced)), catalog)
    assert offered(shelf, snapshot) == ["b", "c", "a"]


def test_an_offer_that_loses_money_is_not_made(snapshot: Snapshot, catalog: Catalog) -> None:
    dear = coupon("dear", discount=amount(20.01))  # a basket earns 20.00
    fair = coupon("fair", discount=amount(19.99))
    shelf = shelf_of(columns(catalog, *each_its_own(dear, fair)), catalog)
    assert offered(shelf, snapshot) == ["fair"]


def test_what_a_basket_says_of_the_cost_counts(snapshot: Snapshot, catalog: Catalog) -> None:
    """A tenth, at most 30.00, loses money if all of it is given, and not on a basket of 10.00."""
    share = Discount(DiscountKind.PERCENT, basis_points=1_000, maximum=30 * ONE)
    shelf = shelf_of(columns(catalog, coupon("a", discount=share)), catalog)
    assert offered(shelf, snapshot) == []
    lines = (BasketLine("p04", amount=10 * ONE),)
    assert offered(shelf, snapshot, basket_lines=lines) == ["a"]


def test_a_shadow_price_makes_money_dearer(snapshot: Snapshot, catalog: Catalog) -> None:
    coupons = columns(catalog, *each_its_own(coupon("a"), coupon("b", discount=amount(2.5))))
    models = base_rates_only(coupons)
    assert offered(shelf_of(coupons, catalog, models), snapshot) == ["a", "b"]
    scarce = replace(models, prices=np.array([1.0, 0.0]))  # a unit of a's budget is worth one more
    assert offered(shelf_of(coupons, catalog, scarce), snapshot) == ["b", "a"]
    ruinous = replace(models, prices=np.array([9.5, 0.0]))
    assert offered(shelf_of(coupons, catalog, ruinous), snapshot) == ["b"]


def test_one_of_a_campaign_is_offered_and_as_many_as_asked_for(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    many = [coupon(f"c{n}", campaign=f"k{n // 2}") for n in range(8)]
    shelf = shelf_of(columns(catalog, *many), catalog)
    assert offered(shelf, snapshot) == ["c0", "c2", "c4", "c6"]
    assert offered(shelf, snapshot, num=2) == ["c0", "c2"]
    assert offered(shelf, snapshot, exclude_items=("c0",)) == ["c1", "c2", "c4", "c6"]


def test_what_the_user_buys_decides_between_equals(
    snapshot: Snapshot, catalog: Catalog, world: World
) -> None:
    goods = {"odd": [1, 3, 5], "even": list(range(0, 60, 2))}
    shelf = shelf_of(columns(catalog, coupon("odd"), coupon("even"), goods=goods), catalog)
    asked = request(0)
    store = open_store(world.store_url)
    known = known_of(asked, read_records(store, record_keys(asked)))
    store.close()
    assert pseudonym(0).hex() in known.name
    query, _ = complete(snapshot, asked, known)
    (first,) = shelf.recommend(query, known, (), 5)
    assert (first.item, first.reason.code) == ("even", "coupon_own_goods")


def test_the_score_is_the_calibrated_chance_of_a_redemption(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    shelf = shelf_of(columns(catalog, coupon("a"), base_rate=0.037), catalog)
    query, _ = complete(snapshot, request(None), Known())
    (item,) = shelf.recommend(query, Known(), (), 1)
    assert item.score == pytest.approx(0.037, rel=1e-6)


def test_mail_needs_the_consent_to_mails(snapshot: Snapshot, catalog: Catalog) -> None:
    shelf = shelf_of(columns(catalog, coupon("a")), catalog)
    known = Known(consent=Consent(email=False))
    assert offered(shelf, snapshot, known, channel="mail") == []
    assert offered(shelf, snapshot, known, channel="web") == ["a"]


def test_only_wanted_kinds_of_coupons(snapshot: Snapshot, catalog: Catalog) -> None:
    gift = Discount(DiscountKind.GIFT, gift_item="p02", maximum=ONE)
    shelf = shelf_of(
        columns(catalog, *each_its_own(coupon("a"), coupon("g", discount=gift))), catalog
    )
    quotas = (Quota(Corpus.COUPON, 3, ("gift",)),)
    assert offered(shelf, snapshot, corpora=quotas) == ["g"]


def test_what_is_used_up_a_moment_ago_is_not_offered(
    snapshot: Snapshot, catalog: Catalog, ledger: Ledger
) -> None:
    coupons = columns(catalog, coupon("a", max_claims=1), coupon("b", discount=amount(3)))
    live = LiveCoupons(coupons, ledger, MemoryStore(), np.zeros(1))
    shelf = shelf_of(coupons, catalog).with_live(live)
    assert offered(shelf, snapshot) == ["a"]
    ledger.claim(claim_of(coupons, 0, "1", NOW))
    assert offered(shelf, snapshot) == ["b"]
    ledger.expire(NOW + DAY)
    assert offered(shelf, snapshot) == ["a"]


def test_what_is_held_is_shown_where_it_is_wanted_and_good(
    snapshot: Snapshot, catalog: Catalog, ledger: Ledger
) -> None:
    gift = Discount(DiscountKind.GIFT, gift_item="p02", maximum=ONE)
    offers = coupon("a", max_claims=1, regions=("north",)), coupon("g", discount=gift)
    coupons = columns(catalog, *each_its_own(*offers))
    shelf = shelf_of(coupons, catalog).with_live(
        LiveCoupons(coupons, ledger, MemoryStore(), np.zeros(2))
    )
    ledger.claim(claim_of(coupons, 0, "1", NOW))
    x = Known(name="user/x")
    assert offered(shelf, snapshot, x, region="north") == ["a", "g"]
    assert offered(shelf, snapshot, x, region="south") == ["g"]
    assert offered(shelf, snapshot, x, region="north", exclude_items=("a",)) == ["g"]
    gifts = (Quota(Corpus.COUPON, 3, ("gift",)),)
    assert offered(shelf, snapshot, x, region="north", corpora=gifts) == ["g"]
    assert offered(shelf, snapshot, x, region="north", exclude_items=("g",)) == ["a"]


def claim_of(coupons: Coupons, place: int, claim_id: str, now_time: int) -> Ask:
    coupon = coupons.coupons[place]
    charges = charges_of(coupons, place, "user/x")
    micros = int(coupons.face_value[place])
    return Ask(claim_id, coupon.item, "user/x", micros, charges, now_time, now_time + DAY)


def test_prices_rise_when_more_is_spent_than_planned_and_fall_again(
    catalog: Catalog, ledger: Ledger
) -> None:
    coupons = columns(catalog, coupon("a", discount=amount(4)), campaigns=PLANNED)
    store, first = MemoryStore(), np.array([1.0])
    live = LiveCoupons(coupons, ledger, store, first)
    assert live.prices(NOW).tolist() == [1.0]
    for number in range(12):  # 48 of 100 in a tenth of the time
        ledger.claim(claim_of(coupons, 0, str(number), NOW))
    (risen,) = live.prices(NOW + DAY)
    assert risen > 1.0
    another = LiveCoupons(coupons, ledger, store, first)
    assert another.prices(NOW + DAY).tolist() == [risen], "all workers see the same price"
    assert another.prices(NOW + DAY).tolist() == [risen], "and move it once"
    (fallen,) = live.prices(NOW + 3 * DAY)  # nothing more was spent
    assert fallen < risen


def test_prices_follow_what_the_visitors_of_all_workers_could_be_shown(
    catalog: Catalog, ledger: Ledger
) -> None:
    coupons = columns(catalog, coupon("a", discount=amount(4)), campaigns=PLANNED)
    store, first = MemoryStore(), np.array([1.0])
    live, another = (LiveCoupons(coupons, ledger, store, first) for _ in range(2))
    alone = LiveCoupons(coupons, ledger, MemoryStore(), first)
    assert live.prices(NOW) == another.prices(NOW) == alone.prices(NOW) == [1.0]
    cost, shown = np.array([0.8 * ONE]), np.ones(1, bool)
    for worker in (live, another):
        for _ in range(300):  # in a tenth of the time more than the budget, at prices up to 3
            worker.note(3.0 * cost, cost, shown)
    for number in range(12):
        ledger.claim(claim_of(coupons, 0, str(number), NOW))
    (risen,) = live.prices(NOW + DAY)
    assert risen > alone.prices(NOW + DAY)[0]
    assert another.prices(NOW + DAY).tolist() == [risen]
    assert live.prices(NOW + 2 * DAY)[0] > alone.prices(NOW + 2 * DAY)[0]


def test_what_usually_comes_late_is_waited_for(catalog: Catalog, ledger: Ledger) -> None:
    """Nothing is used in the first tenth: even visitors make the price fall, late ones do not."""
    coupons = columns(catalog, coupon("a", discount=amount(4)), campaigns=PLANNED)
    (campaign,) = coupons.campaigns
    assert campaign.start_time is not None
    first_hour = campaign.start_time // HOUR - FIRST_MONDAY_H
    come = np.array([one not in range(24) for one in range(HOURS_OF_WEEK)], float)
    visits = tuple(np.roll(come / come.sum(), first_hour % HOURS_OF_WEEK).tolist())
    first, later = np.array([1.0]), campaign.start_time + 20 * HOUR
    even = LiveCoupons(coupons, ledger, MemoryStore(), first)
    late = LiveCoupons(coupons, ledger, MemoryStore(), first, Usual(visits=visits))
    for live in (even, late):
        assert live.prices(campaign.start_time).tolist() == [1.0]
    assert late.prices(later)[0] == pytest.approx(1.0, rel=0.02)
    assert even.prices(later)[0] < 0.9


def test_a_campaign_without_an_end_has_no_pace(catalog: Catalog, ledger: Ledger) -> None:
    endless = (Campaign("spring", budget=10 * ONE),)
    coupons = columns(catalog, coupon("a"), campaigns=endless)
    live = LiveCoupons(coupons, ledger, MemoryStore(), np.array([0.7]))
    ledger.claim(claim_of(coupons, 0, "1", NOW))
    assert live.prices(NOW).tolist() == live.prices(NOW + DAY).tolist() == [0.7]


def history(**bought: float) -> History:
    """A user who has bought these products (`p3=2.0`: twice, ten days ago)."""
    items = sorted(int(name[1:]) for name in bought)
    rows = np.zeros(len(items), ITEM_DTYPE)
    counts = np.array([bought[f"p{item}"] for item in items])
    decayed = np.repeat(counts[:, None], len(HALF_LIVES_DAYS), axis=1)
    return History(np.array(items, np.int32), rows, counts > 0, decayed, np.full(len(items), 10.0))


def features_of(coupons: Coupons, user: History) -> dict[str, list[float]]:
    named, lines = coupons.good_for(user.items)
    sizes = np.diff(coupons.goods_starts)
    found = coupon_features(user, 4.0, named, lines, sizes, coupons.is_for_all, coupons.base_rate)
    return {name: found[:, i].tolist() for i, name in enumerate(COUPON_FEATURES)}


def test_features_of_a_user_and_a_coupon(catalog: Catalog) -> None:
    goods = {"a": [3, 4, 9], "b": [7]}
    coupons = columns(catalog, coupon("a"), coupon("b"), coupon("c"), goods=goods, base_rate=0.5)
    found = features_of(coupons, history(p3=2.0, p4=1.0, p8=1.0))
    assert found["base_rate_logit"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found["own_goods_log"] == pytest.approx([np.log1p(3), 0, 0])
    assert found["own_kinds_log"] == pytest.approx([np.log1p(2), 0, 0])
    assert found["own_share"] == pytest.approx([0.75, 0, 1])
    assert found["days_since_goods_log"] == pytest.approx(np.log1p([10, 400, 400]), rel=1e-6)
    assert found["num_goods_log"] == pytest.approx(np.log1p([3, 1, 0]), rel=1e-6)
    assert found["is_for_all"] == [0, 0, 1]
    nobody = features_of(coupons, history())
    assert nobody["own_share"] == [0, 0, 1]


def learned_models(tmp_path: Path, coupons: Coupons, learned: Learned, **files: bytes) -> Models:
    with BundleWriter(tmp_path) as writer:
        writer.json(MODELS_FILE, encode_learned(learned))
        for name, content in files.items():
            writer.data(f"coupons/{name}.onnx", content)
        bundle = writer.commit(
            horizon_time=0, seed=0, recipe={}, role=bundle_pb2.ROLE_REFIT, num_items={}
        )
    return open_models(bundle, coupons)


def test_a_linear_model_is_read_and_asked(
    tmp_path: Path, snapshot: Snapshot, catalog: Catalog
) -> None:
    coupons = columns(catalog, *each_its_own(coupon("a"), coupon("b")), goods={"b": [1, 2]})
    model = Model("linear", ("num_goods_log", "is_for_all"), (1.0, 0.5), -3.0)
    models = learned_models(tmp_path, coupons, Learned(model, None, {"b": 0.25}))
    assert models.prices.tolist() == [0.0, 0.25]
    query, _ = complete(snapshot, request(None), Known())
    shelf = shelf_of(coupons, catalog, models)
    scores = {item.item: item.score for item in shelf.recommend(query, Known(), (), 5)}
    expected = {"a": -3.0 + 0.5, "b": -3.0 + np.log1p(2)}
    assert scores == pytest.approx({k: 1 / (1 + np.exp(-v)) for k, v in expected.items()})


def test_a_network_is_read_and_asked(tmp_path: Path, snapshot: Snapshot, catalog: Catalog) -> None:
    coupons = columns(catalog, *each_its_own(coupon("a"), coupon("b")), goods={"b": [1, 2]})
    node = helper.make_node("Sigmoid", ["features"], ["probability"])
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 1])
    made = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([node], "redemption", [given], [made])
    opset = helper.make_opsetid("", 17)
    content = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    model = Model("onnx", ("num_goods_log",), file="coupons/net.onnx")
    models = learned_models(tmp_path, coupons, Learned(redemption=model), net=content)
    query, _ = complete(snapshot, request(None), Known())
    shelf = shelf_of(coupons, catalog, models)
    scores = {item.item: item.score for item in shelf.recommend(query, Known(), (), 5)}
    assert scores == pytest.approx({"a": 0.5, "b": 3 / 4})  # sigmoid(log 3)


def test_models_are_asked_about_what_may_be_shown_only(
    snapshot: Snapshot, catalog: Catalog
) -> None:
    ended = replace(coupon("b"), end_time=NOW - DAY)
    coupons = columns(catalog, *each_its_own(coupon("a"), ended, coupon("c")))
    num_asked: list[int] = []

    def half(features: NDArray[np.float32]) -> NDArray[np.float64]:
        num_asked.append(len(features))
        return np.full(len(features), 0.5)

    shelf = shelf_of(coupons, catalog, replace(base_rates_only(coupons), redemption=half))
    assert offered(shelf, snapshot) == ["a", "c"]
    assert offered(shelf, snapshot, exclude_items=("a", "c")) == []
    assert num_asked == [2]


@pytest.mark.parametrize(
    "model", [Model("oracle"), Model("linear", ("what nobody computes",), (1.0,))]
)
def test_a_model_that_cannot_be_read_is_refused(
    tmp_path: Path, catalog: Catalog, model: Model
) -> None:
    coupons = columns(catalog, coupon("a"))
    with pytest.raises(SnapshotError, match="coupon model"):
        learned_models(tmp_path, coupons, Learned(redemption=model))


def test_a_basket_in_money_reaches_the_shelf(snapshot: Snapshot, catalog: Catalog) -> None:
    share = Discount(DiscountKind.PERCENT, basis_points=1_000)
    shelf = shelf_of(columns(catalog, coupon("a", discount=share)), catalog)
    assert offered(shelf, snapshot) == [], "without a basket nobody knows what it costs"
    lines = (BasketLine("p00", 3), BasketLine("p04", amount=7 * ONE))
    query, _ = complete(snapshot, request(None, basket_lines=lines), Known())
    (item,) = shelf.recommend(query, Known(), (), 1)
    assert item.card is not None
    assert item.card.detail is not None
    assert item.reason.parameters == {"saving": "1.00"}
