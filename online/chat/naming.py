"""Slots set right by names: a name of the shop that is longer than a slot, or that no slot has.

What was learned of slots sees words in sentences, the gazetteer sees names; where the first stops
inside a name, or finds no kind of product at all, the second is heard. Only names are heard that
are trusted: that training texts mark more often than not. It knows no meaning.
"""

from collections.abc import Collection, Sequence
from typing import Final

import rjieba

from feature_store.language.gazetteer import Match
from feature_store.language.labels import SlotKind
from feature_store.language.normal import is_han

Span = tuple[int, int, SlotKind]

_GOODS: Final = frozenset({SlotKind.CATEGORY, SlotKind.TAG})


def with_names(
    spans: Sequence[Span], matches: Sequence[Match], keys: Sequence[str], trusted: Collection[int]
) -> list[Span]:
    """The spans of tokens, ascending; `matches` are those of the gazetteer, longer ones first."""
    kinds = [
        match
        for match in matches
        if match.exact and match.kind is SlotKind.CATEGORY and match.payload in trusted
    ]
    found = list(spans)
    for match in kinds:
        found = _widened(found, match)
    found += _heads(found, kinds, keys)
    if not any(kind is SlotKind.CATEGORY for _, _, kind in found):
        free = next((match for match in kinds if _is_free(match, found, keys)), None)
        if free is not None:
            found.append((free.start, free.end, SlotKind.CATEGORY))
    return _with_modifiers(sorted(found))


def _widened(spans: list[Span], match: Match) -> list[Span]:
    """A name in place of the spans inside it, where one of them is shorter than the name."""
    inside = [span for span in spans if span[0] >= match.start and span[1] <= match.end]
    touched = [span for span in spans if span[0] < match.end and span[1] > match.start]
    is_longer = any(span[1] - span[0] < match.end - match.start for span in inside)
    if not is_longer or len(touched) > len(inside):
        return spans
    if any(kind not in _GOODS for _, _, kind in inside):
        return spans
    others = [span for span in spans if span not in inside]
    return [*others, (match.start, match.end, SlotKind.CATEGORY)]


def _heads(spans: Sequence[Span], kinds: Sequence[Match], keys: Sequence[str]) -> list[Span]:
    """In Chinese the kind that follows a kind or a property at once: that is what is meant."""
    ends = {end for _, end, kind in spans if kind in _GOODS}
    ends |= {match.end for match in kinds if _is_free(match, spans, keys)}
    free = [match for match in kinds if match.start in ends and _is_free(match, spans, keys)]
    return [
        (match.start, match.end, SlotKind.CATEGORY)
        for match in free[:1]
        if is_han(keys[match.start])
    ]


def _is_free(match: Match, spans: Sequence[Span], keys: Sequence[str]) -> bool:
    """Whether no span has these tokens; one Chinese character must be a word of its own."""
    if any(start < match.end and end > match.start for start, end, _ in spans):
        return False
    if match.end - match.start > 1 or not is_han(keys[match.start]):
        return True
    return keys[match.start] in rjieba.cut("".join(keys))


def _with_modifiers(spans: Sequence[Span]) -> list[Span]:
    """Of two kinds side by side in Chinese the first says what the second is like."""
    found = list(spans)
    for place in range(len(found) - 1):
        start, end, kind = found[place]
        if kind is SlotKind.CATEGORY and found[place + 1][::2] == (end, SlotKind.CATEGORY):
            found[place] = (start, end, SlotKind.TAG)
    return found
