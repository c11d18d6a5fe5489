"""Learn what shoppers want: the intents of utterances, or the classes of any short texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.language.encoder import TextEncoder
from feature_store.language.linear import LinearModel
from feature_store.language.reading import Read, Reader
from feature_store.language.views import Spans, intent_columns
from offline.chat.fitting import Fitting, fit_linear

FITTING: Final = Fitting(inverse_penalty=10.0)


@dataclass(frozen=True, slots=True)
class Classifier:
    """A fitted model with what it needs to look at a text."""

    classes: tuple[str, ...]
    model: LinearModel
    reader: Reader
    encoder: TextEncoder

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest class of each text."""
        reads = [self.reader.read(text) for text in texts]
        vectors = self.encoder.encode([read.normal.text for read in reads])
        logits = [
            self.model.logits(intent_columns(read.keys, ()), vector)
            for read, vector in zip(reads, vectors, strict=True)
        ]
        return [self.classes[int(row.argmax())] for row in logits]


def fit_classifier(
    texts: Sequence[str],
    labels: Sequence[str],
    encoder: TextEncoder,
    vocabulary: Sequence[str] = (),
) -> Classifier:
    """Learn from texts alone, without slots: how public sets judge the same training."""
    reader = Reader(vocabulary)
    reads = [reader.read(text) for text in texts]
    classes = tuple(sorted(set(labels)))
    model = fit_intents(reads, [()] * len(reads), labels, classes, encoder)
    return Classifier(classes, model, reader, encoder)


def fit_intents(
    reads: Sequence[Read],
    spans: Sequence[Spans],
    labels: Sequence[str],
    classes: Sequence[str],
    encoder: TextEncoder,
    weights: NDArray[np.float64] | None = None,
) -> LinearModel:
    """The model of texts' classes; `spans` are the tokens that are slots, `weights` by text."""
    columns = [intent_columns(read.keys, slots) for read, slots in zip(reads, spans, strict=True)]
    vectors = encoder.encode([read.normal.text for read in reads])
    numbers = np.array([classes.index(label) for label in labels])
    return fit_linear(columns, numbers, len(classes), FITTING, vectors, weights)
