"""What models are given of a text: the columns for its intent, and those for its feeling.

Training and serving call these, so that both see the same. Knows no model.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import rjieba
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from feature_store.language.grams import Hashes, character_grams, word_grams
from feature_store.language.labels import SlotKind
from feature_store.language.normal import MAX_CHARACTERS, is_han
from feature_store.language.reading import Read

Spans = Sequence[tuple[int, int, SlotKind]]

_VALENCE_STEPS: Final = 4
"""How finely VADER's valence from -1 to 1 becomes columns."""


def intent_columns(keys: Sequence[str], spans: Spans) -> Hashes:
    """The columns of a text's intent, ascending; `keys` are those of its tokens, `spans` its slots.

    n-grams of characters, of words, and of words with each slot as the name of its kind.
    """
    text = " ".join(keys)
    parts = (
        *character_grams(text, 2, 5),
        *word_grams(keys, 1, 2),
        *word_grams(_with_kinds(keys, spans), 1, 3),
    )
    return np.unique(np.concatenate(parts))


def feeling_columns(text: str, read: Read) -> Hashes:
    """The columns of a text's feeling, ascending: `text` as it was written, and as it was read.

    n-grams of words, in Chinese cut by a dictionary and of characters too; the valence of the
    English words after VADER (Hutto and Gilbert 2014); and how loud the text is.
    """
    plain = read.normal.text
    chinese = is_han(plain)
    words = rjieba.cut(plain) if chinese else read.keys
    parts = (
        *(character_grams(plain, 1, 4) if chinese else ()),
        *word_grams(words, 1, 2),
        *word_grams([*_valence(text[:MAX_CHARACTERS]), *_loudness(text[:MAX_CHARACTERS])], 1, 1),
    )
    return np.unique(np.concatenate(parts))


def feeling_words() -> frozenset[str]:
    """The English words that VADER knows the valence of."""
    return frozenset(_vader().lexicon)


def _with_kinds(keys: Sequence[str], spans: Spans) -> list[str]:
    words: list[str] = []
    end = 0
    for start, stop, kind in sorted(spans):
        words += (*keys[end:start], f"<{kind}>")
        end = stop
    return [*words, *keys[end:]]


def _valence(text: str) -> list[str]:
    """Steps of the valence as words, each with those before it, so that more is more."""
    if is_han(text):
        return []
    valence = _vader().polarity_scores(text)["compound"]
    side = "good" if valence > 0 else "bad"
    return [f"<{side} {step}>" for step in range(1, round(abs(valence) * _VALENCE_STEPS) + 1)]


def _loudness(text: str) -> list[str]:
    """Words in capitals, and signs of exclamation, as words."""
    shouted = sum(len(word) > 2 and word.isupper() for word in text.split())
    called = text.count("!") + text.count("！")
    return [f"<caps {n}>" for n in range(1, min(shouted, 3) + 1)] + [
        f"<calls {n}>" for n in range(1, min(called, 4) + 1)
    ]


@cache
def _vader() -> Any:
    return SentimentIntensityAnalyzer()
