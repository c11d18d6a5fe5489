"""The shop's rules: what it boosts, buries, pins, caps, blocks and is after, where and when.

Read from plain values (`rules.json` of a bundle, or the file that training is given) and
refused as a whole when anything in them is wrong. It knows how rules are written, and no items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

from online.errors import RequestError, RuleError
from online.offering.arms import Arm, read_arms
from online.offering.expression import parse

RULES_FILE: Final = "rules.json"
MAX_FACTOR: Final = 100.0
MAX_SLOT: Final = 200
MAX_EXPONENT: Final = 3.0
FOREVER: Final = 2**62


class Action(StrEnum):
    """What a rule does to its items."""

    BOOST = "boost"
    BURY = "bury"
    PIN = "pin"
    CAP = "cap"
    BLOCK = "block"
    OBJECTIVE = "objective"
    EXPERIMENT = "experiment"


class Group(StrEnum):
    """By what a cap counts."""

    BRAND = "brand"
    CATEGORY = "category"
    DEPARTMENT = "department"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It holds on `placements` (none: all) from `start_time` until `end_time`.

    It concerns `items` and what `filter` is true for; a cap without either concerns all items.
    `factor` belongs to boost and bury, `slot` (1 is the first) to pin, `by` and `count` to cap,
    `margin`, `price` and `freshness` to an objective, which concerns all items: a score is
    multiplied by each of the three to the power given here. `arms` belong to an experiment.
    Instants are microseconds UTC.
    """

    name: str
    action: Action
    placements: tuple[str, ...] = ()
    start_time: int = -FOREVER
    end_time: int = FOREVER
    items: tuple[str, ...] = ()
    filter: str = ""
    factor: float = 1.0
    slot: int = 0
    by: Group = Group.BRAND
    count: int = 0
    margin: float = 0.0
    price: float = 0.0
    freshness: float = 0.0
    arms: tuple[Arm, ...] = ()

    def holds(self, placement: str, time: int) -> bool:
        """Whether it is in force there and then."""
        is_there = not self.placements or placement in self.placements
        return is_there and self.start_time <= time < self.end_time


_USUAL: Final = frozenset({"name", "action", "placements", "start_time", "end_time"})
_WHICH: Final = frozenset({"items", "filter"})
_EXPONENTS: Final = frozenset({"margin", "price", "freshness"})
_KEYS: Final = {
    Action.BOOST: _USUAL | _WHICH | {"factor"},
    Action.BURY: _USUAL | _WHICH | {"factor"},
    Action.PIN: _USUAL | {"items", "slot"},
    Action.CAP: _USUAL | _WHICH | {"by", "count"},
    Action.BLOCK: _USUAL | _WHICH,
    Action.OBJECTIVE: _USUAL | _EXPONENTS,
    Action.EXPERIMENT: _USUAL | {"arms"},
}


