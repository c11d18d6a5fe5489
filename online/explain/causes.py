"""Why each item of a slate is there, asked of the source that moved it most.

A source that knows more than its name has a method `reasons`, which is asked once for all of
its items. It knows sources, and no words.
"""

from collections import defaultdict

from online.explain.reasons import CHOSEN, plain_reason
from online.pipeline import Pipeline
from online.stages.places import FROM_FALLBACK, FROM_PIN, Ranking
from online.types import Indexes, Query, Reason, Source

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
    """One reason for each item, in the order of the slate."""
    items, found = ranking.chosen.items, [CHOSEN] * len(ranking.chosen)
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, row in enumerate(ranking.sources.tolist()):
        places[row].append(place)
    for row, some in places.items():
        if row == FROM_PIN:
            continue
        source = pipeline.fallback if row == FROM_FALLBACK else pipeline.sources[row].source
        for place, one in zip(some, _reasons(source, query, items[some]), strict=True):
            found[place] = one
    return found


def _reasons(source: Source, query: Query, items: Indexes) -> list[Reason]:
    ask = getattr(source, "reasons", None) or getattr(
        getattr(source, "source", None), "reasons", None
    )
    if ask is not None:
        answers: list[Reason] = ask(query, items)
        return answers
    return [plain_reason(source.name)] * len(items)
