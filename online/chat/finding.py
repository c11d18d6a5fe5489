"""Cards for what is wanted: the same engine that fills pages, asked with a filter.

Wishes are met closely where there is enough, and less closely before nothing is shown; what a
shopper refused, or set as a limit, always holds. It knows no intents and no words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import Corpus
from online.chat.facts import price_of
from online.chat.wishes import Strictness, Wish, filter_of
from online.engine import Engine
from online.errors import RequestError
from online.explain.reasons import CHOSEN
from online.offering.allowed import mask_of
from online.placements import MAX_PAGE_SIZE
from online.snapshot import Snapshot
from online.types import Degraded, PurchaseMode, Quota, Reason, Request, SlateItem

NUM_CARDS: Final = 5
NUM_COUPONS: Final = 3
MAX_COUPONS: Final = 50
MIN_PRECISE: Final = 3
"""With fewer products that fit in every respect, hints and paths are let go."""

CHAT: Final = "chat"
NEW: Final = "new_arrivals"
POPULAR: Final = "trending"
AGAIN: Final = "buy_again"
TOGETHER: Final = "product_bought_together"
TOGETHER_SOURCES: Final = frozenset({"bought_with", "similar"})
"""What says that products go together; others only fill a slate up."""


@dataclass(frozen=True, slots=True)
class Found:
    """Cards, the request that brought them, and what was left out on the way.

    `is_close`: they are not all that was asked for, only nearest to it.
    """

    items: tuple[SlateItem, ...] = ()
    request: Request | None = None
    degraded: tuple[Degraded, ...] = ()
    missing: tuple[str, ...] = ()
    is_close: bool = False


NOTHING: Final = Found()


@dataclass(frozen=True, slots=True)
class Finder:
    """Asks the engine for one turn, whose every answer comes from one snapshot.

    `asked` is the turn's request without a place and a filter.
    """

    engine: Engine
    snapshot: Snapshot
    asked: Request
    deadline_s: float
    _masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def products(
        self, wishes: Sequence[Wish], exclude: Sequence[str], placement: str = CHAT
    ) -> Found:
        """Products that meet the wishes, none of `exclude`; none where there are none."""
        last = ""
        for strictness in Strictness:
            text = self.filter(wishes, strictness)
            if text == last and strictness is not Strictness.PRECISE:
                continue
            last = text
            wanted = MIN_PRECISE if strictness.is_narrow else 1
            if self._num_allowed(text, exclude) < wanted:
                continue
            found = self._ask(placement, text, exclude)
            if found.items:
                return replace(found, is_close=strictness is Strictness.CLOSEST)
        return Found()

    def again(self, wishes: Sequence[Wish], exclude: Sequence[str]) -> Found:
        """What was bought before, and meets the wishes."""
        for strictness in (Strictness.PLAIN, Strictness.BROAD):
            text = self.filter(wishes, strictness)
            if self._num_allowed(text, exclude):
                found = self._ask(AGAIN, text, exclude, purchase_mode=PurchaseMode.REPEAT_ONLY)
                if found.items:
                    return found
        return Found()

    def new(self, wishes: Sequence[Wish], exclude: Sequence[str]) -> Found:
        """New products only: the slate is not filled up with others."""
        found = self.products(wishes, exclude, NEW)
        return replace(found, items=_from(found.items, frozenset({NEW})))

    def together(
        self, items: Sequence[str], wishes: Sequence[Wish], exclude: Sequence[str]
    ) -> Found:
        """What is bought together with these items, each title once; `wishes` may only rule out."""
        text = self.filter(wishes, Strictness.PLAIN)
        asked = {"context_items": tuple(items), "page_size": MAX_PAGE_SIZE}
        found = self._ask(TOGETHER, text, exclude, **asked)
        cards = self._other_titles(items, _from(found.items, TOGETHER_SOURCES))
        return replace(found, items=cards[:NUM_CARDS])

    def coupons(self, only: Sequence[str] = ()) -> Found:
        """Coupons that the shopper may use, of `only` at most one; none where there are none."""
        if Corpus.COUPON not in self.snapshot.shelves:
            return NOTHING
        num = MAX_COUPONS if only else NUM_COUPONS
        found = self._ask(CHAT, "", (), corpora=(Quota(Corpus.COUPON, num),), page_size=num)
        if not only:
            return found
        return replace(found, items=tuple(one for one in found.items if one.item in only)[:1])

    def filter(self, wishes: Sequence[Wish], strictness: Strictness) -> str:
        """The expression for the wishes."""
        return filter_of(wishes, self.snapshot.shop.attributes, strictness)

    def items(self, items: Sequence[str], known: Mapping[str, Reason]) -> tuple[SlateItem, ...]:
        """The cards of these products, each with the reason that is known."""
        indexes = self.snapshot.catalog.indexes_of(items).tolist()
        return tuple(
            SlateItem(item, index, Corpus.PRODUCT, 0.0, CHAT, 1.0, known.get(item, CHOSEN))
            for item, index in zip(items, indexes, strict=True)
            if index >= 0
        )

    def fits(self, wishes: Sequence[Wish]) -> bool:
        """Whether anything meets all of these wishes."""
        return bool(self._allowed(self.filter(wishes, Strictness.PLAIN)).any())

    def prices(self, items: Sequence[str]) -> list[Decimal]:
        """The prices of the items that have one."""
        catalog = self.snapshot.catalog
        indexes = [index for index in catalog.indexes_of(items).tolist() if index >= 0]
        found = (price_of(catalog, index) for index in indexes)
        return [price for price in found if price is not None]

    def brands(self, items: Sequence[str]) -> tuple[str, ...]:
        """The brands of the items, each once."""
        catalog = self.snapshot.catalog
        indexes = [index for index in catalog.indexes_of(items).tolist() if index >= 0]
        return tuple(dict.fromkeys(brand for index in indexes if (brand := catalog.brand[index])))

    def lowest_prices(self, wishes: Sequence[Wish], num: int) -> list[Decimal]:
        """The lowest prices among what meets the wishes, ascending."""
        mask = self._allowed(self.filter(wishes, Strictness.PLAIN))
        prices = self.snapshot.catalog.price[np.flatnonzero(mask)]
        lowest = np.sort(prices[prices > 0])[:num]
        return [Decimal(round(float(price) * 100)) / 100 for price in lowest]

    def _other_titles(
        self, items: Sequence[str], cards: Sequence[SlateItem]
    ) -> tuple[SlateItem, ...]:
        """The first card of each title, but for those that are called like one of the items."""
        catalog = self.snapshot.catalog
        indexes = [index for index in catalog.indexes_of(items).tolist() if index >= 0]
        own = {catalog.title[index] for index in indexes}
        by_title: dict[str, SlateItem] = {}
        for card in cards:
            by_title.setdefault(catalog.title[card.index], card)
        return tuple(card for title, card in by_title.items() if title not in own)

    def _ask(self, placement: str, text: str, exclude: Sequence[str], **changes: object) -> Found:
        asked = {"page_size": NUM_CARDS, **changes}
        request = replace(
            self.asked,
            placement=placement,
            filter=text,
            exclude_items=(*self.asked.exclude_items, *exclude),
            **asked,  # type: ignore[arg-type]  # fields of a request
        )
        slate = self.engine.recommend(request, self.deadline_s, snapshot=self.snapshot)
        return Found(slate.items, request, slate.degraded, slate.missing)

    def _num_allowed(self, text: str, exclude: Sequence[str]) -> int:
        """How many products pass the filter, but for the excluded ones."""
        mask = self._allowed(text)
        indexes = self.snapshot.catalog.indexes_of(list(dict.fromkeys(exclude)))
        return int(np.count_nonzero(mask)) - int(np.count_nonzero(mask[indexes[indexes >= 0]]))

    def _allowed(self, text: str) -> NDArray[np.bool_]:
        """Which products pass the filter and are on sale here; none for a filter that is wrong."""
        if text not in self._masks:
            shop, asked = self.snapshot.shop, self.asked
            try:
                offer = shop.offer(CHAT, asked.request_time, text, asked.region)
                self._masks[text] = mask_of(offer.allowed)
            except RequestError:
                self._masks[text] = np.zeros(len(shop.attributes), bool)
        return self._masks[text]


def _from(items: Sequence[SlateItem], sources: frozenset[str]) -> tuple[SlateItem, ...]:
    return tuple(item for item in items if item.source in sources)
