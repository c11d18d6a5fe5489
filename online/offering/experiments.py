"""Experiments in force: who is in which arm, and what the arm makes of placement and offer.

Who asks is always in the same arm, by a hash of the user, else of the visit; nobody is in none. It
knows rules, placements and offers, and nothing of what was shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from feature_store.assignment import assign
from online.offering.arms import Arm
from online.offering.attributes import Attributes
from online.offering.objective import objective_of
from online.offering.offer import Objective, Offer
from online.offering.rules import Action, Rule
from online.placements import Placement
from online.types import Request


@dataclass(frozen=True, slots=True, eq=False)
class Treatment:
    """An arm as it is applied; `objective` is its own, None for none."""

    label: str
    arm: Arm
    objective: Objective | None = None

    def placement(self, row: Placement) -> Placement:
        """The placement as it is in this arm."""
        arm = self.arm
        return replace(
            row,
            diversity=row.diversity if arm.diversity is None else arm.diversity,
            explore_share=row.explore_share if arm.explore_share is None else arm.explore_share,
        )

    def offer(self, offer: Offer) -> Offer:
        """The offer as it is in this arm."""
        return offer if self.arm.powers is None else replace(offer, objective=self.objective)


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """A rule with arms, and what each of its arms does."""

    rule: Rule
    treatments: tuple[Treatment, ...]

    def treatment_of(self, request: Request) -> Treatment | None:
        """The arm of who asks; None where it does not hold, and for nobody."""
        person = request.user or request.session
        if not person or not self.rule.holds(request.placement, request.request_time):
            return None
        shares = [one.arm.share for one in self.treatments]
        return self.treatments[assign(self.rule.name, shares, [person.hex()])[0]]


def compile_experiments(
    rules: Sequence[Rule], attributes: Attributes, shown: Attributes
) -> tuple[Experiment, ...]:
    """The experiments among the rules; `shown` has the bundle's room."""

    def treatment(rule: Rule, arm: Arm) -> Treatment:
        label, powers = f"{rule.name}/{arm.name}", arm.powers
        if powers is None or not any(powers):
            return Treatment(label, arm)
        return Treatment(label, arm, objective_of(attributes, shown.created_time, label, *powers))

    return tuple(
        Experiment(rule, tuple(treatment(rule, arm) for arm in rule.arms))
        for rule in rules
        if rule.action is Action.EXPERIMENT
    )


def treatment_of(experiments: Sequence[Experiment], request: Request) -> Treatment | None:
    """The arm that who asks is in here and now; None for none, and where no part is taken."""
    if not experiments or not request.takes_part:
        return None
    found = (one.treatment_of(request) for one in experiments)
    return next((one for one in found if one is not None), None)
