"""The name whose meaning is nearest to words that are no name: by the sentence encoder's vectors.

Vectors are kept in the directions in which names differ most, which are far fewer than the
encoder's own. It knows no text and no encoder.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle, BundleWriter

Floats = NDArray[np.float32]

NUM_DIRECTIONS: Final = 128


@dataclass(frozen=True, slots=True)
class Nearest:
    """`vectors` of length 1, shape (names, directions), and the caller's number of each.

    `directions` has shape (dimension, directions).
    """

    directions: Floats
    vectors: Floats
    numbers: NDArray[np.int32]

    @classmethod
    def of(cls, vectors: Floats, numbers: NDArray[np.int32]) -> Self:
        """From the encoder's vectors, shape (names, dimension)."""
        size = min(NUM_DIRECTIONS, vectors.shape[1])
        if not len(vectors):
            return cls(np.zeros((vectors.shape[1], size), np.float32), _NONE[:, :size], numbers)
        _, directions = np.linalg.eigh(vectors.T @ vectors)
        kept = np.ascontiguousarray(directions[:, ::-1][:, :size])
        return cls(kept, _unit(vectors @ kept), numbers)

    def find(self, vector: Floats) -> tuple[int, float] | None:
        """The number of the nearest name and the cosine; None where there are no names."""
        if not len(self.numbers):
            return None
        likeness = self.vectors @ _unit(vector[None] @ self.directions)[0]
        place = int(likeness.argmax())
        return int(self.numbers[place]), float(likeness[place])

    def write(self, writer: BundleWriter, folder: str) -> None:
        """Write what `open_nearest` reads."""
        for name in _PARTS:
            writer.array(f"{folder}/{name}", getattr(self, name))


_NONE: Final = np.zeros((0, NUM_DIRECTIONS), np.float32)
_PARTS: Final = ("directions", "vectors", "numbers")


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return found


def open_nearest(bundle: Bundle, folder: str) -> Nearest:
    """The names of a folder of a bundle."""
    return Nearest(*(bundle.array(f"{folder}/{name}") for name in _PARTS))
