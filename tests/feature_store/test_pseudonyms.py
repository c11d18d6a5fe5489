"""Pseudonyms are HMAC-SHA-256, however they are made."""

import hmac

import pytest

from feature_store.errors import SettingsError
from feature_store.ids import Pseudonymizer


@pytest.mark.parametrize("num_bytes", [16, 32, 64, 65, 100])
@pytest.mark.parametrize("raw", ["", "tina", "客户" * 50])
def test_a_pseudonym_is_that_of_the_standard_library(num_bytes: int, raw: str) -> None:
    key = bytes(range(num_bytes))
    made = Pseudonymizer(key)
    wanted = hmac.digest(key, raw.encode(), "sha256")
    assert made.digest(raw) == made.digest(raw) == wanted
    assert made.hexdigest(raw) == wanted.hex()


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="15 bytes"):
        Pseudonymizer(bytes(15))
