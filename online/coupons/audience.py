"""Audiences: expressions over what is known of a user, evaluated for all coupons at once.

An audience is written in the filter language over traits, `field=value` pairs of the user:
`campaign = 18`, `age = "45-54" OR segment = loyal`, `region != north`. Most audiences are one
comparison, and those of a thousand coupons are a few look-ups. It knows the language and traits,
and nothing of coupons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online.errors import RequestError, SnapshotError
from online.offering.expression import AllOf, Expression, Not, Restriction, parse
from online.types import Mask

Traits = frozenset[str]
"""What is known of a user, each as `field=value`."""

OPERATORS = ("=", "!=", ":")


@dataclass(frozen=True, slots=True)
class Audiences:
    """Distinct audiences, compiled: number 0 is everybody.

    `by_trait` are the audiences that one trait alone lets in; `compound` the others.
    """

    texts: tuple[str, ...]
    by_trait: dict[str, list[int]]
    compound: tuple[tuple[int, Expression], ...]

    def holding(self, traits: Traits) -> Mask:
        """Which audiences a user with these traits is in, shape (audiences,)."""
        mask = np.zeros(len(self.texts), bool)
        mask[[0, *(number for trait in traits for number in self.by_trait.get(trait, ()))]] = True
        for number, expression in self.compound:
            mask[number] = _is_true(expression, traits)
        return mask


def compile_audiences(texts: Sequence[str]) -> Audiences:
    """The audiences of these texts, whose first must be "", everybody.

    Raises SnapshotError for a text that is no expression of the language.
    """
    by_trait: dict[str, list[int]] = {}
    compound = []
    for number, text in enumerate(texts[1:], start=1):
        expression = _parsed(text)
        if isinstance(expression, Restriction) and expression.operator == "=":
            by_trait.setdefault(_trait(expression), []).append(number)
        else:
            compound.append((number, expression))
    return Audiences(tuple(texts), by_trait, tuple(compound))


def _parsed(text: str) -> Expression:
    try:
        expression = parse(text)
    except RequestError as error:
        raise SnapshotError(f"the audience `{text}` cannot be read: {error.description}") from None
    for one in _restrictions(expression):
        if one.operator not in OPERATORS:
            raise SnapshotError(
                f"the audience `{text}` compares `{one.field}` by {one.operator}; "
                f"use one of {' '.join(OPERATORS)}"
            )
    return expression


def _restrictions(expression: Expression) -> list[Restriction]:
    if isinstance(expression, Restriction):
        return [expression]
    parts = (expression.part,) if isinstance(expression, Not) else expression.parts
    return [one for part in parts for one in _restrictions(part)]


def _is_true(expression: Expression, traits: Traits) -> bool:
    if isinstance(expression, Restriction):
        return _restricted(expression, traits)
    if isinstance(expression, Not):
        return not _is_true(expression.part, traits)
    found = (_is_true(part, traits) for part in expression.parts)
    return all(found) if isinstance(expression, AllOf) else any(found)


def _restricted(one: Restriction, traits: Traits) -> bool:
    """`=` and `:` hold if the user has the trait; `field:*` if any value of the field is known."""
    if one.operator == ":" and one.value == "*" and not one.is_quoted:
        return any(trait.startswith(f"{one.field}=") for trait in traits)
    return (_trait(one) in traits) != (one.operator == "!=")


def _trait(one: Restriction) -> str:
    return f"{one.field}={one.value}"
