"""The pipeline over many queries: what `online.pipeline.run` does, over columns of all of them.

Each stage that can answers all queries at once, the others one by one. No stage is timed, skipped
or isolated: who calls answers one by one when this fails. It knows no bundle and no store.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from online.offering.allowed import AllowedFilter
from online.pipeline import Attempts, Pipeline, SizedSource, fill
from online.stages.places import Ranking
from online.stages.weighing import weigh_together
from online.together.queries import (
    CandidatesTogether,
    FoundTogether,
    Queries,
    SourceTogether,
    together,
    without,
)
from online.together.ragged import Lists, lists
from online.types import Candidates, Filter, Query, Scorer, Scores, Selector


def run_together(
    pipeline: Pipeline, queries: Queries, attempts: Sequence[Attempts]
) -> list[Ranking]:
    """The ranking of each query."""
    candidates = retrieve_together(pipeline, queries)
    scores = _score(pipeline.scorer, queries, candidates)
    scores = weigh_together(queries, candidates, scores)
    chosen, propensities = _select(pipeline.selector, queries, candidates, scores)
    sources = _main_sources(pipeline.scorer, queries, candidates, chosen)
    rankings = _rankings(candidates, scores, chosen, propensities, sources)
    return [
        ranking
        if len(ranking.chosen) == query.num_wanted and not query.offer.pins
        else fill(pipeline.fallback, query, ranking, attempt)
        for query, ranking, attempt in zip(queries.each, rankings, attempts, strict=True)
    ]


def retrieve_together(pipeline: Pipeline, queries: Queries) -> CandidatesTogether:
    """What the sources find and the filters leave."""
    unowned = queries.unowned()
    found = [_find(use, unowned if use.only_new else queries) for use in pipeline.sources]
    candidates = merge_together(queries, found)
    for rule in pipeline.filters:
        mask = _keep(rule, queries, candidates)
        if not mask.all():
            candidates = candidates.keep(mask)
    return candidates


def _find(use: SizedSource, queries: Queries) -> FoundTogether:
    limits = np.array([use.limit(query) for query in queries.each], np.intp)
    if isinstance(use.source, SourceTogether):
        return use.source.retrieve_together(queries, limits)
    asked = zip(queries.each, limits.tolist(), strict=True)
    return together([use.source.retrieve(query, limit) for query, limit in asked])


def merge_together(queries: Queries, found: Sequence[FoundTogether]) -> CandidatesTogether:
    """Each query's items once, sorted by index, with each source's score or NaN."""
    keys = np.concatenate([queries.keys(one.lists.owner, one.lists.items) for one in found])
    order = np.argsort(keys)
    ordered = keys[order]
    is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(keys)]
    place = np.empty(len(keys), np.intp)
    place[order] = np.cumsum(is_first) - 1
    distinct = ordered[is_first]
    scores = np.full((len(found), len(distinct)), np.nan, np.float32)
    first = 0
    for row, one in zip(scores, found, strict=True):
        row[place[first : first + len(one.scores)]] = one.scores
        first += len(one.scores)
    owner = distinct // queries.num_items
    items = (distinct - owner * queries.num_items).astype(np.int32)
    merged = lists(items, owner, len(queries))
    return CandidatesTogether(merged, scores, tuple(one.rate for one in found))


def _keep(rule: Filter, queries: Queries, candidates: CandidatesTogether) -> NDArray[np.bool_]:
    if isinstance(rule, AllowedFilter):
        return without(queries, candidates)
    return np.concatenate([rule.keep(*one) for one in _pairs(queries, candidates)])


def _score(scorer: Scorer, queries: Queries, candidates: CandidatesTogether) -> Scores:
    ask = getattr(scorer, "score_together", None)
    if ask is not None:
        scores: Scores = ask(queries, candidates)
        return scores
    return np.concatenate([scorer.score(*one) for one in _pairs(queries, candidates)])


def _select(
    selector: Selector, queries: Queries, candidates: CandidatesTogether, scores: Scores
) -> tuple[Lists, Scores]:
    """Places among all candidates by query, best first, and the propensity of each."""
    ask = getattr(selector, "select_together", None)
    found: Lists | None = None if ask is None else ask(queries, candidates, scores)
    if found is not None:
        return found, np.ones(len(found.items), np.float32)
    starts = candidates.lists.starts
    selections = [
        selector.select(query, one, scores[starts[number] : starts[number + 1]])
        for number, (query, one) in enumerate(_pairs(queries, candidates))
    ]
    owner = np.repeat(np.arange(len(queries)), [len(one.positions) for one in selections])
    positions = np.concatenate([one.positions for one in selections]) + starts[owner]
    chosen = lists(positions.astype(np.int32), owner, len(queries))
    return chosen, np.concatenate([one.propensities for one in selections])


def _main_sources(
    scorer: Scorer, queries: Queries, candidates: CandidatesTogether, chosen: Lists
) -> NDArray[np.intp]:
    ask = getattr(scorer, "main_sources_together", None)
    if ask is not None:
        rows: NDArray[np.intp] = ask(queries, candidates, chosen)
        return rows
    starts = candidates.lists.starts
    return np.concatenate(
        [
            scorer.main_sources(query, one, chosen.of(number) - starts[number])
            for number, (query, one) in enumerate(_pairs(queries, candidates))
        ]
    )


def _rankings(
    candidates: CandidatesTogether,
    scores: Scores,
    chosen: Lists,
    propensities: Scores,
    sources: NDArray[np.intp],
) -> Iterator[Ranking]:
    """What was chosen for each query: views of columns."""
    items, by_source = candidates.lists.items[chosen.items], candidates.scores[:, chosen.items]
    values, bounds = scores[chosen.items], chosen.starts.tolist()
    rates = (None,) * len(by_source)
    for first, end in pairwise(bounds):
        own = slice(first, end)
        taken = Candidates(items[own], by_source[:, own], rates)
        yield Ranking(taken, values[own], propensities[own], sources[own], ())


def _pairs(queries: Queries, candidates: CandidatesTogether) -> Iterator[tuple[Query, Candidates]]:
    for number, query in enumerate(queries.each):
        yield query, candidates.of(number)
