"""What an ingestion counted: nothing that was read may be missing here.

Plain values and their JSON form; how they look on a terminal is `offline.ingest.report`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from offline.errors import BalanceError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TableCount:
    """The rows of one table. `num_new` of those accepted were not stored before.

    `num_users` and `num_items` are distinct ones among valid rows, exact up to 65,536 and
    within about 1% above; None when the table has no such column. `first_time` and
    `last_time` are microseconds UTC, None for tables other than events.
    """

    table: str
    num_read: int
    num_accepted: int
    num_duplicates: int
    quarantined: Mapping[str, int]
    num_new: int
    num_stored: int
    num_users: int | None = None
    num_items: int | None = None
    first_time: int | None = None
    last_time: int | None = None

    def __post_init__(self) -> None:
        """Raises BalanceError when a row is missing or counted twice."""
        counted = self.num_accepted + self.num_quarantined + self.num_duplicates
        if self.num_read != counted:
            raise BalanceError(
                f"{self.table}: {self.num_read} rows read, but {counted} accounted for; "
                "nothing was stored; please report this"
            )

    @property
    def num_quarantined(self) -> int:
        """The rows that broke the schema."""
        return sum(self.quarantined.values())

    @property
    def quarantined_share(self) -> float:
        """The share of rows that broke the schema, from 0 to 1."""
        return self.num_quarantined / self.num_read


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of all tables of one ingestion, and the share of bad rows it was allowed."""

    tables: tuple[TableCount, ...]
    max_quarantined: float

    @property
    def over_limit(self) -> tuple[TableCount, ...]:
        """The tables with too many bad rows; when there is one, nothing is stored."""
        return tuple(t for t in self.tables if t.quarantined_share > self.max_quarantined)

    def table(self, name: str) -> TableCount:
        """The counts of one table; KeyError if it was not ingested."""
        for count in self.tables:
            if count.table == name:
                return count
        raise KeyError(name)

    def json(self) -> str:
        """As JSON that is the same when the same input is ingested again."""
        stored = not self.over_limit
        document = {
            "stored": stored,
            "max_quarantined": self.max_quarantined,
            "tables": {count.table: _document(count, stored) for count in self.tables},
        }
        return json.dumps(document, indent=2) + "\n"


def time_text(time: int) -> str:
    """An instant in microseconds UTC as ISO 8601."""
    return (_EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")


def _document(count: TableCount, stored: bool) -> dict[str, object]:
    times = {"first_time": count.first_time, "last_time": count.last_time}
    document: dict[str, object] = {
        "num_read": count.num_read,
        "num_accepted": count.num_accepted,
        "num_duplicates": count.num_duplicates,
        "num_quarantined": count.num_quarantined,
        "quarantined": dict(sorted(count.quarantined.items())),
        "num_stored": count.num_stored if stored else None,
        "num_users": count.num_users,
        "num_items": count.num_items,
        **{name: None if time is None else time_text(time) for name, time in times.items()},
    }
    return {name: value for name, value in document.items() if value is not None}
