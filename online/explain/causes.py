"""Why each item of a slate is there, asked of the source that moved it most.

A source that knows more than its name has a method `reasons`, which is asked once for all of
its items. It knows sources, and no words.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from online.explain.reasons import CHOSEN, plain_reason
from online.pipeline import Pipeline
from online.stages.places import FROM_FALLBACK, FROM_PIN, Ranking
from online.types import Indexes, Query, Reason, Scores, Source

PINNED = "pin"


def source_names(pipeline: Pipeline, ranking: Ranking) -> list[str]:
    """The name of each item's main source."""
    names = {
        **dict(enumerate(pipeline.source_names)),
        FROM_FALLBACK: pipeline.fallback.name,
        FROM_PIN: PINNED,
    }
    return [names[row] for row in ranking.sources.tolist()]


def reasons_of(pipeline: Pipeline, query: Query, ranking: Ranking) -> list[Reason]:
    """One reason for each item, in the order of the slate.

    A source whose score of an item is 0 or less says nothing for it: the item is just chosen.
    """
    items, found = ranking.chosen.items, [CHOSEN] * len(ranking.chosen)
    places: defaultdict[int, list[int]] = defaultdict(list)
    scores = _main_scores(pipeline, ranking)
    for place in np.flatnonzero(scores > 0).tolist():
        places[int(ranking.sources[place])].append(place)
    for row, some in places.items():
        source = pipeline.fallback if row == FROM_FALLBACK else pipeline.sources[row].source
        for place, one in zip(some, _reasons(source, query, items[some]), strict=True):
            found[place] = one
    return found


def _main_scores(pipeline: Pipeline, ranking: Ranking) -> Scores:
    """What each item's main source says of it, shape (items,); NaN for a pin."""
    items, rows = ranking.chosen.items, ranking.sources
    scores: Scores = ranking.chosen.scores[np.maximum(rows, 0), np.arange(len(rows))]
    scores[rows == FROM_PIN] = np.nan
    added = rows == FROM_FALLBACK
    score_of = _method(pipeline.fallback, "score_of")
    if added.any() and score_of is not None:
        scores[added] = score_of(items[added])
    return scores


def _reasons(source: Source, query: Query, items: Indexes) -> list[Reason]:
    ask = _method(source, "reasons")
    if ask is not None:
        answers: list[Reason] = ask(query, items)
        return answers
    return [plain_reason(source.name)] * len(items)


def _method(source: Source, name: str) -> Any:
    """A method that a source, or the one inside it, may have."""
    return getattr(source, name, None) or getattr(getattr(source, "source", None), name, None)
