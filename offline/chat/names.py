"""The names that shoppers use for what a shop sells: from its catalogue, and from the lexicon.

A generic shop is known by its own categories, brands and tags. The words that people use instead of
them, in both languages, come from the tables in `offline/texts` and hold wherever a shop has such a
category. It knows no model.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from feature_store.language.encoder import TextEncoder
from feature_store.language.labels import SlotKind
from feature_store.language.names import Name
from feature_store.language.normal import is_han, normal_text
from feature_store.language.words import singular, words_of
from feature_store.schema import CATEGORY_SEPARATOR
from offline.chat.beginnings import Beginnings
from offline.chat.grounding import Footing, Ground, Grounder, Row
from offline.chat.texts import TEXTS, Entry

_TYPE: Final = "TYPE"
"""In a table of names, the mark of a row about the last level of a path wherever it lies."""
_MORE: Final = "more"
"""In the name of a table, the mark of one with further and rarer names."""

_ARTICLE: Final = re.compile("^(?:the|a|an|some|my|just) ")
_MAX_PATHS: Final = 8
_MAX_WORDS: Final = 5
_MIN_PROPERTY: Final = 4
_LESS_ALIKE: Final = 0.1
"""What is so much less alike to a name than another thing is not meant by it."""

_KEPT: Final = frozenset({Footing.TYPE, Footing.WHOLE})
_CUT: Final = re.compile(r"[/,&:()\-]+")


@dataclass(frozen=True, slots=True)
class Shelves:
    """What a shop sells, as its columns spell it; `paths` with the number of items of each.

    `titles` are some titles of each path, without sizes.
    """

    paths: dict[str, int]
    brands: Sequence[str]
    tags: Sequence[str]
    titles: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Alias:
    """A row of a table: a department and category, or a type; and what shoppers call it."""

    where: tuple[str, str]
    names: tuple[str, ...]


def names_of(shelves: Shelves, entries: Sequence[Entry], encoder: TextEncoder) -> list[Name]:
    """All names, those that say most about this shop first."""
    aliases = [alias for table in _tables() for alias in _read_aliases(table)]
    english = _english_of(aliases)
    index = _PathIndex(shelves)
    found: dict[tuple[SlotKind, str], Name] = {}
    for name in (
        *_aliased(aliases, index, Grounder(_texts_of(shelves), encoder)),
        *_own_categories(index),
        *_own_brands(shelves),
        *_own_tags(shelves),
        *_from_lexicon(entries, english, index, shelves),
    ):
        found.setdefault((name.kind, name.text), name)
    return list(found.values())


def properties_of(shelves: Shelves) -> list[str]:
    """The words that last levels and titles are described with."""
    texts = _texts_of(shelves).values()
    words = {word for said in texts for text in said for word in words_of(text)}
    return sorted(word for word in words if len(word) >= _MIN_PROPERTY and word.isalpha())


def listed_names() -> frozenset[str]:
    """What the tables say that shoppers call kinds of product."""
    return _names_in(_tables())


def rare_names() -> frozenset[str]:
    """What only the further tables say: brands, dishes, words of a region."""
    common = [path for path in _tables() if _MORE not in path.stem]
    return listed_names() - _names_in(common)


def _names_in(tables: Iterable[Path]) -> frozenset[str]:
    aliases = (alias for table in tables for alias in _read_aliases(table))
    return frozenset(name for alias in aliases for name in alias.names)


def _tables() -> list[Path]:
    return sorted(TEXTS.glob("catalogue_*.tsv"))


def _read_aliases(path: Path) -> list[_Alias]:
    rows = [line.split("\t") for line in path.read_text().splitlines() if line.count("\t") == 2]
    return [
        _Alias(
            (department, category),
            tuple(_ARTICLE.sub("", name, 1) for name in map(normal_text, names.split("|")) if name),
        )
        for department, category, names in rows
    ]


def _english_of(aliases: Sequence[_Alias]) -> dict[str, tuple[str, ...]]:
    """For each Chinese name the English names of the same rows: what a title may say."""
    by_row: dict[tuple[str, str], list[str]] = defaultdict(list)
    for alias in aliases:
        by_row[alias.where] += [name for name in alias.names if not is_han(name)]
    words: dict[str, dict[str, None]] = defaultdict(dict)
    for alias in _narrowest(aliases):
        own = _plain(alias.where[1])
        for name in filter(is_han, alias.names):
            words[name].update(dict.fromkeys((own, *by_row[alias.where])))
    return {name: tuple(found)[:_MAX_WORDS] for name, found in words.items()}


def _narrowest(aliases: Sequence[_Alias]) -> list[_Alias]:
    """The rows, those of types first; what a type is called is not taken from whole categories."""
    types = [alias for alias in aliases if alias.where[0] == _TYPE]
    known = {name for alias in types for name in alias.names}
    others = [
        _Alias(alias.where, tuple(name for name in alias.names if name not in known))
        for alias in aliases
        if alias.where[0] != _TYPE
    ]
    return [*types, *others]


class _PathIndex:
    """The paths of a shop by their levels and by their words, the largest shelf first."""

    def __init__(self, shelves: Shelves) -> None:
        self.paths = sorted(shelves.paths, key=lambda path: (-shelves.paths[path], path))
        self._by_category: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._by_type: dict[str, list[str]] = defaultdict(list)
        self._by_word: dict[str, dict[str, None]] = defaultdict(dict)
        for path in self.paths:
            levels = path.split(CATEGORY_SEPARATOR)
            if len(levels) > 1:
                self._by_category[levels[0], levels[1]].append(path)
            self._by_type[levels[-1]].append(path)
            for word in set(words_of(levels[-1])):
                self._by_word[word][path] = None

    def at(self, where: tuple[str, str]) -> list[str]:
        """The paths of a row of a table: the category's own, or those of types that begin so."""
        department, name = where
        if department != _TYPE:
            below = self._by_category.get((department, name), [])
            return [CATEGORY_SEPARATOR.join((department, name))] if below else []
        return self._by_type.get(name) or self.saying(name)

    def row(self, where: tuple[str, str]) -> Row:
        """A row of a table; it has no shelves where the shop has nothing of it."""
        here = self.at(where)
        if where[0] == _TYPE:
            return Row(_plain(where[1]), "", tuple(here), ())
        shelves = (path for path in self._by_category.get(where, ()))
        return Row(_plain(where[1]), here[0] if here else "", tuple(shelves), ())

    def saying(self, text: str) -> list[str]:
        """The paths whose last level has all words of a text."""
        sets = [self._by_word.get(word, {}) for word in words_of(text)]
        if not sets:
            return []
        return [path for path in sets[0] if all(path in one for one in sets)][:_MAX_PATHS]


