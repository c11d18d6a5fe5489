"""Identity: users become keyed pseudonyms, items become 64-bit keys.

A user id is personal data, so nothing behind the edge ever holds it: the edge and
ingestion replace it by its HMAC-SHA-256 under a key that only they know. An item id is
public, but strings are slow: stored state names an item by a 64-bit hash of its id, which
stays the same from bundle to bundle, while a bundle's own arrays use a dense index.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from feature_store.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY_VARIABLE: Final = "AISLE_PSEUDONYM_KEY"
FORMER_KEY_VARIABLE: Final = "AISLE_PSEUDONYM_KEY_PREVIOUS"
KEY_FILE: Final = "pseudonym.key"
MIN_KEY_BYTES: Final = 16
_BLOCK_BYTES: Final = 64
"""Of SHA-256."""


class Pseudonymizer:
    """Turns a raw user or session id into its pseudonym, HMAC-SHA-256 (RFC 2104)."""

    def __init__(self, key: bytes) -> None:
        """Raises SettingsError when the key is too short to keep ids secret."""
        if len(key) < MIN_KEY_BYTES:
            raise SettingsError(
                f"the pseudonym key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed; "
                f"set {KEY_VARIABLE} to 32 random bytes in hex"
            )
        block = (key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(
            _BLOCK_BYTES, b"\0"
        )
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, raw: str) -> bytes:
        """The 32-byte pseudonym of a raw id: `hmac.digest`, with the key taken in once."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(raw.encode())
        outer.update(inner.digest())
        return outer.digest()

    def hexdigest(self, raw: str) -> str:
        """The pseudonym as 64 lowercase hexadecimal digits, as tables hold it."""
        return self.digest(raw).hex()


def load_key(home: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """The pseudonym key: from the environment, else from a file in `home`, made on first use.

    Every process of one installation must see the same key: several machines share it
    through AISLE_PSEUDONYM_KEY. Raises SettingsError when the variable is not hexadecimal.
    """
    value = environment.get(KEY_VARIABLE)
    if value is None:
        return key_from_file(home / KEY_FILE, secrets.token_bytes(32))
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise SettingsError(f"{KEY_VARIABLE} must be hexadecimal digits, e.g. 64 of them") from None


def load_former_key(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """The pseudonym key before, while it is rotated; None when it is not.

    Raises SettingsError when the variable is not hexadecimal.
    """
    value = environment.get(FORMER_KEY_VARIABLE)
    try:
        return bytes.fromhex(value) if value else None
    except ValueError:
        raise SettingsError(f"{FORMER_KEY_VARIABLE} must be hexadecimal digits") from None


def key_from_file(path: Path, first: bytes) -> bytes:
    """Read a key; where there is none, make it `first`, atomically and for its owner alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(first.hex())
        draft.chmod(0o600)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first: its key is the key
        finally:
            draft.unlink()
    return bytes.fromhex(path.read_text().strip())


def hash64(text: str) -> int:
    """The 64-bit key of an id: the first eight bytes of its BLAKE2b, little endian."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def hash64_many(texts: Iterable[str]) -> "NDArray[np.uint64]":
    """The keys of many ids, shape (n,)."""
    import numpy as np  # here, so that the supervisor of the serving processes stays small

    blake2b = hashlib.blake2b
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, "<u8").astype(np.uint64)