def read_rules(value: Any, placements: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of `{"rules": [...]}`, one object a rule; `placements` are those that there are.

    Raises RuleError, which names the rule and what to do.
    """
    rows = value.get("rules") if isinstance(value, Mapping) else None
    if not isinstance(rows, list) or set(value) != {"rules"}:
        raise RuleError("the file must hold a list called `rules` and nothing else")
    rules = tuple(_rule(number, row, placements) for number, row in enumerate(rows, 1))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RuleError(f"two rules are called `{twice}`; give each a name of its own")
    _check_experiments([rule for rule in rules if rule.action is Action.EXPERIMENT], placements)
    return rules


def _check_experiments(rules: Sequence[Rule], placements: Sequence[str]) -> None:
    """Who asks is in one experiment at a time, so that each is told apart from the others."""
    for first, second in combinations(rules, 2):
        there = set(first.placements or placements) & set(second.placements or placements)
        later = max(first.start_time, second.start_time)
        if there and first.holds(min(there), later) and second.holds(min(there), later):
            raise RuleError(
                f"rules `{first.name}` and `{second.name}` are experiments on {min(there)} at the "
                "same time; end one before the other, or name other `placements`"
            )


def write_rules(rules: Sequence[Rule]) -> dict[str, Any]:
    """What `read_rules` reads, as plain values for JSON."""
    return {"rules": [_plain(rule) for rule in rules]}


def _rule(number: int, row: Any, placements: Sequence[str]) -> Rule:
    if not isinstance(row, Mapping):
        raise RuleError(f"rule {number} is no table")
    name = str(row.get("name", f"rule {number}"))
    try:
        action = Action(str(row.get("action")))
        if unknown := sorted(set(row) - _KEYS[action]):
            raise ValueError(f"`{unknown[0]}` means nothing to `{action.value}`; leave it out")
        rule = Rule(name=name, action=action, **_values(row))
        _check(rule, placements)
    except (TypeError, ValueError, RequestError) as error:
        raise RuleError(f"rule `{name}`: {error}") from error
    return rule


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are given, as a Rule has them."""
    values = {key: _READ[key](row[key]) for key in row if key in _READ}
    if row["action"] == Action.BURY and "factor" in values:
        values["factor"] = 1.0 / values["factor"]
    return values


def _check(rule: Rule, placements: Sequence[str]) -> None:
    if missing := [name for name in rule.placements if name not in placements]:
        raise ValueError(f"there is no placement {missing[0]}, use of: {', '.join(placements)}")
    if rule.start_time >= rule.end_time:
        raise ValueError("it ends before it starts")
    if rule.action is Action.OBJECTIVE and not (rule.margin or rule.price or rule.freshness):
        raise ValueError("an objective needs a power of `margin`, `price` or `freshness`")
    if rule.action is Action.EXPERIMENT and not rule.arms:
        raise ValueError("an experiment needs `arms`, one of them as things are now")
    if rule.action is Action.EXPERIMENT and "/" in rule.name:
        raise ValueError("an experiment needs a `name` without `/`, which parts it from its arms")
    concerns_all = rule.action in (Action.CAP, Action.OBJECTIVE, Action.EXPERIMENT)
    if not (rule.items or rule.filter or concerns_all):
        raise ValueError("it needs `items` or a `filter` that say which")
    parse(rule.filter)
    if rule.action in (Action.BOOST, Action.BURY) and rule.factor == 1.0:
        raise ValueError("it needs a `factor` above 1")
    if rule.action is Action.PIN and (rule.slot == 0 or len(rule.items) != 1):
        raise ValueError("a pin needs a `slot`, 1 being the first, and exactly one item")
    if rule.action is Action.CAP and rule.count == 0:
        raise ValueError("a cap needs a `count`, 1 at least")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} should be text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of texts")
    return tuple(_text(one) for one in value)


def _instant(value: Any) -> int:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise TypeError(f"{value} should be an instant with a time zone: 2026-12-01T00:00:00Z")
    return int(moment.timestamp() * 1_000_000)


def _within(low: float, high: float, *, is_whole: bool) -> Any:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
            raise TypeError(f"{value!r} should be a number")
        if not low <= value <= high:
            raise ValueError(f"{value} should lie between {low:g} and {high:g}")
        return value

    return read


_READ: Final[dict[str, Any]] = {
    "placements": _texts,
    "start_time": _instant,
    "end_time": _instant,
    "items": _texts,
    "filter": _text,
    "factor": _within(1.0, MAX_FACTOR, is_whole=False),
    "slot": _within(1, MAX_SLOT, is_whole=True),
    "by": Group,
    "arms": read_arms,
    "count": _within(1, MAX_SLOT, is_whole=True),
    **dict.fromkeys(_EXPONENTS, _within(-MAX_EXPONENT, MAX_EXPONENT, is_whole=False)),
}


def _plain(rule: Rule) -> dict[str, Any]:
    keys = _KEYS[rule.action]
    row: dict[str, Any] = {"name": rule.name, "action": rule.action.value}
    for key in ("placements", "items"):
        if key in keys:
            row[key] = list(getattr(rule, key))
    for key, never in (("start_time", -FOREVER), ("end_time", FOREVER)):
        if (time := getattr(rule, key)) != never:
            row[key] = datetime.fromtimestamp(time / 1_000_000, UTC).isoformat()
    for key in keys & ({"filter", "slot", "count"} | _EXPONENTS):
        row[key] = getattr(rule, key)
    if "factor" in keys:
        row["factor"] = 1 / rule.factor if rule.action is Action.BURY else rule.factor
    if "by" in keys:
        row["by"] = rule.by.value
    if "arms" in keys:
        row["arms"] = [arm.plain() for arm in rule.arms]
    return row
