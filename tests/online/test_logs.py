"""What a server prints names nobody, whatever goes wrong."""

import contextlib

import grpc

from feature_store.ids import Pseudonymizer
from feature_store.people import consent_key
from feature_store.state import state_key
from feature_store.store import open_store
from tests.online.serving import ServerProcess, event
from tests.worlds import KEY, World

PSEUDONYMS = Pseudonymizer(KEY)
PEOPLE = ("alice@shop.example", "bob@shop.example", "visit-of-alice", "visit-of-bob")
SECRETS = ("a very private search", "basket of alice")


def test_no_log_names_a_person(world: World) -> None:
    alice, bob, visit, other = PEOPLE
    store = open_store(world.store_url)
    store.put_many([(state_key(PSEUDONYMS.digest(bob)), b"damaged")])
    store.put_many([(consent_key(PSEUDONYMS.digest(visit)), b"damaged")])
    store.close()
    process = ServerProcess(world)
    caller = process.wait_until_ready()
    for who in (alice, bob, visit):
        for call in (
            lambda who=who: caller.recommend(who, session_id=visit),
            lambda who=who: caller.recommend(who, placement="nowhere"),
            lambda who=who: caller.recommend(who, timeout_s=1e-5),
            lambda who=who: caller.write(
                event("p01", "PURCHASE", user_id=who, session_id=visit, basket_id=SECRETS[1]),
                event("", "SEARCH", user_id=who, query=SECRETS[0]),
                event("", user_id=who),
                event("p01", user_id=who * 100),
            ),
            lambda who=who: caller.merge(who, source_session_id=visit),
            lambda who=who: caller.merge(who, source_user_id=who),
            lambda who=who: caller.merge(who, source_session_id=other),
        ):
            with contextlib.suppress(grpc.RpcError):
                call()
    caller.erase(user_id=alice)
    caller.erase(session_id=visit)
    with contextlib.suppress(grpc.RpcError):
        caller.write(event("p01", user_id=alice))
    caller.close()
    assert process.terminate() == 0
    printed = process.ready_line + process.log
    assert "settings" in printed
    for text in (*PEOPLE, *SECRETS, *map(PSEUDONYMS.hexdigest, PEOPLE), KEY.hex()):
        assert text not in printed, printed