def _texts_of(shelves: Shelves) -> dict[str, list[str]]:
    """What each shelf is called: by its last level, then by titles."""
    return {
        path: [
            _plain(path.split(CATEGORY_SEPARATOR)[-1]),
            *map(_plain, shelves.titles.get(path, ())),
        ]
        for path in shelves.paths
    }


def _aliased(aliases: Sequence[_Alias], index: _PathIndex, grounder: Grounder) -> Iterable[Name]:
    """What shoppers call kinds, each with the shelves that all rows which have it stand for."""
    rows = {alias.where: index.row(alias.where) for alias in aliases}
    names: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for alias in aliases:
        names[alias.where] |= dict.fromkeys(filter(None, alias.names))
    rows = {
        where: replace(row, english=tuple(name for name in names[where] if not is_han(name)))
        for where, row in rows.items()
    }
    known = [where for where, row in rows.items() if row.shelves]
    grounder.prepare(
        (name for where in known for name in names[where]), (rows[where] for where in known)
    )
    grounds: dict[str, list[Ground]] = defaultdict(list)
    nodes_of: dict[str, list[str]] = defaultdict(list)
    for where, own in names.items():
        for name in own:
            found = [grounder.ground(name, rows[where])] if rows[where].shelves else []
            grounds[name] += found
            nodes_of[name] += [rows[where].node] if rows[where].node else []
    for name, found in grounds.items():
        surest = _surest(found)
        words = dict.fromkeys(word for one in surest for word in one.words)
        meant = dict.fromkeys(path for one in surest for path in one.paths)
        nodes = dict.fromkeys(nodes_of[name]) if surest and surest[0].likeness else {}
        paths = [*tuple(meant)[: _MAX_PATHS - 2], *(node for node in nodes if node not in meant)]
        said = () if is_han(name) else (_singular(name),)
        yield Name(SlotKind.CATEGORY, name, tuple(words) or said, tuple(paths)[:_MAX_PATHS])


