"""The embedded encoder: one space for both languages, the same vectors however it is asked."""

import numpy as np
import pytest

from feature_store.errors import EncoderError
from feature_store.language import encoder as module
from feature_store.language.encoder import EmbeddedEncoder, embedded_encoder

PAIRS = (
    ("how long does opened milk keep", "开封的牛奶能放多久"),
    ("soup with noodles and chicken", "鸡汤面"),
    ("my parcel has not arrived", "我的包裹还没到"),
)


def test_what_means_the_same_lies_close_in_both_languages() -> None:
    english, chinese = (embedded_encoder().encode(texts) for texts in zip(*PAIRS, strict=True))
    assert np.linalg.norm(english, axis=1) == pytest.approx(1.0, abs=1e-4)
    likeness = english @ chinese.T
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2]
    assert likeness.argmax(axis=0).tolist() == [0, 1, 2]


def test_a_text_has_the_same_vector_alone_and_among_others() -> None:
    texts = [text for pair in PAIRS for text in pair]
    together = embedded_encoder().encode(texts)
    alone = np.concatenate([embedded_encoder().encode([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)
    assert together.dtype == np.float32


def test_nothing_to_encode_is_no_error() -> None:
    assert embedded_encoder().encode([]).shape == (0, embedded_encoder().dimension)
    assert embedded_encoder().encode(["", "牛奶" * 10_000]).shape == (2, 512)


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._RESOURCES, "sp.model", "0" * 64)
    with pytest.raises(EncoderError, match=r"encoder==0\.2\.1"):
        EmbeddedEncoder().encode(["milk"])
