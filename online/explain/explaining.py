"""Why an item is, or is not, in the slate that the same request gets.

Runs the same stages as the answer and notes what each made of the item. Not on the path of a
slate, so it may take its time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from feature_store.ranking import feature_names, ranking_features
from feature_store.schema import Corpus
from online.answering import products_of, slate_of
from online.completion import blocking, complete
from online.corpora import ask_shelves, needs_products
from online.explain.beside import find_beside, find_places
from online.explain.findings import FilterFinding, SourceFinding
from online.known import Known
from online.offering.rules import Action
from online.pipeline import Attempts, Pipeline, by_rank, find, merge, run
from online.search.relevance import by_search
from online.snapshot import Snapshot
from online.stages.places import Ranking, nothing_chosen, room_of
from online.stages.ranker import Ranker
from online.stages.scorers import Blend
from online.stages.visitors import ForVisitors
from online.stages.weighing import by_rules
from online.types import (
    Candidates,
    Degraded,
    Found,
    Query,
    Reason,
    Request,
    Scorer,
    SlateItem,
)

MAX_TERMS: Final = 20


class Verdict(StrEnum):
    """What became of an item."""

    SELECTED = "selected"
    OUTRANKED = "outranked"
    FILTERED = "filtered"
    NOT_RETRIEVED = "not_retrieved"
    UNKNOWN_ITEM = "unknown_item"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of why. `rank` is 0 and `score` 0 for an item that was not ranked."""

    verdict: Verdict
    model_version: str
    rank: int = 0
    score: float = 0.0
    sources: tuple[SourceFinding, ...] = ()
    filters: tuple[FilterFinding, ...] = ()
    terms: tuple[tuple[str, float], ...] = ()
    reason: Reason | None = None
    degraded: tuple[Degraded, ...] = ()


def explain(
    snapshot: Snapshot, request: Request, known: Known, item_id: str, attempts: Attempts
) -> Explanation:
    """Why the item is in the slate of this request, or why not; RequestError as for the slate."""
    query, _ = complete(snapshot, request, known)
    item = int(snapshot.catalog.indexes_of([item_id])[0])
    if item < 0:
        return _explain_beside(snapshot, query, known, item_id, attempts)
    pipeline = snapshot.pipeline_of(request)
    ranking, place = _answer(snapshot, query, known, item_id, attempts)
    found = find(pipeline, query, attempts)
    ranked = _rank(pipeline, query, found, item) if needs_products(query) else _Ranked()
    filters = tuple(_filters(snapshot, query, ranking, item))
    return Explanation(
        verdict=_verdict(place is not None, filters, ranked, query),
        model_version=snapshot.model_version,
        rank=ranked.rank,
        score=ranked.score,
        sources=tuple(
            _finding(use.source.name, one, item)
            for use, one in zip(pipeline.sources, found, strict=True)
        ),
        filters=filters,
        terms=ranked.terms,
        reason=None if place is None else place.reason,
        degraded=tuple(dict.fromkeys(attempts.degraded)),
    )


def _answer(
    snapshot: Snapshot, query: Query, known: Known, item_id: str, attempts: Attempts
) -> tuple[Ranking, SlateItem | None]:
    """The products of the slate, and the item's place among all corpora if it has one."""
    pipeline = snapshot.pipeline_of(query.request)
    ranking = nothing_chosen(len(pipeline.sources))
    products: tuple[SlateItem, ...] = ()
    if needs_products(query):
        ranking = run(pipeline, query, attempts)
        products = products_of(snapshot, query, ranking)
    offered = ask_shelves(snapshot.shelves, query, known, products, attempts)
    slate = slate_of(snapshot, query, (), products, offered, attempts)
    of_products = (one for one in slate.items if one.corpus is Corpus.PRODUCT)
    return ranking, next((one for one in of_products if one.item == item_id), None)


