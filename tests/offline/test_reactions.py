"""What users say of products is learned beside what they buy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from feature_store.bundle import open_bundle
from feature_store.ids import Pseudonymizer
from offline.models.ranker import Lessons, fit_ranker
from offline.past_states import PastStates
from offline.progress import QUIET
from offline.rank import lessons_of, train_ranker
from offline.reactions import NO_REACTION, Reaction, load_reactions
from offline.recipe import RankerConfig, Recipe
from online.snapshot import open_snapshot
from tests.offline.shops import CUT_TIME, RECIPE, WEEK, ingest, write_csv
from tests.worlds import KEY, Purchase, World, build_world, draw_purchases, item_id, user_id

CONFIG = RankerConfig(like_weight=0.5, refusal_weight=3.0)


def test_a_refusal_goes_before_a_purchase_and_a_like_beside_it() -> None:
    relevant = frozenset({1, 2, 3})
    reaction = Reaction(liked=frozenset({2, 4}), refused=frozenset({3, 5}))
    lessons = lessons_of([1, 2, 3, 4, 5, 6], relevant, reaction, CONFIG)
    assert lessons.labels.tolist() == [1, 1, 0, 0, 0, 0]
    assert lessons.targets.tolist() == [1, 1, 0, 1, 0, 0]
    assert lessons.weights.tolist() == [1, 1.5, 3, 0.5, 3, 1]


def test_who_bought_nothing_teaches_order_but_no_probability() -> None:
    lessons = lessons_of([1, 2], frozenset(), Reaction(frozenset({1}), frozenset({2})), CONFIG)
    assert np.isnan(lessons.labels).all()
    assert lessons.targets.tolist() == [1, 0]


def test_without_reactions_nothing_but_purchases_teaches() -> None:
    lessons = lessons_of([1, 2], frozenset({2}), NO_REACTION, CONFIG)
    expected = Lessons.of_purchases(np.array([0, 1], np.float32))
    for name in ("labels", "targets", "weights"):
        np.testing.assert_array_equal(getattr(lessons, name), getattr(expected, name))


def rows(seed: int) -> np.typing.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(12_000, 3)).astype(np.float32)


def which(rows: np.typing.NDArray[np.bool_]) -> frozenset[int]:
    return frozenset(np.flatnonzero(rows).tolist())


@pytest.mark.parametrize("column", [0, 1])
def test_the_ranker_learns_what_is_bought_but_refused_and_what_is_only_liked(column: int) -> None:
    """Purchases are dice. Refused is what has feature 0, liked what has feature 1."""
    features = rows(0)
    bought = np.random.default_rng(1).random(len(features)) < 0.3
    refused, liked = features[:, 0] > 1, (features[:, 1] > 1) & (features[:, 0] <= 1)
    taught = lessons_of(
        list(range(len(features))), which(bought), Reaction(which(liked), which(refused)), CONFIG
    )
    config = RankerConfig(
        num_trees=60,
        learning_rate=0.1,
        feature_share=1.0,
        num_epochs=5,
        batch_size=512,
        hidden=(16,),
    )
    ranker = fit_ranker(features, taught, config, seed=0, progress=QUIET)
    session = onnxruntime.InferenceSession(ranker.onnx, providers=["CPUExecutionProvider"])
    fresh = rows(2)
    fresh[:, 1 - column] = 0.0
    probability = session.run(None, {"features": fresh})[0]
    with_it = np.median(probability[fresh[:, column] > 1.3])
    below = (probability[fresh[:, column] < 0.7] < with_it).mean()
    assert below < 0.05 if column == 0 else below > 0.95


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def tables_with(
    folder: Path,
    said: list[tuple[int, int, str, int]],
    purchases: Sequence[Purchase] = draw_purchases(),
) -> Path:
    """The checkerboard's tables, and what users said: user, item, kind and time."""
    (folder / "home").mkdir(parents=True)
    (folder / "home" / "pseudonym.key").write_text(KEY.hex())
    write_csv(folder / "csv", purchases)
    with (folder / "csv" / "events.csv").open("a") as file:
        for user, item, kind, time in said:
            file.write(f"{time},{user_id(user)},{kind},{item_id(item)},,,\n")
    return ingest(folder / "csv", folder / "home")


def test_the_last_word_of_the_period_counts(world: World, tmp_path: Path) -> None:
    said = [
        (0, 2, "dislike", CUT_TIME + 1),
        (0, 2, "like", CUT_TIME + 2),
        (0, 4, "like", CUT_TIME + 3),
        (0, 4, "not_interested", CUT_TIME + 4),
        (0, 6, "dislike", CUT_TIME - 1),
        (1, 3, "dislike", CUT_TIME + 5),
        (1, 5, "like", CUT_TIME + WEEK),
    ]
    snapshot = open_snapshot(open_bundle(world.bundle))
    found = load_reactions(tables_with(tmp_path, said), snapshot, CUT_TIME, CUT_TIME + WEEK)
    users = [bytes.fromhex(Pseudonymizer(KEY).hexdigest(user_id(number))) for number in (0, 1)]
    ids = snapshot.catalog.ids
    named = {
        user: ({ids[i] for i in one.liked}, {ids[i] for i in one.refused})
        for user, one in found.items()
    }
    assert named == {users[0]: ({"p02"}, {"p04"}), users[1]: (set(), {"p03"})}


def test_a_shop_whose_users_speak_is_learned_from(tmp_path: Path) -> None:
    """The whole way: events, tables, candidates of the past, lessons, network."""
    start = CUT_TIME - 2 * WEEK
    said = [(user, item, "dislike", start + user) for user in range(40) for item in (10, 11, 20)]
    tables = tables_with(tmp_path, said)
    recipe = ranked_recipe(label_days=14, num_cuts=1)
    assert train_ranker(tables, recipe, CUT_TIME, PastStates(tables, QUIET), QUIET) is not None


def ranked_recipe(label_days: int, num_cuts: int) -> Recipe:
    config = RankerConfig(num_cuts, label_days, num_trees=5, num_epochs=1, min_rows_in_leaf=5)
    return Recipe("ranked", data=RECIPE.data, als=RECIPE.als, ranker=config)


@pytest.mark.parametrize("closed_weeks", [1, 2])
def test_weeks_in_which_nobody_bought_teach_nothing(tmp_path: Path, closed_weeks: int) -> None:
    """Two cuts, a week apart: the shop was closed after the second, or after both."""
    end = CUT_TIME - closed_weeks * WEEK
    purchases = [one for one in draw_purchases() if one.time < end]
    tables = tables_with(tmp_path, [], purchases)
    states = PastStates(tables, QUIET)
    ranker = train_ranker(tables, ranked_recipe(7, 2), CUT_TIME, states, QUIET)
    assert (ranker is None) == (closed_weeks == 2)