def _surest(grounds: Sequence[Ground]) -> list[Ground]:
    """What is most likely meant of all that a name may stand for, the surest first."""
    best = min((one.footing for one in grounds), default=Footing.WHOLE)
    likeness = max((one.likeness for one in grounds), default=0.0)
    kept = [
        one
        for one in grounds
        if (best is not Footing.TYPE or one.footing <= Footing.SAID)
        and (one.footing is not Footing.WHOLE or best is Footing.WHOLE)
        and (one.footing in _KEPT or one.likeness >= likeness - _LESS_ALIKE)
    ]
    return sorted(kept or grounds, key=lambda one: one.footing)


def _own_categories(index: _PathIndex) -> Iterable[Name]:
    """Each level of each path by its own words, in whole and between its signs."""
    for path in index.paths:
        levels = path.split(CATEGORY_SEPARATOR)
        for depth, level in enumerate(levels, 1):
            node = CATEGORY_SEPARATOR.join(levels[:depth])
            for part in {level, *_CUT.split(level)}:
                text = _plain(part)
                if len(text) > 2:
                    yield Name(SlotKind.CATEGORY, text, (_singular(text),), (node,))


def _own_brands(shelves: Shelves) -> Iterable[Name]:
    for brand in shelves.brands:
        if brand:
            yield Name(SlotKind.BRAND, normal_text(brand), (brand.lower(),), brands=(brand,))


def _own_tags(shelves: Shelves) -> Iterable[Name]:
    for tag in shelves.tags:
        if tag and not any(character.isdigit() for character in tag):
            yield Name(SlotKind.TAG, normal_text(tag), (tag.lower(),), tags=(tag,))


def _from_lexicon(
    entries: Sequence[Entry],
    english: dict[str, tuple[str, ...]],
    index: _PathIndex,
    shelves: Shelves,
) -> Iterable[Name]:
    brand_words, tag_words = Beginnings(shelves.brands), Beginnings(shelves.tags)
    for entry in entries:
        forms = [normal_text(form) for language in entry.forms.values() for form in language]
        for form in forms:
            words = _words_for(entry, form, english)
            brands = brand_words.of(words) if entry.kind is SlotKind.BRAND else ()
            tags = tag_words.of(words) if entry.kind is SlotKind.TAG else ()
            paths = index.saying(words[0]) if entry.kind in _SOLD and words else []
            yield Name(entry.kind, form, words, tuple(paths), brands, tags)


_SOLD: Final = frozenset({SlotKind.CATEGORY, SlotKind.WITHOUT})


def _words_for(entry: Entry, form: str, english: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The catalogue's words for a form: its own in English, else those that it translates to."""
    if entry.kind in {SlotKind.TAG, SlotKind.OCCASION, SlotKind.FOR_WHOM}:
        return (entry.name,)
    if entry.kind is SlotKind.BRAND and entry.name == "private label":
        return (entry.name,)
    if not is_han(form):
        return (_singular(form),)
    parts = [form[start:] for start in range(len(form) - 1)] + [form[:2]]
    known = next((english[part] for part in parts if part in english), None)
    return known or ((entry.name,) if entry.kind is SlotKind.CATEGORY else (form,))


def _plain(text: str) -> str:
    return " ".join(_CUT.sub(" ", normal_text(text)).split())


def _singular(text: str) -> str:
    return " ".join(singular(word) for word in text.split())
