"""What the value of a piece of content is made of, and which part of it moved the piece most.

The value is the probability that a piece is acted on when it is shown. It knows numbers, and
neither pieces nor people.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.language.postings import Weights
from online.types import Mask

SOURCE_LINKED: Final = "content_linked"
SOURCE_SIMILAR: Final = "content_similar"
SOURCE_AFFINITY: Final = "content_affinity"
SOURCE_FRESH: Final = "content_fresh"
SOURCE_USEFUL: Final = "content_useful"
SOURCE_EXPLORED: Final = "content_explored"

SOURCES: Final = (SOURCE_LINKED, SOURCE_SIMILAR, SOURCE_AFFINITY, SOURCE_FRESH)
"""What lifts a value above the rate at which a piece is acted on anyway."""

REASONS: Final = {
    SOURCE_LINKED: "content_about_this",
    SOURCE_SIMILAR: "content_like_this",
    SOURCE_AFFINITY: "content_for_your_basket",
    SOURCE_FRESH: "content_new",
    SOURCE_USEFUL: "content_useful",
    SOURCE_EXPLORED: "content_new",
}
"""The reason code of what moved a piece most."""

MAX_VALUE: Final = 0.5
MIN_LIFT: Final = 0.1
"""A smaller lift is no reason."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """The values of all n pieces: rates x (1 + lifts) x factors, at most MAX_VALUE.

    `rates` is how often each is acted on anyway, `lifts` are by SOURCES, shape (4, n), `factors`
    are below 1 for what was read, and `is_linked` says what is linked to the page.
    """

    values: Weights
    rates: Weights
    lifts: Weights
    factors: Weights
    is_linked: Mask

    def terms(self, piece: int) -> tuple[tuple[str, float], ...]:
        """What the value of a piece adds up from, the greatest first."""
        rate = float(self.rates[piece])
        lifts = (rate * self.lifts[:, piece]).tolist()
        full = rate + sum(lifts)
        read = full * float(self.factors[piece]) - full
        terms = [
            ("content.rate", rate),
            *((f"content.{source}", lift) for source, lift in zip(SOURCES, lifts, strict=True)),
            ("content.read", read),
            ("content.limit", float(self.values[piece]) - full - read),
        ]
        terms.sort(key=lambda term: -abs(term[1]))
        return tuple((name, value) for name, value in terms if abs(value) > _NOTHING)

    def source(self, piece: int) -> str:
        """What moved a piece most."""
        lifts = self.lifts[:, piece]
        if self.is_linked[piece]:
            return SOURCE_LINKED
        return SOURCES[int(lifts.argmax())] if lifts.max() > MIN_LIFT else SOURCE_USEFUL


_NOTHING: Final = 1e-7
"""What rounding leaves."""


def weigh(rates: Weights, lifts: Weights, factors: Weights, is_linked: Mask) -> Weighed:
    """The values of pieces; shapes as in Weighed."""
    values = np.minimum(rates * (1 + lifts.sum(axis=0)) * factors, MAX_VALUE)
    return Weighed(values.astype(np.float32), rates, lifts, factors, is_linked)


def rank_of(lifts: NDArray[np.floating], own: float) -> int:
    """The rank of a lift among others, 1 is best; 0 for no lift at all."""
    return int((lifts > own).sum()) + 1 if own > 0 else 0
