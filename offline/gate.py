"""The gate: whether a new bundle may take the place of the champion.

It compares what two rankers earned from the same users on the same held-out period, user by
user, so that what is hard or easy about a user cancels out. Two things are asked of the
candidate on the deciding measure, recall@20 over all purchases:

* Not worse than the champion. Equality cannot be proved, so a margin says what is no loss: the
  95% interval of the paired difference must end above -2% of the champion's mean
  (non-inferiority, Piaggio et al. 2012), and must not lie below 0 altogether.
* Better than popularity: the 95% interval of the paired difference lies above 0.

The other measures are shown beside it and decide nothing. Where there are too few users to
tell, the champion stays. It knows arrays only: not how they were measured, and no registry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from offline.errors import GateError
from offline.metrics import Interval, bootstrap

DECIDING: Final = "recall_at_20_all"
TOLERANCE: Final = 0.02
NO_CHAMPION: Final = "there was no champion"

Values = NDArray[np.float64]


class Judged(Protocol):
    """What one ranker earned: for each measure, shape (users,), NaN where it does not apply."""

    @property
    def users(self) -> Sequence[bytes]:
        """The users' pseudonyms, each once."""
        ...

    @property
    def values(self) -> Mapping[str, Values]:
        """The measures, by name."""
        ...


class Finding(StrEnum):
    """What a paired difference says of the candidate."""

    BETTER = "better"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate against another ranker: that one's mean, and the paired difference."""

    mean: float
    difference: Interval
    finding: Finding

    def __str__(self) -> str:
        return f"{self.finding}, {_signed(self.difference)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: the candidate's mean over the users whom it concerns, and the comparisons.

    No champion: there was none.
    """

    metric: str
    num_users: int
    candidate: float
    champion: Comparison | None
    popularity: Comparison

    @property
    def passed(self) -> bool:
        """Whether the candidate may serve, judged by this measure."""
        allowed = (Finding.BETTER, Finding.NOT_WORSE)
        no_loss = self.champion is None or self.champion.finding in allowed
        return no_loss and self.popularity.finding is Finding.BETTER


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the alias may move, why in one line, and the whole table."""

    passed: bool
    reason: str
    rows: tuple[Row, ...]

    def columns(self) -> dict[str, list[str]]:
        """The table as text, by column; the first row is the one that decides."""
        return {
            "measure": [row.metric for row in self.rows],
            "users": [f"{row.num_users:,}" for row in self.rows],
            "candidate": [f"{row.candidate:.4f}" for row in self.rows],
            "champion": [_mean(row.champion) for row in self.rows],
            "popularity": [_mean(row.popularity) for row in self.rows],
            "against the champion": [str(row.champion or "-") for row in self.rows],
            "against popularity": [str(row.popularity) for row in self.rows],
            "verdict": [self._word if row.metric == DECIDING else "-" for row in self.rows],
        }

    def table(self) -> Table:
        """The same, to be printed: title and caption say the verdict and the number of users."""
        columns = self.columns()
        title = f"The gate: {self._word}"
        table = Table(title=title, caption=self.reason, box=SIMPLE_HEAD, pad_edge=False)
        shown = [name for name in columns if name not in {"users", "verdict"}]
        for name in shown:
            table.add_column(
                name, no_wrap=not name.startswith("against"), min_width=len("popularity")
            )
        for cells in zip(*(columns[name] for name in shown), strict=True):
            table.add_row(*cells)
        return table

    @property
    def _word(self) -> str:
        return "passed" if self.passed else "refused"


def judge(
    candidate: Judged,
    champion: Judged | None,
    popularity: Judged,
    tolerance: float = TOLERANCE,
    without: str = NO_CHAMPION,
) -> Verdict:
    """Compare the candidate with the champion before, None when there is none, and popularity.

    `tolerance` is the share of the champion's mean that counts as no loss, `without` says why
    there is no champion to compare with. The order of users may differ. The same input always
    gives the same verdict. Raises GateError when the rankers were not measured on the same
    users, or nobody was measured.
    """
    if DECIDING not in candidate.values:
        raise GateError(f"the candidate was not judged by {DECIDING}")
    metrics = sorted(candidate.values, key=lambda metric: metric != DECIDING)
    rivals = {"popularity": _aligned(popularity, candidate, "popularity")}
    if champion is not None:
        rivals["champion"] = _aligned(champion, candidate, "the champion")
    rows = tuple(_row(metric, candidate, rivals, tolerance) for metric in metrics)
    if not rows[0].num_users:
        raise GateError("nobody bought anything in the held-out period; choose an earlier cut")
    return Verdict(rows[0].passed, _reason(rows[0], without), rows)


def _aligned(other: Judged, candidate: Judged, name: str) -> dict[str, Values]:
    """The other's measures in the candidate's order of users."""
    position = {user: row for row, user in enumerate(other.users)}
    if len(position) != len(other.users) or position.keys() != set(candidate.users):
        raise GateError(f"{name} was judged on other users than the candidate; replay both on one")
    rows = np.array([position[user] for user in candidate.users], np.int64)
    if missing := candidate.values.keys() - other.values.keys():
        raise GateError(f"{name} was not judged by {', '.join(sorted(missing))}")
    return {metric: other.values[metric][rows] for metric in candidate.values}


def _row(
    metric: str, candidate: Judged, rivals: Mapping[str, Mapping[str, Values]], tolerance: float
) -> Row:
    ours = candidate.values[metric]
    concerned = ~np.isnan(ours)
    theirs = {name: values[metric] for name, values in rivals.items()}
    for name, values in theirs.items():
        if (np.isnan(values) == concerned).any():
            raise GateError(f"{metric} concerns other users of {name} than of the candidate")
    ours, theirs = ours[concerned], {name: values[concerned] for name, values in theirs.items()}
    return Row(
        metric,
        len(ours),
        _average(ours),
        _compare(ours, theirs["champion"], tolerance) if "champion" in theirs else None,
        _compare(ours, theirs["popularity"], 0.0),
    )


def _compare(ours: Values, theirs: Values, tolerance: float) -> Comparison:
    mean, difference = _average(theirs), bootstrap(ours - theirs)
    if difference.low > 0:
        finding = Finding.BETTER
    elif difference.high < 0:
        finding = Finding.WORSE
    elif difference.low >= -tolerance * mean:
        finding = Finding.NOT_WORSE
    else:
        finding = Finding.UNCLEAR
    return Comparison(mean, difference, finding)


def _average(values: Values) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _reason(row: Row, without: str) -> str:
    against = without if row.champion is None else f"champion: {row.champion}"
    return f"{row.metric} of {row.num_users:,} users; {against}; popularity: {row.popularity}"


def _mean(comparison: Comparison | None) -> str:
    return "-" if comparison is None else f"{comparison.mean:.4f}"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
