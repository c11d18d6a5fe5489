"""Learn to understand: names, spelling, slots, intents and feelings, as one section of a bundle.

Straight down: texts, then each model on what the one before it says. It is the same for every
shop but for the names, which come from the shop's catalogue.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.language.encoder import TextEncoder, Vectors
from feature_store.language.gazetteer import Gazetteer
from feature_store.language.labels import Intent, SlotKind
from feature_store.language.linear import LinearModel
from feature_store.language.names import (
    CHAT,
    HABITS,
    NAMES,
    NEAREST,
    NEAREST_PROPERTIES,
    SETTINGS,
    Name,
)
from feature_store.language.nearest import Nearest
from feature_store.language.normal import normal_text, tokens_of
from feature_store.language.reading import Read, Reader
from feature_store.language.tagging import Tagger, features_of, spans_of
from feature_store.language.views import Spans, feeling_words
from offline.chat.feelings import Sentiment, draw_sentiments, fit_feelings, told
from offline.chat.habits import learn_habits, spoken
from offline.chat.intents import fit_intents
from offline.chat.names import Shelves, names_of, properties_of, rare_names
from offline.chat.phrasings import draw_utterances
from offline.chat.scripts import Script
from offline.chat.slots import example_of, fit_tagger, token_spans
from offline.chat.texts import Utterance, read_lexicon
from offline.chat.trust import trusted_names

INTENTS: Final = tuple(Intent)

NUM_DRAWN: Final = 2
"""Utterances drawn from each phrasing."""
_WRITTEN_WEIGHT: Final = 3.0
"""What an utterance that somebody wrote counts beside one that was drawn."""


@dataclass(frozen=True, slots=True)
class Learned:
    """All that understanding consists of."""

    names: list[Name]
    vocabulary: list[str]
    other_words: list[str]
    tagger: Tagger
    intents: LinearModel
    feelings: LinearModel
    strong: LinearModel
    habits: NDArray[np.float32]
    trusted: list[int]
    nearest: Nearest
    properties: list[str]
    nearest_properties: Nearest

    def write(self, writer: BundleWriter, encoder: TextEncoder) -> None:
        """Write the section that `online.chat.learned` opens."""
        writer.json(NAMES, [name.row() for name in self.names])
        writer.array(HABITS, self.habits)
        writer.json(
            SETTINGS,
            {
                "vocabulary": self.vocabulary,
                "other_words": self.other_words,
                "space": encoder.space,
                "trusted": self.trusted,
                "properties": self.properties,
            },
        )
        for part in ("hashes", "weights", "pairs"):
            writer.array(f"{CHAT}/tagger/{part}", getattr(self.tagger, part))
        self.nearest.write(writer, NEAREST)
        self.nearest_properties.write(writer, NEAREST_PROPERTIES)
        for name in ("intents", "feelings", "strong"):
            getattr(self, name).write(writer, f"{CHAT}/{name}")


def learn(
    written: Sequence[Utterance],
    sentiments: Sequence[Sentiment],
    scripts: Sequence[Script],
    shelves: Shelves,
    encoder: TextEncoder,
    seed: int,
    num_drawn: int = NUM_DRAWN,
) -> Learned:
    """Learn from what was written by hand, and from the repository's phrasings and lexicon.

    `scripts` say what follows what in a conversation, and teach intents too.
    `num_drawn` utterances are drawn from each phrasing; slots learn twice from what was written.
    """
    encoder = _Remembering(encoder)
    entries = read_lexicon()
    drawn = draw_utterances(entries, num_drawn, seed)
    names = names_of(shelves, entries, encoder)
    vocabulary, other_words = words_known(written, names)
    reader, gazetteer = Reader(vocabulary, others=other_words), gazetteer_of(names)

    for_slots = [*drawn, *written, *written]
    examples = [found for one in for_slots if (found := example_of(one, reader, gazetteer))]
    tagger = fit_tagger(examples, seed)

    said = spoken(scripts)
    utterances = [*drawn, *written, *said]
    reads = [reader.read(one.text) for one in utterances]
    num_marked = len(drawn) + len(written)
    spans: list[Spans] = [
        token_spans(one, read.normal, read.tokens)
        for one, read in zip(utterances[:num_marked], reads, strict=False)
    ]
    spans += [_tagged(read, tagger, gazetteer) for read in reads[num_marked:]]
    weights = np.repeat([1.0, _WRITTEN_WEIGHT], [len(drawn), len(written) + len(said)])
    intents = fit_intents(
        reads, spans, [one.intent for one in utterances], INTENTS, encoder, weights
    )
    feelings, strong = fit_feelings(
        [*sentiments, *draw_sentiments(entries, num_drawn, seed), *told(written)], reader, encoder
    )
    habits = learn_habits(scripts)
    trusted = trusted_names(written, names, reader, gazetteer)
    properties = properties_of(shelves)
    return Learned(
        names,
        vocabulary,
        other_words,
        tagger,
        intents,
        feelings,
        strong,
        habits,
        trusted,
        _nearest(names, encoder),
        properties,
        Nearest.of(encoder.encode(properties), np.arange(len(properties), dtype=np.int32)),
    )


def _nearest(names: Sequence[Name], encoder: TextEncoder) -> Nearest:
    """The names of kinds that the shop has, by what they mean."""
    known = [n for n, one in enumerate(names) if one.kind is SlotKind.CATEGORY and one.paths]
    vectors = encoder.encode([names[number].text for number in known])
    return Nearest.of(vectors, np.array(known, np.int32))


def _tagged(read: Read, tagger: Tagger, gazetteer: Gazetteer) -> Spans:
    """The slots of a text that nobody marked, as the tagger sees them."""
    matches = gazetteer.matches(read.keys)
    return spans_of(tagger.tag(features_of(read.words, read.keys, matches)))


class _Remembering:
    """An encoder that encodes each text once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.space, self.dimension = encoder.space, encoder.dimension
        self._encoder = encoder
        self._known: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder`."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def gazetteer_of(names: Sequence[Name]) -> Gazetteer:
    """The names to look for in a text; what a match carries is the number of the name."""
    return Gazetteer((name.kind, name.text, number) for number, name in enumerate(names))


def words_known(written: Sequence[Utterance], names: Sequence[Name]) -> tuple[list[str], list[str]]:
    """The words that spelling may be set right to, and other words that are right.

    The first are those written twice, then those of the shop and of common names; a rare name is
    right where it is said, but a slip of something else is seldom one.
    """
    counts = Counter(word for one in written for word in _words(one.text))
    often = [word for word, count in counts.most_common() if count > 1]
    rare = rare_names()
    marked = {
        is_rare: {
            word
            for name in names
            if name.words and (name.text in rare) is is_rare
            for word in _words(name.text)
        }
        for is_rare in (False, True)
    }
    common = list(dict.fromkeys((*often, *sorted(marked[False]))))
    others = marked[True] | {word for word in feeling_words() if word.isalpha()}
    return common, sorted(others - set(common))


def _words(text: str) -> list[str]:
    words = (token.text for token in tokens_of(normal_text(text)))
    return [word for word in words if word.isascii() and word.isalpha()]
