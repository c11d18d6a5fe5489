"""Learn what shoppers say after what: from scripted conversations, what each intent gains.

The intents of two turns in a row, and whether products were shown before, are counted, and what
comes out is the log of how much likelier a turn's past is with an intent than without. It knows
no text.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.language.labels import Intent
from feature_store.language.names import habit_of
from offline.chat.scripts import Line, Script, read_scripts
from offline.chat.texts import JUDGING, TEXTS, Utterance
from online.chat.turn import Kind

Past = tuple[Intent | None, bool]

INTENTS: Final = tuple(Intent)
_SMOOTHING: Final = 2.0
"""Turns that are spread over what is possible, beside those that were counted for an intent."""
_WEIGHT: Final = 0.4
"""How far habits are trusted: both counts say much of the same."""


def own_scripts(texts: Path = TEXTS) -> list[Script]:
    """The repository's conversations that habits are learned from."""
    paths = sorted((texts / "conversations").glob("*.yaml"))
    return [
        script
        for path in paths
        if not path.stem.startswith(JUDGING)
        for script in read_scripts(path)
    ]


def spoken(scripts: Sequence[Script]) -> list[Utterance]:
    """What the shoppers of the conversations say, without slots, which nobody marked."""
    return [
        Utterance(script.language, Intent(line.intents[0]), line.shopper)
        for script in scripts
        for line in script.lines
    ]


def learn_habits(scripts: Sequence[Script]) -> NDArray[np.float32]:
    """What each intent gains in each situation, rows as in `habit_of`; zeros for no scripts."""
    steps = [step for script in scripts for step in _steps(script.lines)]
    before = _gains([(_place(past), intent) for past, intent in steps], 1 + len(INTENTS))
    shown = _gains([(int(past[1]), intent) for past, intent in steps], 2)
    table = np.zeros((2 * (1 + len(INTENTS)), len(INTENTS)), np.float32)
    for intent in (None, *INTENTS):
        for shows in (False, True):
            past = (intent, shows)
            table[habit_of(intent, shows=shows)] = _WEIGHT * (
                before[_place(past)] + shown[int(shows)]
            )
    return table


def _steps(lines: Sequence[Line]) -> Iterator[tuple[Past, Intent]]:
    """Each turn's past, and its first intent."""
    past: Past = (None, False)
    for line in lines:
        intent = Intent(line.intents[0])
        yield past, intent
        past = (intent, past[1] or Kind.CARDS.value in line.replies)


def _place(past: Past) -> int:
    return habit_of(past[0], shows=False) // 2


def _gains(steps: Sequence[tuple[int, Intent]], num_places: int) -> NDArray[np.float64]:
    """Log P(place | intent) - log P(place), shape (places, intents), smoothed towards 0."""
    counts = np.zeros((num_places, len(INTENTS)))
    for place, intent in steps:
        counts[place, INTENTS.index(intent)] += 1
    share = (counts.sum(1, keepdims=True) + 1) / (counts.sum() + num_places)
    likely = (counts + _SMOOTHING * share) / (counts.sum(0) + _SMOOTHING)
    gains: NDArray[np.float64] = np.log(likely / share)
    return gains