def _explain_beside(
    snapshot: Snapshot, query: Query, known: Known, item_id: str, attempts: Attempts
) -> Explanation:
    """Of what is no product."""
    found = find_beside(snapshot, query, known, item_id, attempts)
    degraded = tuple(dict.fromkeys(attempts.degraded))
    if found is None:
        return Explanation(Verdict.UNKNOWN_ITEM, snapshot.model_version, degraded=degraded)
    standing, place = found
    removed = any(not one.kept for one in standing.filters)
    verdict = Verdict.FILTERED if removed else Verdict.OUTRANKED
    return Explanation(
        verdict=verdict if place is None else Verdict.SELECTED,
        model_version=snapshot.model_version,
        rank=standing.rank,
        score=standing.score,
        sources=standing.sources,
        filters=standing.filters,
        terms=standing.terms,
        reason=None if place is None else place.reason,
        degraded=degraded,
    )


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Where the item stands among the candidates, and what its score is made of."""

    rank: int = 0
    score: float = 0.0
    terms: tuple[tuple[str, float], ...] = ()


def _rank(pipeline: Pipeline, query: Query, found: list[Found], item: int) -> _Ranked:
    candidates = merge(found)
    for rule in pipeline.filters:
        candidates = candidates.keep(rule.keep(query, candidates))
    place = np.flatnonzero(candidates.items == item)
    if not len(place):
        return _Ranked()
    position = int(place[0])
    try:
        scorer = pipeline.scorer
        if isinstance(scorer, ForVisitors):
            scorer = scorer.scorer_of(query, len(candidates.scores))
        scores = scorer.score(query, candidates)
        terms = _terms(pipeline, scorer, query, candidates, position)
    except Exception:  # the scorer is out: the slate is ordered by rank, and so is this
        scores, terms = by_rank(candidates), []
    ruled = by_rules(query, candidates, scores)
    values = by_search(query, candidates, ruled)
    for name, before, after in (("rules", scores, ruled), ("search", ruled, values)):
        if change := float(after[position] - before[position]):
            terms.append((name, change))
    terms.sort(key=lambda term: -abs(term[1]))
    above = values > values[position]
    above[:position] |= values[:position] == values[position]
    return _Ranked(int(above.sum()) + 1, float(values[position]), tuple(terms[:MAX_TERMS]))


def _terms(
    pipeline: Pipeline, scorer: Scorer, query: Query, candidates: Candidates, position: int
) -> list[tuple[str, float]]:
    """What the score is made of: for a ranker what each feature adds, else what each source does.

    A feature adds what the score loses when it takes its mean over the candidates.
    """
    if not isinstance(scorer, Ranker):
        if not isinstance(scorer, Blend):
            return []
        terms = scorer.terms(candidates, position).tolist()
        named = zip(pipeline.source_names, terms, strict=True)
        return [(f"blend.{name}", value) for name, value in named if value]
    rated = candidates.rated(scorer.rated)
    features = ranking_features(
        query.state, query.history, scorer.columns, candidates.items, rated, query.time
    )
    own = features[position]
    changed = np.tile(own, (len(own) + 1, 1))
    changed[np.arange(len(own)), np.arange(len(own))] = features.mean(axis=0)
    values = scorer.session.run(None, {"features": changed})[0]
    added = values[-1] - values[:-1]
    return [
        (f"ranker.{name}", float(value))
        for name, value in zip(feature_names(scorer.rated_sources), added, strict=True)
        if value
    ]


def _finding(name: str, found: Found, item: int) -> SourceFinding:
    place = np.flatnonzero(found.items == item)
    if not len(place):
        return SourceFinding(name, 0, 0.0)
    return SourceFinding(name, int(place[0]) + 1, float(found.scores[place[0]]))


def _verdict(
    is_chosen: bool, filters: tuple[FilterFinding, ...], ranked: _Ranked, query: Query
) -> Verdict:
    if is_chosen:
        return Verdict.SELECTED
    removing = [one for one in filters if not one.kept]
    if any(not one.name.startswith("cap.") for one in removing):
        return Verdict.FILTERED
    if removing and 0 < ranked.rank <= query.num_wanted:
        return Verdict.FILTERED
    return Verdict.OUTRANKED if ranked.rank else Verdict.NOT_RETRIEVED


def _filters(
    snapshot: Snapshot, query: Query, ranking: Ranking, item: int
) -> Iterator[FilterFinding]:
    """One finding for each filter that the request or the placement has, and each rule."""
    request, shop = query.request, snapshot.shop
    if request.corpora:
        yield find_places(query, Corpus.PRODUCT)
    is_available = shop.is_available(item)
    yield FilterFinding("available", is_available, Reason("availability"))
    for name, text in (("filter", request.filter), ("region", request.region)):
        if text:
            alone = {"filter_text": text} if name == "filter" else {"region": text}
            kept = shop.passes(item, **alone)
            yield FilterFinding(name, kept, Reason(f"request_{name}", {"text": text}))
    for name, items in blocking(snapshot.catalog, query).items():
        yield FilterFinding(name, item not in items, Reason(name))
    if query.only is not None:
        yield FilterFinding("only", bool((query.only == item).any()), Reason("bought_before"))
    yield from _rules(snapshot, query, item)
    yield from _caps(query, ranking, item)


def _rules(snapshot: Snapshot, query: Query, item: int) -> Iterator[FilterFinding]:
    """Every rule in force that concerns the item."""
    shop, request = snapshot.shop, query.request
    for rule in shop.rules:
        if not rule.holds(request.placement, request.request_time) or rule.action is Action.CAP:
            continue
        if shop.concerns(rule, item):
            text = Reason(f"rule_{rule.action.value}", {"factor": f"{rule.factor:g}"})
            yield FilterFinding(f"rule.{rule.name}", rule.action is not Action.BLOCK, text)


def _caps(query: Query, ranking: Ranking, item: int) -> Iterator[FilterFinding]:
    """Whether each cap has room for the item beside the slate."""
    others = [one for one in ranking.chosen.items.tolist() if one != item]
    for cap in query.offer.caps:
        if cap.group[item] >= 0:
            has_room = room_of((cap,), others).left(item) > 0
            text = Reason("cap", {"count": str(cap.count)})
            yield FilterFinding(f"cap.{cap.name}", has_room, text)
