"""The source of what a search means: products whose texts lie near it, in any language.

Only products of the categories that are nearest are compared, so that a large shop costs no more
than a small one. Where the encoder is not there, it says so by failing: words go on alone.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import EncoderError
from feature_store.language.encoder import TextEncoder
from online.offering.allowed import few_allowed
from online.search.reading import QueryReader
from online.search.relevance import shown
from online.stages.browsing import Shelves
from online.stages.fresh import Fresh
from online.stages.vectors import top_allowed
from online.together.ragged import stretches
from online.types import NO_ITEMS, NO_SCORES, NOTHING, Found, Indexes, Query, Reason, Scores

logger = logging.getLogger(__name__)

NAME: Final = "search_meaning"
MAX_COMPARED: Final = 1_000
"""Among so many products the nearest are looked for."""

MAX_OF_CATEGORY: Final = 100
"""How many products of a category are compared: those that sell best."""

FAR: Final = 0.45
NEAR: Final = 0.75
"""Cosines that say nothing, and all: scores are from 0 to 1 between them."""


class WaitingEncoder:
    """An encoder that nobody waits for while it is loaded."""

    def __init__(self, encoder: TextEncoder, *, is_ready: bool) -> None:
        """`is_ready`: it was used before, so that it answers at once."""
        self._encoder = encoder
        self._is_ready = is_ready
        self._loading: threading.Thread | None = None

    def encode(self, text: str) -> NDArray[np.float32]:
        """The vector of a text. Raises EncoderError, also while the encoder is being loaded."""
        if not self._is_ready:
            if self._loading is None or not self._loading.is_alive():
                self._loading = threading.Thread(target=self._load, name="encoder", daemon=True)
                self._loading.start()
            raise EncoderError("the encoder of searches is being loaded")
        vector: NDArray[np.float32] = self._encoder.encode([text])[0]
        return vector

    def _load(self) -> None:
        try:
            self._encoder.encode([""])
        except EncoderError as error:
            logger.error("searches are answered by words only: %s", error)
            return
        self._is_ready = True


@dataclass(frozen=True, slots=True)
class SearchMeaning:
    """Finds by vectors of texts.

    `vectors` has shape (items and room, dimensions), `centres` has one row a node of the category
    tree: the direction of its own items. `fresh` are products that came after the training.
    """

    reader: QueryReader
    encoder: WaitingEncoder
    vectors: NDArray[np.float16]
    centres: NDArray[np.float32]
    shelves: Shelves
    fresh: Fresh | None = None
    name: str = NAME

    def retrieve(self, query: Query, limit: int) -> Found:
        """The allowed items nearest to the search. Raises EncoderError."""
        text = self.reader.read(query.request.query).text
        if not text:
            return NOTHING
        wanted = self.encoder.encode(text)

        def rate(items: Indexes) -> Scores:
            return nearness(self.vectors[items].astype(np.float32) @ wanted)

        if not limit:
            return Found(NO_ITEMS, NO_SCORES, rate)
        items = self._compared(query, wanted)
        scores = rate(items)
        near = scores > 0
        found = top_allowed(query, items[near], scores[near], limit)
        return Found(found.items, found.scores, rate)

    def reasons(self, query: Query, items: Indexes) -> list[Reason]:
        """What was searched for."""
        return [Reason("for_search", {"query": shown(query)})] * len(items)

    def _compared(self, query: Query, wanted: NDArray[np.float32]) -> Indexes:
        """The items that are compared: all where few are allowed, else those of near categories."""
        few = few_allowed(query)
        if few is not None and len(few) <= MAX_COMPARED:
            return few
        order = np.argsort(-(self.centres @ wanted), kind="stable")
        first = self.shelves.starts[order]
        lengths = np.minimum(self.shelves.starts[order + 1] - first, MAX_OF_CATEGORY)
        num_nodes = int(np.searchsorted(np.cumsum(lengths), MAX_COMPARED, "right")) + 1
        places = stretches(first[:num_nodes], lengths[:num_nodes])
        items: Indexes = self.shelves.order[places]
        return items if self.fresh is None else np.concatenate((items, self.fresh.items))


def nearness(cosines: NDArray[np.float32]) -> Scores:
    """What cosines say of relevance, from 0 to 1."""
    scores: Scores = np.clip((cosines - FAR) / (NEAR - FAR), 0.0, 1.0).astype(np.float32)
    return scores
