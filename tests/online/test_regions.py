"""Where a user lives decides what is offered, unless the request says another place."""

from feature_store.people import encode_traits, traits_key
from tests.online.shops import items, number, open_shop, pseudonym
from tests.worlds import World


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
