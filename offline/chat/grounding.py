"""Which of a shop's shelves a name means, and by which words of theirs they are found.

A table says what shoppers call a whole category, and `gum` is one of forty words for candy at the
check-out. Of the shelves below a category a name means those that have it in their own words; else
those whose words mean about the same, as the sentence encoder has it; else all of them. It knows
no utterance.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.language.encoder import TextEncoder
from feature_store.language.normal import is_han
from feature_store.language.words import singular, terms_of, terms_of_phrase, words_of

MIN_LIKENESS: Final = 0.5
"""Below this cosine two names of goods in one row of a table seldom mean the same."""

MIN_ALIKE: Final = 0.65
"""The same for a name and a shelf."""

_HEAD: Final = 0.15
"""What a shelf gains that says the last word of a name."""

MARGIN: Final = 0.05
"""What is less alike than the best by no more than this is meant too."""

_FILLING: Final = frozenset({"all", "other", "misc", "miscellaneous", "general", "regular"})
MAX_WORDS: Final = 6
MAX_SAME: Final = 2
MAX_ALIKE: Final = 3


class Footing(IntEnum):
    """How surely a name stands for shelves, the surest first."""

    TYPE = 0
    """A table says so of these very shelves, or the row is called so."""
    SAID = 1
    """The shelves say it in their own words."""
    ALIKE = 2
    WHOLE = 3
    """Nothing is known but the row: all of it is meant."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a name stands for: words that find it on its shelves, and the shelves, best first.

    `likeness` is how much the words mean the same as the name, 1 where they are its own.
    """

    footing: Footing
    words: tuple[str, ...]
    paths: tuple[str, ...]
    likeness: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table of names: what the catalogue calls it, where it is, its English names.

    `node` is the path of the whole row, "" for a row of one type; `shelves` are the paths of the
    last levels in it, the largest first.
    """

    label: str
    node: str
    shelves: tuple[str, ...]
    english: tuple[str, ...]


class Grounder:
    """Finds what names stand for; `texts` are what each shelf is called, its own words first."""

    def __init__(self, texts: Mapping[str, Sequence[str]], encoder: TextEncoder) -> None:
        self._texts, self._encoder = texts, encoder
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self._saying: dict[str, set[str]] = defaultdict(set)
        self._called: dict[str, list[str]] = defaultdict(list)
        for shelf, said in texts.items():
            for term in set().union(*map(terms_of, said)):
                self._saying[term].add(shelf)
            for text in said:
                self._called[_plain_name(text)].append(shelf)

    def prepare(self, names: Iterable[str], rows: Iterable[Row]) -> None:
        """Encode names, and what they will be compared with, at once."""
        every = dict.fromkeys(names)
        for row in rows:
            every |= dict.fromkeys((row.label, *row.english))
            every |= dict.fromkeys(text for shelf in row.shelves for text in self._texts[shelf])
        missing = [text for text in every if text not in self._vectors]
        self._vectors |= dict(zip(missing, self._encoder.encode(missing), strict=True))

    def ground(self, name: str, row: Row) -> Ground:
        """What a name of a row stands for; both were prepared."""
        spoken, same = self._spoken(name, row)
        in_label = any(set(terms_of_phrase(one)) <= terms_of(row.label) for one in spoken[:1])
        whole = (row.node,) if row.node else row.shelves
        alike, most = self._alike(name, spoken, row.shelves)
        is_clear = same < most and len(set(alike.values())) <= MAX_SAME
        in_label = in_label and not (is_han(name) and is_clear)
        if in_label or not row.node:
            said = [shelf for shelf in row.shelves if self._any_said(shelf, spoken)]
            words = spoken if in_label or said else self._harmless(spoken)
            return Ground(Footing.TYPE, _words((*words, row.label)), whole, same)
        if is_han(name) and most > same + MARGIN:
            spoken = ()
        said = [shelf for shelf in row.shelves if self._any_said(shelf, spoken)]
        if said:
            return Ground(Footing.SAID, _words(spoken), tuple(said), same)
        if called := dict.fromkeys(self._called.get(_plain_name(name), ())):
            return Ground(Footing.SAID, _words(spoken), tuple(called))
        words = self._harmless(spoken)
        if not alike:
            words = spoken or (row.label,)
            return Ground(Footing.WHOLE, _words(words), whole, 0.0)
        if len(set(alike.values())) > MAX_ALIKE:  # too much to mean one thing
            return Ground(Footing.ALIKE, _words((row.label,)), whole, most)
        return Ground(Footing.ALIKE, _words((*words, *alike.values())), tuple(alike), most)

    def _any_said(self, shelf: str, words: Sequence[str]) -> bool:
        return any(shelf in self._having(word) for word in words)

    def _having(self, phrase: str) -> set[str]:
        """The shelves that say a phrase, and not that they are without it: non-chocolate."""
        terms = terms_of_phrase(phrase)
        found = [self._saying.get(term, set()) for term in terms]
        if not found:
            return set()
        denied = self._saying.get(f"non {terms[0].split()[0]}", set())
        return set.intersection(*found) - denied

    def _harmless(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words that no shelf says, so that looking for them finds nothing else."""
        return tuple(word for word in words if not self._having(word))

    def _spoken(self, name: str, row: Row) -> tuple[tuple[str, ...], float]:
        """A name in the catalogue's language, and how much that means the same."""
        return self._same(name, (row.label, *row.english)) if is_han(name) else ((name,), 1.0)

    def _same(self, name: str, others: Sequence[str]) -> tuple[tuple[str, ...], float]:
        """The words of another language that mean the same as a name, and how much the first."""
        likeness = self._likeness(name, others)
        best = float(likeness.max())
        if best < MIN_LIKENESS:
            return (), 0.0
        order = np.argsort(-likeness, kind="stable")[:MAX_SAME].tolist()
        return tuple(others[n] for n in order if likeness[n] >= best - MARGIN), best

    def _alike(
        self, name: str, spoken: Sequence[str], shelves: Sequence[str]
    ) -> tuple[dict[str, str], float]:
        """The shelves that mean about the same as a name, most alike first, by which words.

        Those that say the last word of the name go before others: brushes for tooth brush.
        """
        found = {}
        heads = [words_of(word)[-1:] for word in spoken if " " in word]
        for shelf in shelves:
            likeness = self._likeness(name, self._texts[shelf])
            says_head = any(head and shelf in self._having(head[0]) for head in heads)
            best = float(likeness.max()) + _HEAD * says_head
            found[shelf] = best, self._texts[shelf][int(likeness.argmax())]
        most = max((likeness for likeness, _ in found.values()), default=0.0)
        if most < MIN_ALIKE:
            return {}, 0.0
        order = sorted(found, key=lambda shelf: -found[shelf][0])
        return {one: found[one][1] for one in order if found[one][0] >= most - MARGIN}, most

    def _likeness(self, name: str, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vectors[text] for text in texts]) @ self._vectors[name]


def _plain_name(text: str) -> str:
    """The words of a name but for those that say only that it is all of a kind."""
    return " ".join(word for word in words_of(text) if word not in _FILLING)


def _words(words: Iterable[str]) -> tuple[str, ...]:
    distinct = dict.fromkeys(
        " ".join(map(singular, word.lower().split())) for word in words if word
    )
    return tuple(distinct)[:MAX_WORDS]
