"""Every feature that is kept or served is declared, and every declared one is computed."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from feature_store import state
from feature_store.features import update
from feature_store.ranking import (
    GROUPS,
    RATED_SOURCES,
    ItemColumns,
    feature_names,
    history_at,
    ranking_features,
)
from feature_store.schema import EVENT_KIND_CODE, MICROSECONDS_PER_DAY
from feature_store.state import EMPTY, UserState, state_key
from feature_store.store import MemoryStore
from feature_store.views import (
    RANKING_VIEWS,
    STATE_VIEWS,
    Kept,
    View,
    all_views,
    fingerprint,
)
from tests.feature_store.test_features import events

DAY = MICROSECONDS_PER_DAY
NOW = 400 * DAY
NUM_ITEMS = 12


def columns() -> ItemColumns:
    num_values = sum(view.kept is Kept.BUNDLE for view in RANKING_VIEWS)
    dice = np.random.default_rng(0)
    groups = np.arange(len(GROUPS) * NUM_ITEMS, dtype=np.int32).reshape(-1, NUM_ITEMS).T // 4
    first_time = np.zeros(NUM_ITEMS, np.int64)
    return ItemColumns(dice.random((NUM_ITEMS, num_values), np.float32) + 1, groups, first_time)


def served(known: UserState) -> dict[str, np.ndarray]:
    """The features of all items for a user, by name."""
    index = (known.items["key"].astype(np.int64) - 1).astype(np.int32)
    history = history_at(known, index, NOW)
    items = np.arange(NUM_ITEMS, dtype=np.int32)
    scores = np.ones((len(RATED_SOURCES), NUM_ITEMS), np.float32)
    values = ranking_features(known, history, columns(), items, scores, NOW)
    return dict(zip(feature_names(RATED_SOURCES), values.T, strict=True))


def test_what_is_served_is_declared_in_its_order() -> None:
    names = [view.name for view in all_views(RATED_SOURCES)][len(STATE_VIEWS) :]
    assert names == list(feature_names(RATED_SOURCES))


def test_what_is_kept_is_declared_with_its_type() -> None:
    declared = {view.name: view.dtype for view in STATE_VIEWS}
    kept = {"seen": str(EMPTY.seen.dtype)}
    for part in ("items", "recent", "shown", "baskets", "totals"):
        dtype = getattr(EMPTY, part).dtype
        kept |= {f"{part}.{name}": str(dtype[name].base) for name in dtype.names}
    assert declared == kept


def test_names_are_declared_once() -> None:
    names = [view.name for view in all_views(RATED_SOURCES)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("view", [one for one in RANKING_VIEWS if one.default is not None])
def test_nobody_has_the_defaults(view: View) -> None:
    np.testing.assert_array_equal(served(EMPTY)[view.name], np.float32(view.default))


def test_what_is_declared_moves_with_its_events() -> None:
    """Each value of a user differs from its default for somebody who did all there is to do."""
    history = events(3_000, num_items=NUM_ITEMS + 1)
    features = served(update([EMPTY], history)[0])
    for view in RANKING_VIEWS:
        if view.kept is Kept.READ and view.default is not None:
            assert (features[view.name] != np.float32(view.default)).any(), view.name


@pytest.mark.parametrize("view", [one for one in STATE_VIEWS if one.name.startswith("items.")])
def test_only_the_declared_kinds_change_a_column(view: View) -> None:
    """An event of a kind that a column is not made of leaves what it says of a known item."""
    before = update([EMPTY], events(600, num_items=NUM_ITEMS + 1))[0]
    name = view.name.removeprefix("items.")
    for kind, code in EVENT_KIND_CODE.items():
        other = events(20, seed=9, num_items=NUM_ITEMS + 1)
        other.kind[:] = code
        other.event[:] += np.uint64(10_000)
        after = update([before], other)[0]
        if kind not in view.kinds:
            np.testing.assert_array_equal(after.items[name], before.items[name], kind)


def test_the_fingerprint_follows_the_declarations() -> None:
    views = all_views(RATED_SOURCES)
    changed = (*views[:-1], replace(views[-1], half_life_days=(9.0,)))
    assert fingerprint(views) == fingerprint(all_views(RATED_SOURCES))
    assert fingerprint(views) != fingerprint(changed)
    assert fingerprint(views) != fingerprint(all_views(RATED_SOURCES[:1]))


def other_release() -> ModuleType:
    """The layout of a release that keeps one half-life less."""
    text = Path(state.__file__).read_text().replace("(10.0, 30.0, ", "(30.0, ")
    spec = importlib.util.spec_from_loader("feature_store.other_state", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    exec(compile(text, "other_state.py", "exec"), module.__dict__)
    return module


def test_two_layouts_live_side_by_side_in_one_store() -> None:
    """Each release finds its own states of the same user, and neither reads the other's."""
    other, user, store = other_release(), bytes(32), MemoryStore()
    assert other.STATE_LAYOUT != state.STATE_LAYOUT
    ours = update([EMPTY], events(50))[0]
    store.put_many(
        [(state_key(user), ours.encode()), (other.state_key(user), other.EMPTY.encode())]
    )
    mine, theirs = store.get_many([state_key(user), other.state_key(user)])
    np.testing.assert_array_equal(UserState.decode(mine or b"").items, ours.items)
    assert len(other.UserState.decode(theirs).items) == 0
    assert [key for key, _ in store.scan(state.STATE_PREFIX)] == [state_key(user)]
