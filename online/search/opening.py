"""The sources of a search over an opened bundle, and pipelines that have them.

Without a search a pipeline is as it was: a page that sends none pays nothing.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from feature_store.bundle import Bundle
from feature_store.language.encoder import TextEncoder
from feature_store.language.products import CENTRES, SPACE_FILE, VECTORS
from online.chat.learned import Understanding
from online.offering.attributes import Attributes
from online.pipeline import Pipeline, SizedSource
from online.placements import Placement
from online.search.meaning import SearchMeaning, WaitingEncoder
from online.search.reading import QueryReader
from online.search.words import SearchWords
from online.stages.browsing import Shelves
from online.stages.fresh import FirstChance, Fresh
from online.stages.scorers import Blend
from online.types import NOTHING, Found, Query

SIZE: Final = 200
"""How many candidates each source of a search may add on the page that answers it."""


@dataclass(frozen=True, slots=True)
class NoMeaning:
    """Stands for the meaning in a bundle without vectors of texts: it finds nothing."""

    name: str = "search_meaning"

    def retrieve(self, _query: Query, _limit: int) -> Found:
        """Nothing."""
        return NOTHING


@dataclass(frozen=True, slots=True)
class ProductSearch:
    """What finds products for a search, bound to one bundle."""

    words: SearchWords
    meaning: SearchMeaning | NoMeaning

    def added_to(self, pipeline: Pipeline, placement: Placement) -> Pipeline:
        """The pipeline with a search's sources last; elsewhere they only say what fits.

        No slot is drawn among new products: those that fit are found.
        """
        size = SIZE if placement.answers_search else 0
        fresh = next((s.source for s in pipeline.sources if isinstance(s.source, Fresh)), None)
        meaning = self.meaning
        if isinstance(meaning, SearchMeaning):
            meaning = replace(meaning, fresh=fresh)
        scorer, selector = pipeline.scorer, pipeline.selector
        if isinstance(scorer, Blend):
            scorer = replace(scorer, weights=np.append(scorer.weights, np.zeros(2, np.float32)))
        return replace(
            pipeline,
            sources=(*pipeline.sources, SizedSource(self.words, size), SizedSource(meaning, size)),
            scorer=scorer,
            selector=selector.inner if isinstance(selector, FirstChance) else selector,
        )


def open_product_search(
    bundle: Bundle,
    attributes: Attributes,
    understanding: Understanding | None,
    encoder: TextEncoder,
    *,
    is_loaded: bool,
) -> ProductSearch:
    """The sources of a search over a bundle, with the names that its understanding has.

    `is_loaded`: others have loaded the encoder before the first search comes, or will have.
    """
    reader = QueryReader(
        attributes.text,
        *((understanding.names, understanding.gazetteer) if understanding is not None else ()),
    )
    shelves = Shelves(
        order=bundle.array("by_category/order"),
        score=bundle.array("by_category/score"),
        starts=bundle.array("by_category/starts"),
    )
    rank = bundle.array("popular/rank")
    prior = 1 - np.log1p(rank) / np.log1p(len(rank))
    words = SearchWords(reader, attributes, shelves, prior.astype(np.float32))
    if CENTRES not in bundle or bundle.json(SPACE_FILE)["space"] != encoder.space:
        return ProductSearch(words, NoMeaning())
    meaning = SearchMeaning(
        reader,
        WaitingEncoder(encoder, is_ready=is_loaded),
        bundle.column(VECTORS),
        bundle.array(CENTRES),
        shelves,
    )
    return ProductSearch(words, meaning)
