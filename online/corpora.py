"""What a corpus beside products must be able to do, and how corpora share a slate.

A shelf ranks its own items; products go through the pipeline. It knows no corpus in particular.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import Corpus
from online.explain.causes import PINNED
from online.explain.findings import Standing
from online.known import Known
from online.mixing import Offered, mix, product_values, valued
from online.pipeline import Attempts
from online.types import Cause, Degraded, Query, Quota, Request, SlateItem

SHELF_STAGE: Final = "shelf"


class Shelf(Protocol):
    """One corpus beside the products, as a bundle has it."""

    @property
    def corpus(self) -> Corpus:
        """What its items are."""
        ...

    def recommend(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], num: int, /
    ) -> tuple[SlateItem, ...]:
        """At most `num` items, best first, each once; the score of each is its calibrated value.

        The value is the probability that who asks acts on the item when it is shown. `slate` holds
        the products that are chosen, `query.request.kinds` the kinds wanted.
        """
        ...

    def stand(
        self, query: Query, known: Known, slate: tuple[SlateItem, ...], item_id: str, /
    ) -> Standing | None:
        """Where one item stands, for who asks why; None when it is not of this corpus."""
        ...


def num_places(request: Request, default: int) -> int:
    """How long the slate is to be, `default` being the placement's own length.

    Without a page size exact quotas are it, and with an open one among them at least the default.
    """
    if request.page_size:
        return request.page_size
    exact = sum(quota.num or 0 for quota in request.corpora)
    has_open = any(quota.num is None for quota in request.corpora)
    return max(default, exact) if has_open or not request.corpora else exact


def quotas_of(request: Request, num: int) -> tuple[Quota, ...]:
    """Who gets the `num` places of a slate; exact quotas never add up to more.

    Products that are not named get what exact quotas leave of a page of a given size. None is
    named: they get all.
    """
    quotas: list[Quota] = []
    num_left = num
    for quota in request.corpora:
        cut = quota if quota.num is None else replace(quota, num=min(quota.num, num_left))
        num_left -= cut.num or 0
        quotas.append(cut)
    is_named = any(quota.corpus is Corpus.PRODUCT for quota in quotas)
    has_open = any(quota.num is None for quota in quotas)
    if num_left and not is_named and not has_open:
        quotas.insert(0, Quota(Corpus.PRODUCT))
    return tuple(quotas)


def needs_products(query: Query) -> bool:
    """Whether any place of the slate is for a product."""
    quotas = quotas_of(query.request, query.num_wanted)
    return any(quota.corpus is Corpus.PRODUCT and quota.num != 0 for quota in quotas)


def ask_shelves(
    shelves: Mapping[Corpus, Shelf],
    query: Query,
    known: Known,
    products: tuple[SlateItem, ...],
    attempts: Attempts,
) -> dict[Corpus, tuple[SlateItem, ...]]:
    """What each corpus of the request offers; one that fails, is late or lacks is named."""
    offered: dict[Corpus, tuple[SlateItem, ...]] = {}
    for quota in quotas_of(query.request, query.num_wanted):
        if quota.corpus is Corpus.PRODUCT or quota.num == 0:
            continue
        stage, shelf = f"{SHELF_STAGE}.{quota.corpus}", shelves.get(quota.corpus)
        if shelf is None:
            attempts.degraded.append(Degraded(stage, Cause.UNAVAILABLE))
            continue
        num = query.num_wanted if quota.num is None else quota.num
        offered[quota.corpus] = attempts.stage(
            stage, (), shelf.recommend, query, known, products, num
        )
    return offered


def joined(
    query: Query,
    products: Sequence[SlateItem],
    offered: Mapping[Corpus, Sequence[SlateItem]],
    measured: NDArray[np.float32] | None,
) -> tuple[SlateItem, ...]:
    """One slate of all corpora, by the request's quotas; `measured` as in `product_values`."""
    quotas = quotas_of(query.request, query.num_wanted)
    worth = valued(products, product_values(len(products), measured))
    on_offer = {
        Corpus.PRODUCT: [
            Offered(item, slot if item.source == PINNED else None)
            for slot, item in enumerate(worth)
        ],
        **{corpus: [Offered(item) for item in items] for corpus, items in offered.items()},
    }
    return mix(query.num_wanted, quotas, on_offer)
