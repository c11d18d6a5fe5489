"""Variety, and exploration with propensities that are true."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from online.placements import PLACEMENTS
from online.snapshot import open_snapshot
from online.stages.selectors import POOL_PER_SLOT, Likeness, Varied
from online.types import Candidates, Query, Scores
from tests.online.shops import items, open_shop
from tests.online.test_vectors import query_for
from tests.worlds import HORIZON_TIME, World

NUM = 60
DAY = 86_400_000_000


def likeness() -> Likeness:
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(NUM, 8)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    number = np.arange(NUM, dtype=np.int32)
    return Likeness(directions, number % 7, number % 4)


def question(diversity: float, **placement: float) -> Query:
    from online.offering.allowed import allowed_where

    query = query_for(allowed_where(np.ones(NUM, bool)))
    return replace(
        query,
        num_wanted=10,
        request=replace(query.request, diversity=diversity, explores=True),
        placement=replace(PLACEMENTS["home"], **placement),  # type: ignore[arg-type]
    )


def candidates() -> tuple[Candidates, Scores]:
    scores = np.linspace(1.0, 0.0, NUM).astype(np.float32)
    order = np.random.default_rng(2).permutation(NUM)
    return Candidates(np.arange(NUM, dtype=np.int32), scores[None], (None,)), scores[order]


def naive(alike: Scores, scores: Scores, num: int, diversity: float) -> list[int]:
    """Maximal marginal relevance as its formula says, over the pool that the selector takes."""
    pool = np.argsort(-scores, kind="stable")[: POOL_PER_SLOT * num].tolist()
    low, high = scores[pool].min(), scores[pool].max()
    taken: list[int] = []
    while len(taken) < num:
        rest = [one for one in pool if one not in taken]

        def value(one: int) -> float:
            closest = max((float(alike[one, other]) for other in taken), default=None)
            relevance = (1 - diversity) * float((scores[one] - low) / (high - low))
            return relevance if closest is None else relevance - diversity * closest

        taken.append(max(rest, key=value))
    return taken


@pytest.mark.parametrize("diversity", [0.1, 0.5, 0.9])
def test_variety_is_maximal_marginal_relevance(diversity: float) -> None:
    everything, scores = candidates()
    chosen = Varied(likeness()).select(question(diversity), everything, scores)
    alike = likeness().between(everything.items)
    assert chosen.positions.tolist() == naive(alike, scores, 10, diversity)
    assert (chosen.propensities == 1).all()


def test_more_variety_is_more_varied(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    alike = shop.engine.snapshot.pipelines["home"].selector.likeness  # type: ignore[attr-defined]
    means = []
    for diversity in (0.0, 0.5, 1.0):
        slates = [shop.ask(user, page_size=10, diversity=diversity) for user in range(20)]
        matrices = [alike.between(np.array([one.index for one in s.items])) for s in slates]
        means.append(np.mean([matrix[np.triu_indices(10, 1)].mean() for matrix in matrices]))
    assert means[0] > means[1] > means[2]


def test_nothing_is_drawn_unless_asked(pristine_world: World) -> None:
    shop = open_shop(pristine_world, explore_share=0.2)
    slate = shop.ask(2)
    assert {item.propensity for item in slate.items} == {1.0}
    explored = shop.ask(2, explores=True)
    drawn = [place for place, item in enumerate(explored.items) if item.propensity < 1]
    assert drawn == [4, 9, 14, 19]
    assert items(explored) == items(shop.ask(2, explores=True))
    days = {tuple(items(shop.ask(2, explores=True, request_time=HORIZON_TIME + day * DAY)))
            for day in range(5)}  # fmt: skip
    assert len(days) == 5


def test_propensities_are_the_frequencies() -> None:
    everything, scores = candidates()
    query = question(0.0, explore_share=0.2)
    counts: Counter[tuple[int, int]] = Counter()
    propensity = {}
    num_users = 6_000
    for user in range(num_users):
        request = replace(query.request, user=user.to_bytes(32, "big"))
        chosen = Varied(likeness()).select(replace(query, request=request), everything, scores)
        assert len(set(chosen.positions.tolist())) == 10
        for place in (4, 9):
            key = (place, int(chosen.positions[place]))
            counts[key] += 1
            propensity[key] = float(chosen.propensities[place])
    for place in (4, 9):
        found = {key: count for key, count in counts.items() if key[0] == place}
        assert sum(propensity[key] for key in found) == pytest.approx(1)
        for key, count in found.items():
            expected = num_users * propensity[key]
            assert abs(count - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize(("num_wanted", "share"), [(5, 0.1), (7, 0.2), (1, 0.3)])
def test_a_fraction_of_a_slot_is_explored_as_often(num_wanted: int, share: float) -> None:
    """Nobody asks, each time with another seed: every place's propensities are its frequencies."""
    everything, scores = candidates()
    query = replace(question(0.0, explore_share=share), num_wanted=num_wanted)
    counts: Counter[tuple[int, int]] = Counter()
    propensity: dict[tuple[int, int], float] = {}
    best, num_best, num_draws = np.argsort(-scores)[:num_wanted].tolist(), 0, 20_000
    for seed in range(num_draws):
        request = replace(query.request, user=b"", session=b"", seed=seed)
        chosen = Varied(likeness()).select(replace(query, request=request), everything, scores)
        slate = chosen.positions.tolist()
        assert len(set(slate)) == num_wanted
        num_best += slate == best
        for key, value in zip(enumerate(slate), chosen.propensities.tolist(), strict=True):
            counts[key] += 1
            assert propensity.setdefault(key, value) == value
    assert num_best < num_draws
    for place in range(num_wanted):
        found = {key: count for key, count in counts.items() if key[0] == place}
        assert sum(propensity[key] for key in found) == pytest.approx(1, abs=1e-5)
        for key, count in found.items():
            expected = num_draws * propensity[key]
            assert abs(count - expected) < 5 * np.sqrt(expected)


def test_nobody_is_drawn_for_by_the_seed(pristine_world: World) -> None:
    shop = open_shop(pristine_world, explore_share=0.2)
    drawn = [tuple(items(shop.ask(explores=True, seed=seed))) for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    known = [tuple(items(shop.ask(2, explores=True, seed=seed))) for seed in (1, 2)]
    assert known[0] == known[1]


def test_a_cap_holds_whatever_is_drawn(pristine_world: World) -> None:
    cap = {"action": "cap", "by": "brand", "count": 5}
    shop = open_shop(pristine_world, cap, explore_share=0.3)
    for user in range(40):
        slate = shop.ask(user, page_size=12, explores=True)
        assert np.bincount([one.index % 3 for one in slate.items]).max() <= 5
        assert len(slate.items) == 12


def test_every_placement_of_the_contract_is_there(pristine_world: World) -> None:
    names = {
        "home", "product_similar", "product_bought_together", "cart", "buy_again", "trending",
        "new_arrivals", "search_empty", "chat", "email",
    }  # fmt: skip
    assert set(open_snapshot(open_bundle(pristine_world.bundle)).placements) == names
