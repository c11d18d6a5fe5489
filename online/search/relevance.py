"""What a search makes of scores and reasons: what fits it comes first, or is at least lifted.

On the page of a search whatever fits stands before whatever does not, and what the user likes
orders what fits about as well. Elsewhere a search is a hint: scores of what fits are lifted. The
two sources of a search are the last rows of the candidates. It knows no index and no encoder.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from online.explain.reasons import UNMATCHED
from online.stages.places import Ranking
from online.types import Candidates, Mask, Query, Reason, Scores

ROWS: Final = (-2, -1)
"""Words and meaning among the sources of a pipeline for searches."""

SHARES: Final = np.array([[0.6], [0.4]], np.float32)
"""What words and meaning count for; where one is left out the other counts for all."""

TINY: Final = np.float32(1e-9)

LEAST_FIT: Final = np.float32(0.2)
"""What fits less has nothing to do with the search."""

PERSONAL: Final = np.float32(0.25)
"""By how much more what is liked best leads."""

REST: Final = np.float32(1e-3)
"""What does not fit has at most this score: it stays below even where the shop boosts it."""

LIFT: Final = np.float32(1.0)
"""On other pages what fits in full gets twice its score."""

SHOWN_CHARACTERS: Final = 60
"""How much of a search a reason repeats."""


def fit_of(candidates: Candidates) -> Scores | None:
    """How well each candidate fits the search, from 0 to 1; None where neither source can tell."""
    if len(candidates.rates) < len(ROWS):
        return None
    answered = np.array([[candidates.rates[row] is not None] for row in ROWS])
    if not answered.any():
        return None
    rated = candidates.rated(ROWS)
    shares = SHARES * (answered & ~np.isnan(rated))
    fit: Scores = (shares * np.nan_to_num(rated)).sum(axis=0) / np.maximum(shares.sum(axis=0), TINY)
    return fit


def by_search(query: Query, candidates: Candidates, scores: Scores) -> Scores:
    """The scores in the light of the search; as they are where there is none, or nothing fits."""
    fit = fit_of(candidates) if query.request.query else None
    if fit is None:
        return scores
    fits = fit >= LEAST_FIT
    if not fits.any():
        return scores
    if not query.placement.answers_search:
        lifted: Scores = scores + np.abs(scores) * LIFT * np.where(fits, fit, np.float32(0))
        return lifted
    lead = fit * (1 + PERSONAL * _liking(scores, fits))
    leading: Scores = np.where(fits, lead, REST * _liking(scores, ~fits))
    return leading


def _liking(scores: Scores, some: Mask) -> Scores:
    """The scores from 0 to 1, the highest of some being 1 and what is not above 0 being 0."""
    above = np.maximum(scores, np.float32(0))
    highest = above[some].max(initial=0)
    return np.minimum(above / highest, np.float32(1)) if highest > 0 else np.zeros_like(above)


def moved_by_search(query: Query, ranking: Ranking) -> Ranking:
    """The ranking with the search as the source of what leads because it fits, and of nothing else.

    Also of what another source brought, which then has the scores that the search gives it. What a
    search alone brought though it hardly fits has no score of it, and so no reason.
    """
    fit = fit_of(ranking.chosen) if _leads(query) else None
    if fit is None:
        return ranking
    chosen, fits = ranking.chosen, fit >= LEAST_FIT
    rated = np.nan_to_num(chosen.rated(ROWS))
    scores = chosen.scores.copy()
    scores[ROWS, :] = np.where(fits, np.where(rated > 0, rated, scores[ROWS, :]), np.float32(0))
    others = ~np.isnan(scores[: ROWS[0]])
    is_search = ranking.sources >= len(others)
    instead = np.where(is_search & others.any(axis=0), others.argmax(axis=0), ranking.sources)
    rows = len(scores) + np.array(ROWS)[(SHARES * rated).argmax(axis=0)]
    moved = fits & (ranking.sources >= 0)
    sources: NDArray[np.intp] = np.where(moved, rows, instead)
    return replace(ranking, chosen=replace(chosen, scores=scores), sources=sources)


def with_search(query: Query, ranking: Ranking, reasons: list[Reason]) -> list[Reason]:
    """The reasons, which say so where the search was answered and nothing shown fits it."""
    left_out = any(one.stage.startswith("source.search_") for one in ranking.degraded)
    if not _leads(query) or left_out or len(ranking.chosen.rates) < len(ROWS):
        return reasons
    fit = fit_of(ranking.chosen)
    if fit is not None and (fit >= LEAST_FIT).any():
        return reasons
    told = {UNMATCHED: shown(query)}
    return [Reason(one.code, one.parameters | told) for one in reasons]


def shown(query: Query) -> str:
    """The search as a reason repeats it."""
    text = " ".join(query.request.query.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _leads(query: Query) -> bool:
    return bool(query.request.query) and query.placement.answers_search
