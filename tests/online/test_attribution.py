"""Attribution tokens: read by who has the key, and by nobody else."""

import pytest

from online.feedback.attribution import Attribution, TokenSigner
from tests.worlds import KEY

SHOWN = Attribution(b"0123456789ab", "home", "00112233aabbccdd")


def test_a_token_says_what_was_shown() -> None:
    token = TokenSigner(KEY).sign(SHOWN)
    assert TokenSigner(KEY).read(token) == SHOWN
    assert len(token) < 80
    assert token.replace("-", "").replace("_", "").isalnum()


def test_another_key_reads_nothing() -> None:
    token = TokenSigner(KEY).sign(SHOWN)
    assert TokenSigner(KEY[::-1]).read(token) is None


@pytest.mark.parametrize("position", range(0, 56, 5))
def test_a_changed_token_is_not_ours(position: int) -> None:
    signer = TokenSigner(KEY)
    token = signer.sign(SHOWN)
    other = "A" if token[position] != "A" else "B"
    assert signer.read(token[:position] + other + token[position + 1 :]) is None


@pytest.mark.parametrize("token", ["", "x", "====", "ÄÖÜ", "a b", "A" * 1_000])
def test_what_is_no_token_is_not_ours(token: str) -> None:
    assert TokenSigner(KEY).read(token) is None
