"""Vectors to search with: those of real users, folded in from what the store knows of them.

A search is only as hard as its queries. Item vectors lie where items are; a user's vector lies
between several, so that is what an index has to be measured with. Written anew from the formula,
so that nothing of the server is taken for granted.
"""

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.ids import Pseudonymizer, load_key
from feature_store.state import UserState, state_key
from feature_store.store import open_store
from infra.bench.shop import Shop, user_id


def user_vectors(shop: Shop, bundle: Bundle, num_wanted: int, seed: int = 3) -> NDArray[np.float32]:
    """Vectors of users drawn at random, shape (num_wanted, factors)."""
    key = Pseudonymizer(load_key(shop.home))
    numbers = np.random.default_rng(seed).choice(shop.num_users, num_wanted, replace=False)
    store = open_store(f"lmdb:{shop.home / 'store'}")
    try:
        values = store.get_many([state_key(key.digest(user_id(number))) for number in numbers])
    finally:
        store.close()
    states = [UserState.decode(value) for value in values if value is not None]
    return np.stack([_fold_in(bundle, state) for state in states])


def _fold_in(bundle: Bundle, state: UserState) -> NDArray[np.float32]:
    """(Y'Y + λI + Y'(C - I)Y)⁻¹ Y'C p, Hu, Koren and Volinsky 2008, equation 4."""
    rows = state.items[state.items["count"] > 0]
    keys, index = bundle.array("items/sorted_keys"), bundle.array("items/sorted_index")
    place = np.minimum(np.searchsorted(keys, rows["key"]), len(keys) - 1)
    held = keys[place] == rows["key"]
    vectors = bundle.array("als/vectors")[index[place[held]]]
    confidence = bundle.json("serving.json")["als_alpha"] * np.log1p(rows["count"][held])
    weighted = vectors * (confidence - 1)[:, None]
    solution = np.linalg.solve(
        bundle.array("als/gram") + weighted.T @ vectors, confidence @ vectors
    )
    return solution.astype(np.float32)
