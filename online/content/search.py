"""A question in, the pieces that answer it out, or nothing when nothing fits.

Words, n-grams and vectors are compared as `feature_store.content.questions` has it. Without the
encoder, or in a bundle of another space, words and n-grams alone decide, and the caller is told. It
knows nothing of who asks.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_store.bundle import Bundle
from feature_store.content.columns import SETTINGS_FILE
from feature_store.content.questions import Answering, Questions, open_questions
from feature_store.errors import EncoderError
from feature_store.language.cutting import is_chinese
from feature_store.language.encoder import TextEncoder
from feature_store.language.postings import Weights
from online.content.library import Library
from online.types import Card, Cause, Degraded

logger = logging.getLogger(__name__)

ENCODER_STAGE: Final = "encoder"
CHINESE: Final = "zh"
ENGLISH: Final = "en"


@dataclass(frozen=True, slots=True)
class Match:
    """A piece that answers: the passage, and the probability that it answers."""

    item: str
    passage: str
    confidence: float
    card: Card


@dataclass(frozen=True, slots=True)
class Answer:
    """The matches, best first, and what was left out of finding them."""

    matches: tuple[Match, ...]
    degraded: tuple[Degraded, ...] = ()


@dataclass(frozen=True, slots=True)
class ContentSearch:
    """Search in the content of one bundle."""

    library: Library
    questions: Questions
    answering: Answering
    encoder: TextEncoder
    space: str

    def search(
        self, question: str, time: int, num: int, kinds: Sequence[str], languages: Sequence[str]
    ) -> Answer:
        """At most `num` matches among what is shown at `time` and of these kinds, empty for all.

        Texts are in the first of `languages` that there is; without any, in that of the question.
        """
        vector = self._vector(question)
        degraded = () if vector is not None else (Degraded(ENCODER_STAGE, Cause.UNAVAILABLE),)
        pieces = np.flatnonzero(self.library.shown_at(time, kinds))
        if not len(pieces):
            return Answer((), degraded)
        compared = self.questions.compare(question, vector).of(pieces)
        scores = self.answering.scores(compared.features)
        order = np.argsort(-scores, kind="stable")[:num]
        wanted = languages or (CHINESE if is_chinese(question) else ENGLISH,)
        likeness = None if vector is None else self.questions.unit_likeness(vector)
        matches = []
        confidence = self.answering.confidence(compared, scores)
        if confidence < self.answering.threshold:
            return Answer((), degraded)
        best = float(scores[order[0]])
        for place in order.tolist():
            fading = float(np.exp(float(scores[place]) - best))
            matches.append(self._match(int(pieces[place]), confidence * fading, likeness, wanted))
        return Answer(tuple(matches), degraded)

    def _vector(self, question: str) -> Weights | None:
        if self.space != self.encoder.space:
            return None
        try:
            vector: Weights = self.encoder.encode([question])[0]
        except EncoderError as error:
            logger.error("questions are answered by words only: %s", error)
            return None
        return vector

    def _match(
        self, piece: int, confidence: float, likeness: Weights | None, languages: Sequence[str]
    ) -> Match:
        version = self.library.version(piece, languages)
        return Match(
            item=self.library.columns.id[piece],
            passage=self._passage(piece, version, likeness),
            confidence=confidence,
            card=self.library.card(piece, version),
        )

    def _passage(self, piece: int, version: int, likeness: Weights | None) -> str:
        """The paragraph of a version that is nearest to the question; the first without vectors."""
        columns = self.library.columns
        body = columns.body[version]
        units = np.flatnonzero((columns.unit_version == version) & (columns.unit_begin >= 0))
        if not len(units):
            return body
        place = 0 if likeness is None else int(likeness[units].argmax())
        unit = units[place]
        return body[columns.unit_begin[unit] : columns.unit_end[unit]].strip()


def open_search(bundle: Bundle, library: Library, encoder: TextEncoder) -> ContentSearch:
    """Search in a bundle that has content."""
    settings = bundle.json(SETTINGS_FILE)
    return ContentSearch(
        library=library,
        questions=open_questions(bundle),
        answering=Answering.read(settings["answering"]),
        encoder=encoder,
        space=settings["space"],
    )
