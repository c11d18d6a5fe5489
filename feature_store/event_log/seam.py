"""What a worker needs of its event log, whatever keeps it: a file of its own or a server."""

from collections.abc import Sequence
from typing import Protocol

from feature_store.event_log.log import ErasedRows, LoggedEvent, LoggedMerge, Outcome
from feature_store.events import Event, Exposure, Merge


class WorkerLog(Protocol):
    """The log of one worker, see `EventLog` for what each method promises.

    Every method raises EventLogError; nothing of that call was accepted for sure then.
    """

    @property
    def last_sequence(self) -> int:
        """The place of the newest event that was appended here or marked as applied."""

    def append(self, events: Sequence[Event], received_time: int) -> list[Outcome]:
        """Keep the events that are new; when this returns, they are durable."""

    def append_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Keep what was shown, durably; a token that is there already changes nothing."""

    def append_merge(self, merge: Merge) -> int:
        """Keep who became whom, durably; its place."""

    def drop_merge(self, sequence: int) -> None:
        """Delete a merge that turned out to be impossible."""

    def quarantine(self, refused: Sequence[tuple[Event, str]], received_time: int) -> None:
        """Set refused events aside, durably, each with its reason."""

    def unapplied(self) -> list[LoggedEvent]:
        """The first events that the online store may lack."""

    def unapplied_merges(self) -> list[LoggedMerge]:
        """The first merges that the online store may lack."""

    def mark_applied(self, sequence: int) -> None:
        """Note that the online store reflects all events up to this place."""

    def mark_merged(self, sequence: int) -> None:
        """Note that the online store reflects all merges up to this place."""

    def erase(self, *pseudonyms: str) -> ErasedRows:
        """Delete all that names these users and sessions."""

    def close(self) -> None:
        """Let go of files and connections; twice does no harm."""
