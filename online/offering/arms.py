"""The arms of an experiment as a rule names them: shares, and what is not as elsewhere.

It knows how arms are written, and neither who is in them nor any items.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

MAX_SHARE: Final = 1e6
MAX_POWER: Final = 3.0
MIN_ARMS: Final = 2
_LIMITS: Final = {
    "share": (0.0, MAX_SHARE),
    "diversity": (0.0, 1.0),
    "explore_share": (0.0, 1.0),
    **dict.fromkeys(("margin", "price", "freshness"), (-MAX_POWER, MAX_POWER)),
}


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm: its share relative to the others, and what is not as elsewhere, None: as elsewhere.

    `diversity` and `explore_share` are a placement's, from 0 to 1; `margin`, `price` and
    `freshness` the powers of an objective in place of the shop's: 0 for all is none.
    """

    name: str
    share: float = 1.0
    diversity: float | None = None
    explore_share: float | None = None
    margin: float | None = None
    price: float | None = None
    freshness: float | None = None

    @property
    def powers(self) -> tuple[float, float, float] | None:
        """Of margin, price and freshness; None where the objective is that of the shop."""
        powers = (self.margin, self.price, self.freshness)
        if powers == (None, None, None):
            return None
        margin, price, freshness = (power or 0.0 for power in powers)
        return margin, price, freshness

    def plain(self) -> dict[str, Any]:
        """The arm as it is written."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_arms(value: Any) -> tuple[Arm, ...]:
    """The arms of a list of tables. Raises TypeError or ValueError, which say what to do."""
    if not isinstance(value, list):
        raise TypeError("`arms` should be a list of tables: [{ name = 'usual' }, ...]")
    arms = tuple(map(_arm, value))
    names = [arm.name for arm in arms]
    if len(arms) < MIN_ARMS:
        raise ValueError("an experiment needs two `arms` at least, one of them as things are now")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two arms are called {twice[0]}; give each a name of its own")
    if not sum(arm.share for arm in arms):
        raise ValueError("the `share` of all arms is 0, so nobody would be in one")
    return arms


def _arm(row: Any) -> Arm:
    if not isinstance(row, Mapping):
        raise TypeError(f"arm {row!r} should be a table: {{ name = 'usual' }}")
    name = row.get("name")
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError("each arm needs a `name` without `/`")
    if unknown := sorted(set(row) - {"name", *_LIMITS}):
        known = ", ".join(_LIMITS)
        raise ValueError(f"arm {name}: `{unknown[0]}` is nothing that arms differ in: {known}")
    for key, (low, high) in _LIMITS.items():
        number = row.get(key, low)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"arm {name}: `{key}` should be a number, not {number!r}")
        if not low <= number <= high:
            raise ValueError(f"arm {name}: `{key}` should lie between {low:g} and {high:g}")
    return Arm(name, **{key: float(row[key]) for key in _LIMITS if key in row})
