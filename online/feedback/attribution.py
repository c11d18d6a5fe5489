"""The attribution token: what an event sends back to say which answer led to it.

It holds no user, so it may travel through pages, mails and logs. A checksum under a key of
the installation tells our tokens from foreign ones. It is opaque to clients: only this module
knows its layout.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

REQUEST_ID_BYTES: Final = 12
_VERSION: Final = b"\x01"
_MAC_BYTES: Final = 8
_FIXED_BYTES: Final = len(_VERSION) + REQUEST_ID_BYTES + 1


@dataclass(frozen=True, slots=True)
class Attribution:
    """The answer that a token names: its id, where it was shown and the model that made it."""

    request_id: bytes
    placement: str
    model_version: str


class TokenSigner:
    """Makes tokens, and reads those made under the same key."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key, digest_size=32, person=b"aisle.token").digest()

    def sign(self, attribution: Attribution) -> str:
        """The token: URL-safe characters, about 60 of them."""
        placement = attribution.placement.encode()
        payload = b"".join(
            (
                _VERSION,
                attribution.request_id,
                bytes((len(placement),)),
                placement,
                attribution.model_version.encode(),
            )
        )
        return base64.urlsafe_b64encode(payload + self._mac(payload)).rstrip(b"=").decode()

    def read(self, token: str) -> Attribution | None:
        """What the token says; None when it is not one of ours."""
        try:
            signed = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        payload, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
        if not payload.startswith(_VERSION) or not hmac.compare_digest(mac, self._mac(payload)):
            return None
        end = _FIXED_BYTES + payload[_FIXED_BYTES - 1]
        return Attribution(
            request_id=payload[len(_VERSION) : _FIXED_BYTES - 1],
            placement=payload[_FIXED_BYTES:end].decode(),
            model_version=payload[end:].decode(),
        )

    def _mac(self, payload: bytes) -> bytes:
        return hashlib.blake2b(payload, digest_size=_MAC_BYTES, key=self._key).digest()
