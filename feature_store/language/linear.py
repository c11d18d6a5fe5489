"""A linear model over hashed n-grams and, where there is one, a vector: probabilities of classes.

Learned offline by any method that ends in weights; applied here alike for judging and for serving.
It knows no class and no text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle, BundleWriter
from feature_store.language.grams import Hashes

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Weights of columns by their hash (ascending), of a vector's entries, and of the classes.

    `columns` has shape (columns, classes), `entries` shape (dimension, classes), where dimension is
    0 for a model without a vector, `bias` shape (classes,). A text's columns weigh 1 / sqrt(number
    of them that the model knows).
    """

    hashes: Hashes
    columns: Floats
    entries: Floats
    bias: Floats

    def logits(self, hashes: Hashes, vector: Floats | None = None) -> Floats:
        """What each class is worth for a text's columns and its vector, shape (classes,)."""
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        place = place[self.hashes[place] == hashes]
        logits = self.bias.copy()
        if len(place):
            logits += self.columns[place].sum(0) / np.float32(np.sqrt(len(place)))
        if vector is not None and len(self.entries):
            logits += vector @ self.entries
        return logits

    def probabilities(self, hashes: Hashes, vector: Floats | None = None) -> Floats:
        """How likely each class is, shape (classes,)."""
        return softmax(self.logits(hashes, vector))

    def write(self, writer: BundleWriter, name: str) -> None:
        """Put the arrays under a name."""
        for part in ("hashes", "columns", "entries", "bias"):
            writer.array(f"{name}/{part}", getattr(self, part))


def softmax(logits: Floats) -> Floats:
    """Probabilities of classes from what each is worth, of the same shape (classes,)."""
    raised = np.exp(logits - logits.max())
    likely: Floats = raised / raised.sum()
    return likely


def open_linear(bundle: Bundle, name: str) -> LinearModel:
    """The model that was written under a name."""
    return LinearModel(
        *(bundle.array(f"{name}/{p}") for p in ("hashes", "columns", "entries", "bias"))
    )
