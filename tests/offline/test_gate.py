"""The gate: what opens it, what keeps it shut, and that it compares like with like."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from offline.errors import GateError
from offline.gate import DECIDING, Finding, Verdict, judge

NEW = "recall_at_20_new"
NUM_USERS = 1000


@dataclass(frozen=True, slots=True)
class Scores:
    users: tuple[bytes, ...]
    values: Mapping[str, NDArray[np.float64]]


def noise(seed: int, spread: float, num_users: int = NUM_USERS) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, spread, num_users)


def scored(all_items: NDArray[np.float64], **others: NDArray[np.float64]) -> Scores:
    users = tuple(row.to_bytes(32, "big") for row in range(len(all_items)))
    return Scores(users, {DECIDING: all_items, **others})


TASTE = 0.3 + noise(1, 0.2)
"""How easy each user is, which every ranker shares."""
POPULARITY = scored(TASTE - 0.1 + noise(2, 0.05))
CHAMPION = scored(TASTE)


def verdict_on(gain: float, spread: float = 0.02) -> Verdict:
    return judge(scored(TASTE + gain + noise(3, spread)), CHAMPION, POPULARITY)


def finding(verdict: Verdict) -> Finding:
    champion = verdict.rows[0].champion
    assert champion is not None
    return champion.finding


def test_the_first_bundle_must_only_beat_popularity() -> None:
    verdict = judge(CHAMPION, None, POPULARITY)
    assert verdict.passed
    assert "there was no champion" in verdict.reason
    said = "its bundle cannot be read"
    assert said in judge(CHAMPION, None, POPULARITY, without=said).reason


def test_a_better_candidate_passes() -> None:
    verdict = verdict_on(gain=0.02)
    assert (verdict.passed, finding(verdict)) == (True, Finding.BETTER)


def test_the_same_model_again_passes() -> None:
    verdict = judge(scored(TASTE.copy()), CHAMPION, POPULARITY)
    assert (verdict.passed, finding(verdict)) == (True, Finding.NOT_WORSE)


def test_noise_within_the_margin_passes() -> None:
    assert finding(verdict_on(gain=0.0)) is Finding.NOT_WORSE


def test_a_worse_candidate_is_refused() -> None:
    verdict = verdict_on(gain=-0.02)
    assert (verdict.passed, finding(verdict)) == (False, Finding.WORSE)


def test_a_sure_loss_is_refused_even_when_small() -> None:
    """Or a hundred small losses, each within the margin, would add up."""
    verdict = verdict_on(gain=-0.002)
    assert (verdict.passed, finding(verdict)) == (False, Finding.WORSE)


def test_a_candidate_of_whom_too_little_is_known_is_refused() -> None:
    verdict = verdict_on(gain=0.0, spread=0.5)
    assert (verdict.passed, finding(verdict)) == (False, Finding.UNCLEAR)


def test_a_wider_margin_lets_it_pass() -> None:
    candidate = scored(TASTE + noise(3, 0.5))
    assert judge(candidate, CHAMPION, POPULARITY, tolerance=0.2).passed


@pytest.mark.parametrize("champion", [None, POPULARITY], ids=["first", "beside a weak champion"])
def test_what_does_not_beat_popularity_is_refused(champion: Scores | None) -> None:
    verdict = judge(scored(POPULARITY.values[DECIDING] + noise(4, 0.01)), champion, POPULARITY)
    assert not verdict.passed
    assert verdict.rows[0].popularity.finding is not Finding.BETTER


def test_the_difference_is_paired() -> None:
    """A gain that drowns in the spread between users is seen user by user."""
    gain = 0.005
    assert TASTE.std() / np.sqrt(NUM_USERS) > gain
    assert finding(verdict_on(gain)) is Finding.BETTER


def test_the_order_of_users_does_not_matter() -> None:
    candidate = scored(TASTE + noise(3, 0.02))
    order = np.random.default_rng(5).permutation(NUM_USERS)
    shuffled = Scores(tuple(CHAMPION.users[row] for row in order), {DECIDING: TASTE[order]})
    assert judge(candidate, shuffled, POPULARITY) == judge(candidate, CHAMPION, POPULARITY)


def test_other_measures_are_shown_and_decide_nothing() -> None:
    new = np.where(np.arange(NUM_USERS) % 2, 0.05, np.nan)
    champion = scored(TASTE, **{NEW: new + 0.1})
    popularity = scored(POPULARITY.values[DECIDING], **{NEW: new})
    verdict = judge(scored(TASTE + 0.01, **{NEW: new}), champion, popularity)
    assert verdict.passed
    assert [row.metric for row in verdict.rows] == [DECIDING, NEW]
    shown = verdict.rows[1]
    assert shown.num_users == NUM_USERS // 2
    assert shown.champion is not None
    assert shown.champion.finding is Finding.WORSE


def test_a_measure_that_concerns_nobody_is_shown_as_unknown() -> None:
    nobody = {NEW: np.full(NUM_USERS, np.nan)}
    verdict = judge(scored(TASTE, **nobody), None, scored(TASTE - 0.1, **nobody))
    assert verdict.passed
    assert verdict.rows[1].popularity.finding is Finding.UNCLEAR


def test_columns_are_of_one_length_and_the_table_prints_them() -> None:
    verdict = verdict_on(gain=0.02)
    columns = verdict.columns()
    assert {len(cells) for cells in columns.values()} == {len(verdict.rows)}
    assert columns["measure"] == [DECIDING]
    assert columns["verdict"] == ["passed"]
    assert "The gate: passed" in printed(verdict, width=200)
    assert columns["against the champion"][0] in printed(verdict, width=200)


def test_the_table_fits_a_small_terminal() -> None:
    verdict = verdict_on(gain=0.02)
    assert "…" not in printed(verdict, width=80)


def printed(verdict: Verdict, width: int) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(verdict.table())
    return captured.get()


def other_users(scores: Scores) -> Scores:
    users = (b"x" * 32, *scores.users[1:])
    return Scores(users, scores.values)


def one_twice(scores: Scores) -> Scores:
    return Scores((*scores.users, scores.users[0]), {DECIDING: np.append(TASTE, 0.0)})


@pytest.mark.parametrize(
    ("candidate", "champion", "message"),
    [
        (CHAMPION, other_users(CHAMPION), "the champion was judged on other users"),
        (CHAMPION, one_twice(CHAMPION), "on other users"),
        (scored(TASTE, **{NEW: TASTE}), CHAMPION, f"was not judged by {NEW}"),
        (scored(np.where(TASTE > 0, TASTE, np.nan)), CHAMPION, "concerns other users"),
        (Scores(CHAMPION.users, {NEW: TASTE}), CHAMPION, f"was not judged by {DECIDING}"),
    ],
    ids=["another user", "a user twice", "a measure less", "a user less", "not judged"],
)
def test_unlike_is_not_compared(candidate: Scores, champion: Scores, message: str) -> None:
    popularity = scored(POPULARITY.values[DECIDING], **{NEW: TASTE})
    with pytest.raises(GateError, match=message):
        judge(candidate, champion, popularity)


def test_a_period_without_purchases_gives_no_verdict() -> None:
    nothing = scored(np.empty(0))
    with pytest.raises(GateError, match="choose an earlier cut"):
        judge(nothing, None, nothing)
