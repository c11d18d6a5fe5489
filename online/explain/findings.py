"""What is found of one item: by sources, by filters, and where a corpus has it.

Values alone; who finds them is elsewhere.
"""

from dataclasses import dataclass

from online.types import Reason


@dataclass(frozen=True, slots=True)
class SourceFinding:
    """What a source made of the item: its rank, 1 is best, 0 for not found, and its score."""

    source: str
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class FilterFinding:
    """What a filter or rule made of the item: a code with what it looked at."""

    name: str
    kept: bool
    text: Reason


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an item stands in a corpus beside the products.

    `rank` is 1 for the best of what may be shown, 0 for what may not; `terms` add up to `score`.
    """

    rank: int
    score: float
    sources: tuple[SourceFinding, ...]
    filters: tuple[FilterFinding, ...]
    terms: tuple[tuple[str, float], ...]
