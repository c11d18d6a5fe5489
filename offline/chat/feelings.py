"""Learn what texts feel like: one path for reviews of two classes and for our own of three."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from feature_store.language.encoder import TextEncoder
from feature_store.language.labels import Feeling, Intent
from feature_store.language.linear import LinearModel
from feature_store.language.reading import Reader
from feature_store.language.views import feeling_columns
from offline.chat.fitting import Fitting, fit_linear
from offline.chat.phrasings import draw
from offline.chat.texts import JUDGING, TEXTS, Entry, Utterance, unmarked
from offline.errors import TrainingDataError

FITTING: Final = Fitting(inverse_penalty=10.0, vector_weight=2.0, num_steps=120)
REVIEWS: Final = Fitting(inverse_penalty=16.0, contrast=True)
"""Many long texts of two classes, without an encoder: it would take most of the time."""
STRONG: Final = Fitting(inverse_penalty=3.0, vector_weight=3.0)

FEELINGS: Final = tuple(Feeling)

_TOLD: Final = {
    Intent.COMPLAINT: Feeling.NEGATIVE,
    Intent.THANKS: Feeling.POSITIVE,
    **dict.fromkeys(
        (
            Intent.FIND_PRODUCT, Intent.REFINE, Intent.COMPARE, Intent.NEW_ARRIVALS, Intent.GIFT,
            Intent.BEST_SELLERS, Intent.BOUGHT_TOGETHER, Intent.BUY_AGAIN, Intent.DEALS,
            Intent.PRODUCT_QUESTION, Intent.ORDER_DELIVERY, Intent.GREETING,
        ),
        Feeling.NEUTRAL,
    ),
}  # fmt: skip
"""Intents that tell the feeling of most utterances that have them."""
_DRAWN_WEIGHT: Final = 0.3
_TOLD_WEIGHT: Final = 0.2
"""What an utterance counts beside a text whose feeling somebody wrote down."""


@dataclass(frozen=True, slots=True)
class Sentiment:
    """A text with the feeling it carries; `strong`: nobody could miss it."""

    language: str
    text: str
    feeling: Feeling
    strong: bool
    weight: float = 1.0


def own_sentiments(texts: Path = TEXTS) -> list[Sentiment]:
    """All texts of feelings that may be learned from."""
    paths = sorted((texts / "sentiments").glob("*.jsonl"))
    return [one for path in paths if path.stem != JUDGING for one in read_sentiments(path)]


def read_sentiments(path: Path) -> list[Sentiment]:
    """The texts of a file of JSON lines; TrainingDataError names the line that is wrong."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            feeling = Feeling(row["feeling"])
            found.append(Sentiment(row["language"], row["text"], feeling, row["strong"]))
        except (KeyError, ValueError) as error:
            raise TrainingDataError(f"{path}, line {number}: {error}") from error
    return found


def draw_sentiments(entries: Sequence[Entry], num_each: int, seed: int) -> list[Sentiment]:
    """`num_each` texts of each phrasing of a feeling; those under a heading with `!` are strong."""
    return [
        Sentiment(
            language,
            unmarked(text),
            Feeling(heading.rstrip("!")),
            heading.endswith("!"),
            _DRAWN_WEIGHT,
        )
        for language, heading, text in draw(entries, "feelings_{language}.txt", num_each, seed)
    ]


def told(utterances: Sequence[Utterance]) -> list[Sentiment]:
    """The utterances whose intent tells their feeling."""
    return [
        Sentiment(one.language, one.text, _TOLD[one.intent], False, _TOLD_WEIGHT)
        for one in utterances
        if one.intent in _TOLD
    ]


def fit_feelings(
    texts: Sequence[Sentiment], reader: Reader, encoder: TextEncoder
) -> tuple[LinearModel, LinearModel]:
    """The model of the three feelings, and that of whether a feeling is strong."""
    reads = [reader.read(one.text) for one in texts]
    columns = [feeling_columns(one.text, read) for one, read in zip(texts, reads, strict=True)]
    vectors = encoder.encode([read.normal.text for read in reads])
    weights = np.array([one.weight for one in texts])
    feelings = np.array([FEELINGS.index(one.feeling) for one in texts])
    strong = np.array([int(one.strong) for one in texts])
    return (
        fit_linear(columns, feelings, len(FEELINGS), FITTING, vectors, weights),
        fit_linear(columns, strong, 2, STRONG, vectors, weights),
    )


def fit_reviews(texts: Sequence[str], positive: Sequence[int], reader: Reader) -> LinearModel:
    """The model of whether reviews are positive: 0 and 1, without an encoder."""
    columns = [feeling_columns(text, reader.read(text)) for text in texts]
    return fit_linear(columns, np.array(positive), 2, REVIEWS)
