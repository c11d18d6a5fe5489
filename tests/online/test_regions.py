"""Where a user lives decides what is offered, unless the request says another place."""

from feature_store.people import encode_traits, traits_key
from online.offering.shop import MAX_FILTERS
from tests.online.shops import items, number, open_shop, pseudonym
from tests.worlds import HORIZON_TIME, World


def test_the_users_own_region_counts_where_none_is_asked_for(pristine_world: World) -> None:
    """Every sixth item is sold in the north only, and the one after it in the south only."""
    shop = open_shop(pristine_world)
    everywhere = {number(item) % 6 for item in items(shop.ask(2, page_size=60))}
    assert {0, 1} <= everywhere
    shop.store.put_many([(traits_key(pseudonym(2)), encode_traits(["segment=a", "region=north"]))])
    at_home = {number(item) % 6 for item in items(shop.ask(2, page_size=60))}
    assert at_home == everywhere - {1}
    away = {number(item) % 6 for item in items(shop.ask(2, page_size=60, region="south"))}
    assert away == everywhere - {0}


def test_placements_share_what_a_filter_and_a_region_leave(pristine_world: World) -> None:
    shop = open_shop(pristine_world).engine.snapshot.shop
    for asked in (("price < 30", ""), ("", "DE"), ("price < 30", "DE")):
        home, cart = (shop.offer(one, HORIZON_TIME, *asked) for one in ("home", "cart"))
        assert home.allowed is cart.allowed
        assert home.caps == shop.offer("home", HORIZON_TIME).caps


def test_what_is_asked_for_again_stays(pristine_world: World) -> None:
    shop = open_shop(pristine_world).engine.snapshot.shop
    usual = shop.offer("home", HORIZON_TIME, "", "DE").allowed
    for limit in range(2 * MAX_FILTERS):
        shop.offer("home", HORIZON_TIME, f"price < {limit}")
        assert shop.offer("home", HORIZON_TIME, "", "DE").allowed is usual
