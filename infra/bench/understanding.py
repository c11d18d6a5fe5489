"""Figures of understanding: of the training on public sets, and of a model on judging sets.

Reads Parquet files that are given to it; learns with the code that ships.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
import polars as pl

from feature_store.language.encoder import embedded_encoder
from feature_store.language.reading import Reader
from feature_store.language.views import feeling_columns
from offline.chat.feelings import Sentiment, fit_reviews
from offline.chat.intents import fit_classifier
from offline.chat.texts import Utterance
from online.chat.learned import Understanding

NUM_SHOTS: Final = 10
NUM_SEEDS: Final = 5
SHARE_TO_JUDGE: Final = 0.1
MAX_REVIEW: Final = 2_000
"""How many characters of a review are read."""


@dataclass(frozen=True, slots=True)
class IntentScore:
    """How well one intent is found: all figures from 0 to 1."""

    intent: str
    precision: float
    recall: float
    f1: float
    num_utterances: int

    def columns(self) -> dict[str, Any]:
        """The figures by name, rounded."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def whole_accuracy(data: Path) -> float:
    """The share of `intents_en_dev` that is right after training on all of `intents_en_train`."""
    texts, labels = _intents(data / "intents_en_train.parquet")
    return _accuracy(data, texts, labels)


def ten_shot_accuracy(data: Path) -> float:
    """The same after training on ten drawn examples an intent: the mean of several draws."""
    texts, labels = _intents(data / "intents_en_train.parquet")
    classes = np.array(labels)
    accuracies = []
    for seed in range(NUM_SEEDS):
        rng = np.random.default_rng(seed)
        drawn = [
            int(one)
            for name in np.unique(classes)
            for one in rng.permutation(np.flatnonzero(classes == name))[:NUM_SHOTS]
        ]
        shots = [texts[one] for one in drawn], [labels[one] for one in drawn]
        accuracies.append(_accuracy(data, *shots))
    return round(float(np.mean(accuracies)), 4)


def _accuracy(data: Path, texts: Sequence[str], labels: Sequence[str]) -> float:
    classifier = fit_classifier(texts, labels, embedded_encoder())
    judged, right = _intents(data / "intents_en_dev.parquet")
    found = classifier.predict(judged)
    hits = sum(one == other for one, other in zip(found, right, strict=True))
    return round(hits / len(right), 4)


def _intents(path: Path) -> tuple[list[str], list[str]]:
    frame = pl.read_parquet(path)
    return frame["utterance"].to_list(), frame["intent"].to_list()


def review_accuracy(data: Path) -> tuple[float, float]:
    """Accuracy on the last tenth of `reviews_zh_train` in file order, and milliseconds a review."""
    frame = pl.read_parquet(data / "reviews_zh_train.parquet")
    texts, positive = frame["review"].to_list(), frame["positive"].to_list()
    cut = round(len(texts) * (1.0 - SHARE_TO_JUDGE))
    reader = Reader((), MAX_REVIEW)
    model = fit_reviews(texts[:cut], positive[:cut], reader)
    started = process_time()
    found = [
        int(model.logits(feeling_columns(text, reader.read(text))).argmax()) for text in texts[cut:]
    ]
    ms = 1000 * (process_time() - started) / len(found)
    hits = sum(one == other for one, other in zip(found, positive[cut:], strict=True))
    return round(hits / len(found), 4), round(ms, 3)


def intent_scores(understanding: Understanding, judged: Sequence[Utterance]) -> list[IntentScore]:
    """Precision, recall and F1 of each intent that occurs."""
    right = [one.intent.value for one in judged]
    found = [understanding.understand(one.text, one.language).intent.value for one in judged]
    scores = []
    for intent in sorted(set(right)):
        both = sum(a == b == intent for a, b in zip(right, found, strict=True))
        precision = both / max(1, found.count(intent))
        recall = both / right.count(intent)
        f1 = 2 * both / (found.count(intent) + right.count(intent))
        scores.append(IntentScore(intent, precision, recall, f1, right.count(intent)))
    return scores


def slot_f1(understanding: Understanding, judged: Sequence[Utterance]) -> float:
    """F1 over slots: right are those of the same kind, from the same to the same character."""
    hits = num_found = num_right = 0
    for one in judged:
        right = {(slot.start, slot.end, slot.kind) for slot in one.slots}
        slots = understanding.understand(one.text, one.language).slots
        found = {(slot.start, slot.end, slot.kind) for slot in slots}
        hits, num_found, num_right = (
            hits + len(right & found),
            num_found + len(found),
            num_right + len(right),
        )
    return round(2 * hits / max(1, num_found + num_right), 4)


def sentiment_accuracy(
    understanding: Understanding, judged: Sequence[Sentiment], language: str
) -> float:
    """The share of a language's texts whose feeling, one of three, is right."""
    texts = [one for one in judged if one.language == language]
    hits = sum(understanding.understand(one.text, language).feeling is one.feeling for one in texts)
    return round(hits / len(texts), 4)


def product_ms() -> float:
    """The median processor time of a fixed product of matrices: how fast the machine is now."""
    rng = np.random.default_rng(0)
    rows, matrix = (rng.random(shape, np.float32) for shape in ((10, 1280), (1280, 512)))
    times = []
    for _ in range(200):
        started = process_time()
        rows @ matrix
        times.append(1000 * (process_time() - started))
    return round(float(np.median(times)), 3)


def latencies_ms(understanding: Understanding, texts: Sequence[str]) -> tuple[float, float]:
    """The median and the 99th percentile of the processor time of one utterance."""
    times = []
    for text in texts:
        started = process_time()
        understanding.understand(text)
        times.append(1000 * (process_time() - started))
    return round(float(np.median(times)), 2), round(float(np.percentile(times, 99)), 2)
