"""Who was erased, so that they stay out: marks that only the holder of a second key can read.

A mark is the HMAC-SHA-256 of an id, or of a pseudonym, under the tombstone key. The key is a
second one so that it outlives the pseudonym key: that one is rotated, and after it is gone the
marks must still keep a re-import out. And who has the pseudonym key and an old backup still
cannot tell from the marks who has been erased.

The marks of a machine are lines of one file that only grows; the store holds them too, for
other machines. It knows nothing of what is erased where.
"""

import fcntl
import hashlib
import hmac
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from feature_store.durable import flush
from feature_store.errors import FeatureStoreError, SettingsError
from feature_store.ids import MIN_KEY_BYTES, key_from_file

TOMBSTONE_VARIABLE: Final = "AISLE_TOMBSTONE_KEY"
KEY_FILE: Final = "tombstone.key"
ERASED_FOLDER: Final = "erased"
FILE_NAME: Final = "tombstones"
MARK_PREFIX: Final = b"t1/"

_LINE_BYTES: Final = 65

LOOK_S: Final = 0.05


class Marker:
    """Makes marks."""

    def __init__(self, key: bytes) -> None:
        """Raises SettingsError when the key is too short to keep ids secret."""
        if len(key) < MIN_KEY_BYTES:
            raise SettingsError(
                f"the tombstone key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed; "
                f"set {TOMBSTONE_VARIABLE} to 32 random bytes in hex"
            )
        self._key = key

    def of_id(self, raw: str) -> bytes:
        """The 32-byte mark of a raw user or session id."""
        return hmac.digest(self._key, b"id\0" + raw.encode(), "sha256")

    def of_pseudonym(self, pseudonym: bytes) -> bytes:
        """The 32-byte mark of a pseudonym."""
        return hmac.digest(self._key, b"pseudonym\0" + pseudonym, "sha256")

    def audit_id(self, kind: str, raw: str) -> str:
        """The name of the audit record of an erasure: always the same one for a raw id."""
        text = f"audit\0{kind}\0{raw}".encode()
        return hmac.digest(self._key, text, "sha256")[:16].hex()


class Tombstones:
    """The marks that this machine knows of. Threads and processes may share the file.

    What another process adds is seen within LOOK_S.
    """

    def __init__(self, home: Path, key: bytes) -> None:
        """Read what there is. Raises SettingsError for a short key."""
        self.marker = Marker(key)
        self._path = home / ERASED_FOLDER / FILE_NAME
        self._marks: frozenset[bytes] = frozenset()
        self._num_bytes = 0
        self._next_look_s = 0.0

    def __len__(self) -> int:
        """The number of marks."""
        self._refresh()
        return len(self._marks)

    def __contains__(self, mark: bytes) -> bool:
        """Whether a mark is known."""
        self._refresh()
        return mark in self._marks

    def has_id(self, raw: str) -> bool:
        """Whether who has this raw id was erased."""
        self._refresh()
        return bool(self._marks) and self.marker.of_id(raw) in self._marks

    def has_pseudonym(self, pseudonym: bytes) -> bool:
        """Whether who has this pseudonym was erased."""
        self._refresh()
        return bool(self._marks) and self.marker.of_pseudonym(pseudonym) in self._marks

    def add(self, marks: Iterable[bytes]) -> None:
        """Add what is new; it is on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.ftruncate(file.fileno(), file.seek(0, os.SEEK_END) // _LINE_BYTES * _LINE_BYTES)
            self._look_again()
            new = [mark for mark in dict.fromkeys(marks) if mark not in self._marks]
            file.write(b"".join(mark.hex().encode() + b"\n" for mark in new))
            file.flush()
            os.fsync(file.fileno())
        flush(self._path.parent)
        self._look_again()

    def _look_again(self) -> None:
        self._next_look_s = 0.0
        self._refresh()

    def _refresh(self) -> None:
        """Read the file again when it has grown; a line that a crash cut short is no line."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_S
        try:
            num_bytes = self._path.stat().st_size
            if num_bytes == self._num_bytes:
                return
            lines = self._path.read_bytes()
        except FileNotFoundError:
            return
        try:
            whole = lines[: len(lines) // _LINE_BYTES * _LINE_BYTES]
            self._marks = frozenset(bytes.fromhex(line) for line in whole.decode().split())
        except ValueError:
            raise FeatureStoreError(
                f"{self._path} is damaged; without it, who was erased could come back: restore it"
            ) from None
        self._num_bytes = num_bytes


def mark_key(mark: bytes) -> bytes:
    """The store's key for a mark."""
    return MARK_PREFIX + mark


def load_tombstone_key(
    home: Path, pseudonym_key: bytes, environment: Mapping[str, str] = os.environ
) -> bytes:
    """The tombstone key: from the environment, else from a file in `home`, made on first use.

    What is made is derived from the pseudonym key of that day, so that machines that share the
    one share the other; it stays when the pseudonym key is rotated. A machine that joins after
    that needs AISLE_TOMBSTONE_KEY. Raises SettingsError when the variable is not hexadecimal.
    """
    value = environment.get(TOMBSTONE_VARIABLE)
    if value is None:
        derived = hashlib.blake2b(pseudonym_key, digest_size=32, person=b"aisle.tombstone").digest()
        return key_from_file(home / KEY_FILE, derived)
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise SettingsError(f"{TOMBSTONE_VARIABLE} must be hexadecimal digits") from None
