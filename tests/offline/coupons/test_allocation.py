"""The allocation against HiGHS on small programmes, and its limits on all of them."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from offline.coupons.allocation import (
    NONE,
    Programme,
    allocate,
    bound,
    programme,
    shadow_prices,
    smooth_dual,
)

NUM_CAMPAIGNS, NUM_COUPONS = 3, 4


def draw(num_users: int, seed: int, budget: float = 0.2, floor: float = 0.0) -> Programme:
    """Money budgets of campaigns, caps of coupons, and a floor for a third of the users."""
    rng = np.random.default_rng(seed)
    per_user = NUM_CAMPAIGNS * NUM_COUPONS
    user = np.repeat(np.arange(num_users), per_user)
    coupon = np.tile(np.arange(per_user), num_users).astype(np.int32)
    campaign = (coupon // NUM_COUPONS).astype(np.int32)
    cost = rng.beta(1, 8, len(user)) * rng.uniform(1, 5, per_user)[coupon]
    value = 30 * rng.beta(1, 12, len(user)) - cost
    is_group = rng.integers(0, 3, num_users)[user] == 0
    last = NUM_CAMPAIGNS + per_user
    resource = np.stack([campaign, NUM_CAMPAIGNS + coupon, np.where(is_group, last, NONE)], axis=1)
    use = np.stack([cost, np.ones(len(user)), -1.0 * is_group], axis=1)
    limits = [np.full(NUM_CAMPAIGNS, budget * cost.sum() / per_user)]
    limits += [np.full(per_user, 0.2 * num_users), np.array([-floor * num_users])]
    shuffled = rng.permutation(len(user))
    columns = user[shuffled], campaign[shuffled], value[shuffled]
    return programme(
        *columns, resource[shuffled].astype(np.int32), use[shuffled], np.concatenate(limits)
    )[0]


def exact(problem: Programme) -> tuple[float, np.ndarray]:
    """Optimum and prices by HiGHS."""
    num = len(problem)
    row, held = problem.resource.ravel(), problem.resource.ravel() != NONE
    pair = np.repeat(np.arange(num), problem.resource.shape[1])
    shape = (len(problem.limit), num)
    use = sparse.csr_matrix((problem.use.ravel()[held], (row[held], pair[held])), shape=shape)
    ones = np.ones(num)
    block = sparse.csr_matrix((ones, (problem.blocks, np.arange(num))))
    limit = np.concatenate([problem.limit, np.ones(block.shape[0])])
    matrix = sparse.vstack([use, block])
    found = linprog(-problem.value, matrix, limit, bounds=(0, 1), method="highs")
    assert found.success
    return -found.fun, -found.ineqlin.marginals[: len(problem.limit)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("budget", "floor"), [(0.05, 0.0), (0.3, 0.0), (0.2, 0.5), (9.0, 0.0)])
def test_against_the_exact_optimum(seed: int, budget: float, floor: float) -> None:
    problem = draw(300, seed, budget, floor)
    optimum, price = exact(problem)
    found = allocate(problem)
    assert found.bound >= optimum - 1e-6
    assert found.bound == pytest.approx(optimum, rel=1e-4)
    assert found.earned >= 0.985 * optimum
    np.testing.assert_allclose(found.price, price, rtol=0.02, atol=0.25)


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_keeps_every_limit_and_gives_one_offer_a_block(seed: int) -> None:
    problem = draw(500, seed, budget=0.15, floor=0.3)
    found = allocate(problem)
    tight = problem.limit >= 0
    assert (found.used[tight] <= problem.limit[tight] + 1e-9).all()
    assert (np.bincount(problem.blocks[found.chosen]) <= 1).all()
    assert found.used == pytest.approx(problem.used(found.chosen.astype(float)))
    assert found.gap < 0.02


def test_a_floor_brings_the_group_in() -> None:
    without, held = allocate(draw(500, 5, 0.05)), allocate(draw(500, 5, 0.05, floor=0.7))
    assert -without.used[-1] < 0.7 * 500
    assert -held.used[-1] >= 0.95 * 0.7 * 500
    assert held.price[-1] > 0
    assert held.bound < without.bound


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_share_of_all_is_a_floor_too(seed: int, share: float) -> None:
    """A share of all that is given is the group's: prices against HiGHS, and who gets what."""
    drawn = draw(400, seed, budget=0.1)
    is_group = drawn.resource[:, -1] != NONE
    resource, use, limit = drawn.resource.copy(), drawn.use.copy(), drawn.limit.copy()
    resource[:, -1], use[:, -1], limit[-1] = len(limit) - 1, share - is_group, 0.0
    problem = Programme(drawn.block_starts, drawn.value, resource, use, limit)
    optimum, price = exact(problem)
    found = allocate(problem)
    assert found.bound == pytest.approx(optimum, rel=1e-3)
    np.testing.assert_allclose(found.price, price, rtol=0.05, atol=0.3)
    given = is_group[found.chosen].mean()
    assert given == pytest.approx(max(share, is_group[allocate(drawn).chosen].mean()), abs=0.04)


def test_a_floor_that_cannot_be_kept_ends_and_shows() -> None:
    problem = draw(200, 6, budget=0.001, floor=0.9)
    found = allocate(problem)
    assert np.isfinite(found.price).all()
    assert -found.used[-1] < 0.9 * 200


def test_the_slope_is_that_of_the_smooth_dual() -> None:
    problem = draw(50, 7)
    price = np.random.default_rng(0).uniform(0, 1, len(problem.limit))
    _, slope = smooth_dual(problem, problem.blocks, price, 0.3)
    for number in range(len(price)):
        step = np.zeros(len(price))
        step[number] = 1e-5
        up, _ = smooth_dual(problem, problem.blocks, price + step, 0.3)
        down, _ = smooth_dual(problem, problem.blocks, price - step, 0.3)
        assert slope[number] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


def test_prices_of_what_is_plenty_are_nothing() -> None:
    problem = draw(100, 8)
    plenty = Programme(
        problem.block_starts,
        problem.value,
        problem.resource,
        problem.use,
        np.full(len(problem.limit), 1e9),
    )
    assert shadow_prices(plenty).max() < 1e-6
    best = np.maximum.reduceat(plenty.value, plenty.block_starts)
    assert bound(plenty, shadow_prices(plenty)) == pytest.approx(np.maximum(best, 0).sum())


def test_nothing_to_give_and_nobody_to_give_it_to() -> None:
    empty = programme(
        np.zeros(0, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0),
        np.zeros((0, 1), np.int32),
        np.zeros((0, 1)),
        np.ones(1),
    )[0]
    assert allocate(empty).earned == 0.0
    unwanted = programme(
        np.arange(3),
        np.zeros(3, np.int32),
        -np.ones(3),
        np.zeros((3, 1), np.int32),
        np.ones((3, 1)),
        np.ones(1),
    )[0]
    assert not allocate(unwanted).chosen.any()
