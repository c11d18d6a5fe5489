"""CatalogService: what the shop changes of its products is in the next answer, and stays."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aisle.v1 import catalog_pb2, catalog_pb2_grpc, slate_pb2
from tests.online.serving import TIMEOUT_S, Caller, event, ids, refused, serving, settings_of
from tests.worlds import World, item_id

EVEN = "Even > Aisle 0"


def product(item: str, **fields: Any) -> catalog_pb2.Item:
    return catalog_pb2.Item(item_id=item, product=catalog_pb2.Product(**fields))


def upsert(
    caller: Caller, *items: catalog_pb2.Item, mask: str = ""
) -> list[catalog_pb2.ItemOutcome]:
    """One batch on a stream of its own."""
    stub = catalog_pb2_grpc.CatalogServiceStub(caller.channel)
    request = catalog_pb2.UpsertItemsRequest(items=items)
    if mask:
        request.update_mask.CopyFrom(FieldMask(paths=mask.split()))
    (response,) = stub.UpsertItems(iter([request]), timeout=TIMEOUT_S)
    return list(response.outcomes)


def delete(caller: Caller, *items: str) -> catalog_pb2.DeleteItemsResponse:
    stub = catalog_pb2_grpc.CatalogServiceStub(caller.channel)
    return stub.DeleteItems(catalog_pb2.DeleteItemsRequest(item_ids=items), timeout=TIMEOUT_S)


def statuses(outcomes: list[catalog_pb2.ItemOutcome]) -> list[str]:
    name = catalog_pb2.ItemOutcome.Status.Name
    return [name(one.status).removeprefix("STATUS_").lower() for one in outcomes]


def everything(caller: Caller, **fields: Any) -> list[str]:
    return ids(caller.recommend(placement="product_similar", page_size=200, **fields))


def test_a_new_product_is_in_the_next_answer(server: Caller) -> None:
    tea = product("tea", title="Even thing 99", category=EVEN, brand="New & Co")
    assert "tea" not in everything(server)
    assert statuses(upsert(server, tea)) == ["created"]
    answer = server.recommend("u00", placement="new_arrivals", view=slate_pb2.ITEM_VIEW_FULL)
    (item,) = (item for item in answer.items if item.item_id == "tea")
    assert item.reason.code == "new_arrival"
    assert (item.display.title, item.display.brand) == ("Even thing 99", "New & Co")
    assert not item.display.HasField("price")
    assert not answer.degraded
    assert statuses(upsert(server, tea)) == ["updated"]


@pytest.mark.parametrize("placement", ["home", "cart", "product_similar", "trending"])
def test_a_new_product_gets_a_chance_on_the_page(server: Caller, placement: str) -> None:
    upsert(server, product("tea", title="Even thing 99", category=EVEN))
    answer = server.recommend("u00", placement=placement, page_size=20)
    assert not answer.degraded
    (item,) = (item for item in answer.items if item.item_id == "tea")
    assert item.propensity == 1.0  # drawn from a pool of one
    quiet = server.recommend("u00", placement=placement, page_size=20, disable_exploration=True)
    assert not quiet.degraded


def test_events_on_a_new_product_count(server: Caller) -> None:
    upsert(server, product("tea", title="Even thing 99", category=EVEN, price={"units": 3}))
    for kind in ("VIEW", "PURCHASE"):
        server.write(event("tea", kind, user_id="stranger"))
    answer = server.recommend("stranger", page_size=20)
    assert answer.items[0].item_id == "tea"
    assert answer.items[0].source == "repeat"
    assert not answer.degraded
    for placement in ("cart", "product_similar", "product_bought_together", "trending", "chat"):
        context = {"item_ids": ["tea"], "basket": [{"item_id": "tea"}]}
        around = server.recommend("stranger", placement=placement, context=context)
        assert not around.degraded, placement
        assert around.items
        assert not around.missing_ids


def test_who_likes_even_things_gets_an_even_one(server: Caller) -> None:
    """The page of a new product shows what its neighbours would: things of its own parity."""
    upsert(server, product("tea", title="Even thing 98", category=EVEN))
    similar = server.recommend(
        placement="product_similar", context={"item_ids": ["tea"]}, page_size=10
    )
    even = [int(item[1:]) % 2 == 0 for item in ids(similar) if item != "tea"]
    assert sum(even) >= 8


def test_deleted_and_sold_out_products_leave_at_once(server: Caller) -> None:
    before = everything(server)
    assert {"p00", "p02", "p04"} <= set(before)
    answer = delete(server, "p00", "p00", "nothing")
    assert (answer.num_deleted, list(answer.missing_ids)) == (1, ["nothing"])
    assert "p00" not in everything(server)
    assert delete(server, "p00").missing_ids == ["p00"]
    assert statuses(
        upsert(server, product("p02", num_in_stock=0), mask="product.num_in_stock")
    ) == ["updated"]
    upsert(server, product("p04", available=False), mask="product.available")
    assert set(before) - set(everything(server)) == {"p00", "p02", "p04"}
    upsert(server, product("p02", num_in_stock=7), mask="product.num_in_stock")
    upsert(server, product("p00", title="Even thing 00", category=EVEN))
    assert set(before) - set(everything(server)) == {"p04"}
    for user in ("u00", "u02"):
        for placement in ("home", "buy_again", "cart"):
            assert "p04" not in ids(server.recommend(user, placement=placement))


def test_a_changed_price_and_title_filter_and_show(server: Caller) -> None:
    cheap: dict[str, Any] = {
        "filter": "price < 0.5",
        "view": slate_pb2.ITEM_VIEW_FULL,
        "placement": "home",
    }
    assert not server.recommend(**cheap).items
    changed = product("p06", title="Even better", price={"units": 0, "nanos": 250_000_000})
    upsert(server, changed, mask="product.price product.title")
    (item,) = server.recommend(**cheap).items
    assert item.item_id == "p06"
    assert item.display.title == "Even better"
    assert item.display.price.nanos == 250_000_000
    assert item.display.category == "Even > Aisle 1"
    assert "p06" not in everything(server, filter="price = 2.5")
    upsert(server, product("p06", tags=["chosen"]), mask="product.tags")
    assert everything(server, filter="tags:chosen") == ["p06"]
    assert everything(server, filter="tags:chosen price < 0.5") == ["p06"]


def test_filters_see_new_products_as_they_see_others(server: Caller) -> None:
    upsert(
        server,
        product("tea", title="Green tea", category="Tea > Green", brand="Leaf", price={"units": 9}),
        product("oolong", title="Oolong", category="Tea", tags=["fresh"], regions=["south"]),
    )
    assert set(everything(server, filter='category:"Tea"')) == {"oolong", "tea"}
    assert everything(server, filter='category = "Tea"') == ["oolong"]
    assert everything(server, filter="brand = Leaf price > 8") == ["tea"]
    assert "oolong" in everything(server, filter="tags:fresh")
    assert set(everything(server, filter="text:tea")) == {"oolong", "tea"}
    assert everything(server, filter='text:"green tea"') == ["tea"]
    north: dict[str, Any] = {"context": {"region": "north"}}
    assert "oolong" not in everything(server, **north)
    assert "tea" in everything(server, **north)


def test_each_item_is_judged_alone(server: Caller) -> None:
    outcomes = upsert(
        server,
        product("ok", title="Fine"),
        product("", title="No id"),
        product("untitled"),
        catalog_pb2.Item(item_id="text", content=catalog_pb2.Content(title="A guide")),
        product("negative", title="x", price={"units": -1}),
        product("also ok", title="Fine too"),
    )
    rejected = ["rejected"] * 4
    assert statuses(outcomes) == ["created", *rejected, "created"]
    fields = [[one.field for one in outcome.violations] for outcome in outcomes]
    assert fields[1] == ["item_id"]
    assert fields[2] == ["product.title"]
    assert fields[3] == ["content"]
    assert fields[4][0].startswith("product.price")


def test_what_is_not_there_cannot_be_changed_in_part(server: Caller) -> None:
    (outcome,) = upsert(server, product("nothing", available=True), mask="product.available")
    assert statuses([outcome]) == ["rejected"]
    assert "send it whole" in outcome.violations[0].description
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        upsert(server, product("p00"), mask="product.colour")
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        delete(server)


def test_a_stream_is_answered_batch_by_batch(server: Caller) -> None:
    def batches() -> Iterator[catalog_pb2.UpsertItemsRequest]:
        for number in range(3):
            items = [product(f"new{number}-{n}", title=f"Even new {n}") for n in range(5)]
            yield catalog_pb2.UpsertItemsRequest(items=items)

    stub = catalog_pb2_grpc.CatalogServiceStub(server.channel)
    answers = list(stub.UpsertItems(batches(), timeout=TIMEOUT_S))
    assert [statuses(list(answer.outcomes)) for answer in answers] == [["created"] * 5] * 3
    assert sum(item.startswith("new") for item in everything(server)) == 15


def test_changes_survive_a_restart(world: World) -> None:
    with serving(settings_of(world)) as (caller, _):
        upsert(caller, product("tea", title="Even tea", category=EVEN))
        delete(caller, "p00")
        assert {"tea"} == set(everything(caller)) - {item_id(n) for n in range(60)}
    with serving(settings_of(world)) as (caller, _):
        found = everything(caller)
        assert "tea" in found
        assert "p00" not in found
        assert statuses(upsert(caller, product("tea", title="Even tea"))) == ["updated"]


def test_more_new_products_than_there_is_room_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("online.delta.following", "online.process.server"):
        monkeypatch.setattr(f"{place}.NUM_ROOM", 4)
    with serving(settings_of(world)) as (caller, parts):
        for number in range(11):
            upsert(caller, product(f"new{number:02}", title="Even new", category=EVEN))
            found = [item for item in everything(caller) if item.startswith("new")]
            assert sorted(found) == [f"new{n:02}" for n in range(number + 1)]
        room = parts.engine.base.bundle.room
        assert room is not None
        assert room.num_rows > 4


def test_explanations_know_new_products(server: Caller) -> None:
    from aisle.v1 import recommendation_pb2 as messages

    upsert(server, product("tea", title="Even tea", category=EVEN, tags=["green"]))

    def explain(item: str, **fields: Any) -> messages.ExplainResponse:
        asked = messages.RecommendRequest(user_id="u00", placement="new_arrivals", **fields)
        request = messages.ExplainRequest(recommend=asked, item_id=item)
        return server.recommendations.Explain(request, timeout=TIMEOUT_S)

    assert explain("tea").verdict == messages.ExplainResponse.VERDICT_SELECTED
    delete(server, "p00")
    for item, fields in (("p00", {}), ("tea", {"filter": "tags:red"})):
        assert explain(item, **fields).verdict == messages.ExplainResponse.VERDICT_FILTERED
