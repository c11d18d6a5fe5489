"""A completed query answered: the pipeline for products, shelves for the rest, one slate.

Many requests of one kind are answered together, over columns, with the same result; should that
fail, one by one. It knows a snapshot and what is known of who asks, and no store.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import starmap

from feature_store.schema import Corpus
from online.completion import complete
from online.corpora import ask_shelves, joined, needs_products
from online.errors import RequestError
from online.explain.causes import reasons_of, source_names
from online.known import Known
from online.pipeline import Attempts, run
from online.search.relevance import moved_by_search, with_search
from online.snapshot import Snapshot
from online.stages.places import Ranking
from online.together.completing import (
    MIN_TOGETHER,
    complete_together,
    in_region,
    is_plain,
    kind_of,
)
from online.together.running import run_together
from online.types import Query, Request, Slate, SlateItem

logger = logging.getLogger(__name__)


def answer(snapshot: Snapshot, request: Request, known: Known, attempts: Attempts) -> Slate:
    """The slate of one request. Raises RequestError when it cannot be answered as it is."""
    query, missing = complete(snapshot, request, known)
    products: tuple[SlateItem, ...] = ()
    if needs_products(query):
        ranking = run(snapshot.pipeline_of(request), query, attempts)
        products = products_of(snapshot, query, ranking)
    offered = ask_shelves(snapshot.shelves, query, known, products, attempts)
    return slate_of(snapshot, query, missing, products, offered, attempts)


def answer_many(
    snapshot: Snapshot,
    requests: Sequence[Request],
    known: Sequence[Known],
    attempts: Sequence[Attempts],
) -> list[Slate]:
    """The slate of each request, in their order; those of one kind together."""
    asked = list(map(in_region, requests, known))
    kinds: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, request in enumerate(asked):
        kinds[kind_of(request) if is_plain(request) else (number,)].append(number)
    slates: dict[int, Slate] = {}
    for numbers in kinds.values():
        some = [(asked[number], known[number], attempts[number]) for number in numbers]
        found = None
        if len(some) >= MIN_TOGETHER:
            found = _answer_together(snapshot, some)
        if found is None:
            found = list(starmap(lambda *one: answer(snapshot, *one), some))
        slates.update(zip(numbers, found, strict=True))
    return [slates[number] for number in range(len(requests))]


def _answer_together(
    snapshot: Snapshot, asked: Sequence[tuple[Request, Known, Attempts]]
) -> list[Slate] | None:
    """The slates of plain requests of one kind; None when a stage fails."""
    requests, known, attempts = zip(*asked, strict=True)
    try:
        queries = complete_together(snapshot, requests, known)
        each = queries.each
        products: list[tuple[SlateItem, ...]] = [()] * len(each)
        if needs_products(each[0]):
            pipeline = snapshot.pipelines[requests[0].placement]
            rankings = run_together(pipeline, queries, attempts)
            products = [
                products_of(snapshot, query, ranking)
                for query, ranking in zip(each, rankings, strict=True)
            ]
    except RequestError:
        raise
    except Exception:
        logger.exception("requests are answered one by one: together they fail")
        return None
    slates = []
    for query, one, chosen, attempt in zip(each, known, products, attempts, strict=True):
        offered = ask_shelves(snapshot.shelves, query, one, chosen, attempt)
        slates.append(slate_of(snapshot, query, (), chosen, offered, attempt))
    return slates


def slate_of(
    snapshot: Snapshot,
    query: Query,
    missing: tuple[str, ...],
    products: tuple[SlateItem, ...],
    offered: Mapping[Corpus, tuple[SlateItem, ...]],
    attempts: Attempts,
) -> Slate:
    """The corpora's items in one slate."""
    is_mixed = bool(query.request.corpora)
    return Slate(
        items=joined(query, products, offered, snapshot.product_values) if is_mixed else products,
        model_version=snapshot.model_version,
        missing=missing,
        degraded=tuple(dict.fromkeys(attempts.degraded)),
        arm=query.arm,
    )


def products_of(snapshot: Snapshot, query: Query, ranking: Ranking) -> tuple[SlateItem, ...]:
    """The items of a ranking, with their reasons."""
    pipeline = snapshot.pipeline_of(query.request)
    ids = snapshot.catalog.ids
    ranking = moved_by_search(query, ranking)
    reasons = with_search(query, ranking, reasons_of(pipeline, query, ranking))
    return tuple(
        SlateItem(ids[index], index, Corpus.PRODUCT, score, source, propensity, reason)
        for index, score, source, propensity, reason in zip(
            ranking.chosen.items.tolist(),
            ranking.scores.tolist(),
            source_names(pipeline, ranking),
            ranking.propensities.tolist(),
            reasons,
            strict=True,
        )
    )
