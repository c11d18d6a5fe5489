"""Several corpora in one slate: exact quotas first, the places left by calibrated value.

It orders what each corpus has ranked and never changes the order within a corpus, nor the slot of
a product that the shop has pinned. A corpus with too few items leaves its places to those with an
open quota; where there is none the slate is short, since an exact quota is never exceeded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import CORPORA, Corpus
from online.types import Quota, SlateItem

PRIOR_VALUE: Final = 0.10
"""How often what stands first is acted on, before anything was seen."""

PRIOR_FADING: Final = 0.5
"""How fast that falls with the place r, counted from 1: by r to this power."""


@dataclass(frozen=True, slots=True)
class Offered:
    """An item that a corpus offers; `slot` is the place that the shop gave it, or None."""

    item: SlateItem
    slot: int | None = None


def product_values(num: int, measured: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The probability that a product is acted on, by its place in the ranking; shape (num,).

    `measured` are the first of them as the shop's own exposures have it; beyond them the last one
    fades on as the prior does.
    """
    prior = PRIOR_VALUE * np.arange(1, num + 1, dtype=np.float64) ** -PRIOR_FADING
    if measured is not None and len(measured):
        known = min(num, len(measured))
        prior *= measured[known - 1] / prior[known - 1]
        prior[:known] = measured[:known]
    values: NDArray[np.float32] = prior.astype(np.float32)
    return values


def valued(products: Sequence[SlateItem], values: NDArray[np.float32]) -> tuple[SlateItem, ...]:
    """The products with their calibrated values as scores."""
    return tuple(
        replace(item, score=float(value)) for item, value in zip(products, values, strict=True)
    )


def mix(
    num: int, quotas: Sequence[Quota], offered: Mapping[Corpus, Sequence[Offered]]
) -> tuple[SlateItem, ...]:
    """At most `num` items: each corpus exactly its quota, if it has as many.

    Open quotas share the other places by value. The order is by value too, but for slots.
    """
    taken = {
        quota.corpus: _first(offered.get(quota.corpus, ()), quota.num)
        for quota in quotas
        if quota.num is not None
    }
    num_left = num - sum(len(items) for items in taken.values())
    rivals = {
        quota.corpus: _pinned_first(offered.get(quota.corpus, ()))
        for quota in quotas
        if quota.num is None
    }
    for one in _by_value(rivals)[: max(0, num_left)]:
        taken.setdefault(one.item.corpus, []).append(one)
    return _placed([one for items in taken.values() for one in items])


def _first(offered: Sequence[Offered], num: int) -> list[Offered]:
    return _pinned_first(offered)[:num]


def _pinned_first(offered: Iterable[Offered]) -> list[Offered]:
    return sorted(offered, key=lambda one: one.slot is None)


def _placed(chosen: list[Offered]) -> tuple[SlateItem, ...]:
    """What is chosen, by value; what has a slot is set there and moves the others down."""
    free: dict[Corpus, list[Offered]] = {}
    for one in chosen:
        if one.slot is None:
            free.setdefault(one.item.corpus, []).append(one)
    placed = [one.item for one in _by_value(free)]
    pinned = [(one.slot, one.item) for one in chosen if one.slot is not None]
    for slot, item in sorted(pinned, key=lambda pair: pair[0]):
        placed.insert(slot, item)
    return tuple(placed)


def _by_value(offered: Mapping[Corpus, Sequence[Offered]]) -> list[Offered]:
    """All of them merged: the corpus whose next item is worth most comes next.

    What has a slot comes first; a tie goes to the corpus that stands first in `CORPORA`.
    """
    queues = [list(reversed(offered[corpus])) for corpus in CORPORA if offered.get(corpus)]
    merged: list[Offered] = []
    while queues:
        best = max(queues, key=lambda queue: (queue[-1].slot is not None, queue[-1].item.score))
        merged.append(best.pop())
        queues = [queue for queue in queues if queue]
    return merged
