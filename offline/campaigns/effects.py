"""What a campaign did: each arm against the people who were held out, with intervals.

Everybody who was assigned to an arm counts, whether the mail was sent or opened or not, since only
so are the arms alike but for the mails. Buying is counted for as many days from the send time on
for all. It knows numbers and no files.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

Z: Final = 1.959964
"""Of a two-sided interval of 95%."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm: its people, how many of them bought, and their spending (sum and sum of squares)."""

    num_people: int
    num_buyers: int
    spend: float
    spend_squared: float

    @property
    def buyer_share(self) -> float:
        """The share of the people who bought."""
        return self.num_buyers / self.num_people if self.num_people else 0.0

    @property
    def mean_spend(self) -> float:
        """What a person spent on average, those who did not buy counted."""
        return self.spend / self.num_people if self.num_people else 0.0

    @property
    def spend_variance(self) -> float:
        """The sample variance of what a person spent."""
        if self.num_people < 2:
            return 0.0
        mean = self.mean_spend
        squares = max(0.0, self.spend_squared - self.num_people * mean * mean)
        return squares / (self.num_people - 1)


@dataclass(frozen=True, slots=True)
class Lift:
    """A difference and its 95% interval."""

    value: float
    low: float
    high: float

    def told(self, scale: float = 1, unit: str = "") -> str:
        """As tables show it, times `scale`."""
        value, low, high = (scale * x for x in (self.value, self.low, self.high))
        return f"{value:+.2f}{unit} [{low:+.2f}, {high:+.2f}]"


def wilson(num: int, total: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927); 0 to 1 for nobody."""
    if not total:
        return 0.0, 1.0
    share, extra = num / total, Z * Z / total
    middle = share + extra / 2
    reach = Z * sqrt(share * (1 - share) / total + extra / (4 * total))
    return (middle - reach) / (1 + extra), (middle + reach) / (1 + extra)


def buyer_lift(arm: Outcome, held_out: Outcome) -> Lift:
    """How many more of an arm bought, as a difference of shares.

    Newcombe 1998, method 10: the interval of Wilson's intervals of both.
    """
    ours, theirs = arm.buyer_share, held_out.buyer_share
    low_a, high_a = wilson(arm.num_buyers, arm.num_people)
    low_b, high_b = wilson(held_out.num_buyers, held_out.num_people)
    value = ours - theirs
    below = sqrt((ours - low_a) ** 2 + (high_b - theirs) ** 2)
    above = sqrt((high_a - ours) ** 2 + (theirs - low_b) ** 2)
    return Lift(value, value - below, value + above)


def spend_lift(arm: Outcome, held_out: Outcome) -> Lift:
    """How much more a person of an arm spent (Welch's standard error, normal interval)."""
    value = arm.mean_spend - held_out.mean_spend
    if not arm.num_people or not held_out.num_people:
        return Lift(value, float("-inf"), float("inf"))
    error = sqrt(
        arm.spend_variance / arm.num_people + held_out.spend_variance / held_out.num_people
    )
    return Lift(value, value - Z * error, value + Z * error)
