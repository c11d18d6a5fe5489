"""What a catalogue's log can do, whoever keeps it: a file of this machine, or a shared store."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from feature_store.catalog_log.changes import Change, LoggedChange, Outcome
from feature_store.store import OnlineStore

FOLDER: Final = "catalog"
"""Where the log of this machine lies, below the home."""


class CatalogLog(Protocol):
    """The newest state of every product that was changed. Threads and processes may share it.

    Any method raises CatalogLogError, or a StoreError, when the log cannot be read or written;
    nothing of that call was accepted then.
    """

    @property
    def version(self) -> int:
        """A number that grows with every change. Looked at for each request: no system call."""

    @property
    def settle_s(self) -> float:
        """After which time, in seconds, every other process has seen a change's version."""

    def append(
        self, changes: Sequence[Change], change_time: int, is_known: Callable[[str], bool], /
    ) -> list[Outcome]:
        """Keep changes, all or none; when this returns, they outlive the machine's stop.

        One outcome each, as if one came after the other. `change_time` is in microseconds UTC,
        `is_known` says whether the bundle that serves has a product.
        """

    def since(self, sequence: int, /) -> list[LoggedChange]:
        """What was changed after a place, by sequence."""

    def read(self, taken_in: int = 0, /) -> list[LoggedChange]:
        """What a bundle may lack that has taken in all changes up to a place, by sequence.

        That is what was changed since, and what is new whenever that was: training leaves out what
        nobody has bought yet.
        """

    def trim(self, up_to_sequence: int, before_time: int, is_held: Callable[[str], bool], /) -> int:
        """Delete what a bundle has taken in, up to a place: what is deleted and what it holds.

        Only what was changed last before an instant (microseconds UTC), so that an older bundle
        can serve again until then. Returns how many rows.
        """

    def close(self) -> None:
        """Let go of files; twice does no harm."""


def open_catalog_log(home: Path, store: OnlineStore, *, is_shared: bool) -> CatalogLog:
    """The log of an installation: in its home, or in a store that several machines share.

    Raises CatalogLogError when it cannot be opened.
    """
    if is_shared:
        from feature_store.catalog_log.shared import SharedLog

        return SharedLog(store)
    from feature_store.catalog_log.embedded import EmbeddedLog

    return EmbeddedLog(home / FOLDER)
