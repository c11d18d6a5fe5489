"""The record of an erasure: proof for who asks for an id, and nothing for anybody else.

Its name is a keyed hash of the id, so only who has the key and the id finds it. It holds counts
and instants, and no personal data. It knows files, and nothing of what is erased.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from feature_store.durable import replace_file
from feature_store.tombstones import ERASED_FOLDER

AUDIT_FOLDER: Final = "audit"
ERASED: Final = "erased"
SCHEDULED: Final = "scheduled"
ONLINE_STORE: Final = "online_store"
EVENT_SPOOL: Final = "event_spool"
LEDGER: Final = "ledger"
OFFLINE_PLACES: Final = ("store_files", "event_log", "exposures", "quarantine", "users", "exports")
"""What the offline job goes through."""


@dataclass(slots=True)
class Place:
    """One place: how many records were found there, and whether it is done or `scheduled`."""

    num_records: int = 0
    state: str = SCHEDULED


@dataclass(slots=True)
class Audit:
    """The record of one erasure, instants in microseconds UTC; no `complete_time` yet: None."""

    audit_id: str
    erase_time: int
    places: dict[str, Place] = field(default_factory=dict)
    complete_time: int | None = None

    @staticmethod
    def path(home: Path, audit_id: str) -> Path:
        """Where the record lies."""
        return home / ERASED_FOLDER / AUDIT_FOLDER / f"{audit_id}.json"

    @staticmethod
    def read(path: Path) -> "Audit":
        """The record in a file."""
        values = json.loads(path.read_bytes())
        places = {name: Place(**place) for name, place in values.pop("places").items()}
        return Audit(**values, places=places)

    def write(self, home: Path) -> None:
        """Put it on the disk, whole."""
        content = json.dumps(asdict(self), indent=2).encode() + b"\n"
        replace_file(self.path(home, self.audit_id), content)

    def found(self, name: str, num_records: int, state: str) -> None:
        """Note what was found in a place, beside what an earlier attempt found."""
        place = self.places.setdefault(name, Place())
        place.num_records += num_records
        place.state = state
